//! TFTP where the network is narrow: one port, small packets, large ones that vanish.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use farrier_e2e::{Host, Lab, Lan, Site, clients, command::run};
use serde_json::json;

struct Run {
    folder: PathBuf,
    lan: Lan,
    site: Site,
    client: Host,
}

const CARD: &str = "52:54:00:77:13:01";
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 10);

fn serving(name: &str, tftp: &str) -> Run {
    let lab = Lab::open().unwrap();
    let folder = lab.scratch(name).unwrap();
    let lan = Lan::new().unwrap();
    let text = format!(
        "{tftp}\n[[interface]]\nname = \"eth0\"\nmode = \"dhcp\"\n[[subnet]]\nnetwork = \"10.77.0.0/24\"\n\
         [[subnet.reservation]]\naddress = \"{ADDRESS}\"\nmac = \"{CARD}\"\n"
    );
    let site = Site::serving(&lab, lan.server().unwrap(), &folder, &text).unwrap();
    let client = lan.host("client", Some(ADDRESS)).unwrap();
    client.ip(["link", "set", "eth0", "address", CARD]).unwrap();
    clients::udhcpc(&client, &folder, &[]).unwrap();
    Run {
        folder,
        lan,
        site,
        client,
    }
}

impl Run {
    fn server(&self) -> Ipv4Addr {
        self.site.host().address().unwrap()
    }

    /// Fetches with curl, and returns whether it got the file, and what it said.
    fn curl(&self, blksize: u16, target: &Path) -> (bool, String) {
        self.curl_for("120", blksize, target)
    }

    /// The same for so many seconds.
    fn curl_for(&self, seconds: &str, blksize: u16, target: &Path) -> (bool, String) {
        let mut curl = self.client.command("curl");
        curl.args(["--verbose", "--max-time", seconds, "--tftp-blksize"])
            .arg(blksize.to_string())
            .arg("--output")
            .arg(target)
            .arg(format!(
                "tftp://{}/{}",
                self.server(),
                self.site.loader().unwrap().0
            ));
        let output = curl.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), said)
    }
}

/// Everything leaves from port 69, and every client takes it.
#[test]
fn single_port_answers_come_from_where_was_asked() {
    let run_ = serving("tftp-single-port", "[tftp]\nsingle_port = true");
    let (name, bytes) = run_.site.loader().unwrap();
    let target = run_.folder.join("fetched");
    let recording = run_.lan.record(&run_.folder.join("lan.pcap")).unwrap();
    let arrived = |client: &str| {
        assert!(fs::read(&target).unwrap() == bytes, "{client}");
        fs::remove_file(&target).unwrap();
    };
    clients::tftp_hpa(&run_.client, run_.server(), &name, &target).unwrap();
    arrived("tftp-hpa");
    for options in [
        &["blksize 1428"][..],
        &["blksize 1468", "windowsize 8"],
        &["blksize 512", "tsize 0", "timeout 2"],
    ] {
        clients::atftp(&run_.client, run_.server(), &name, &target, options).unwrap();
        arrived("atftp");
    }
    let mut busybox = run_.client.command("busybox");
    busybox.args(["tftp", "-g", "-b", "1400", "-r", &name, "-l"]);
    run(busybox.arg(&target).arg(run_.server().to_string())).unwrap();
    arrived("busybox");
    assert!(run_.curl(1400, &target).0);
    arrived("curl");
    recording.finish().unwrap();
    let mut dump = run_.lan.switch_command("tcpdump");
    dump.args(["-nr"]).arg(run_.folder.join("lan.pcap"));
    let elsewhere = format!("udp and src host {} and not src port 69", run_.server());
    let elsewhere = run(dump.arg(elsewhere)).unwrap();
    assert_eq!(elsewhere.lines().count(), 0, "{elsewhere}");
}

/// A setting of the machine says how large its blocks and windows are.
#[test]
fn settings_bound_blocks_and_windows() {
    let run_ = serving("tftp-settings", "");
    run_.site
        .put(
            "policy",
            &json!({ "enrolment": "automatic", "tftp_blksize": 1024, "tftp_windowsize": 2 }),
        )
        .unwrap();
    let (name, bytes) = run_.site.loader().unwrap();
    let mut request = vec![0, 1];
    request.extend(name.as_bytes());
    request.extend(b"\0octet\0blksize\x001468\0windowsize\x0016\0");
    let server = run_.server();
    let oack = run_.client.run(|| {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(Duration::from_secs(60)))?;
        socket.send_to(&request, (server, 69))?;
        let mut buffer = [0; 512];
        let (len, _) = socket.recv_from(&mut buffer)?;
        Ok(buffer[..len].escape_ascii().to_string())
    });
    let oack = oack.unwrap();
    assert!(
        oack.contains("blksize\\x001024\\x00windowsize\\x002\\x00"),
        "{oack}"
    );
    let target = run_.folder.join("fetched");
    let (got, said) = run_.curl(1468, &target);
    assert!(
        got && said.contains("got option=(blksize) value=(1024)"),
        "{said}"
    );
    assert!(fs::read(&target).unwrap() == bytes);
}

/// Who may not do what it asks for reads why.
#[test]
fn refusals_say_which_name_and_why() {
    let run_ = serving("tftp-refusals", "");
    let local = run_.folder.join("local");
    fs::write(&local, b"x").unwrap();
    let say = |words: &str| {
        let mut tftp = run_.client.command("tftp");
        tftp.args(["-m", "binary", &run_.server().to_string(), "-c"])
            .args(words.split(' '));
        let output = tftp.output().unwrap();
        let both = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&both).into_owned()
    };
    let told = say(&format!("put {} upload", local.display()));
    assert!(told.contains("Nothing can be written here"), "{told}");
    let told = say(&format!("get EFI/nobody.efi {}", local.display()));
    assert!(
        told.contains("There is no such file: EFI/nobody.efi"),
        "{told}"
    );
}

/// No block needs a fragment: the route to the client takes 1300 bytes; then the configuration says less.
#[test]
fn blocks_fit_the_path() {
    let run_ = serving("tftp-path-mtu", "");
    let target = run_.folder.join("fetched");
    let client = format!("{ADDRESS}/32");
    run_.site
        .host()
        .ip(["route", "add", &client, "dev", "eth0", "mtu", "1300"])
        .unwrap();
    let (got, said) = run_.curl(1468, &target);
    assert!(
        got && said.contains("got option=(blksize) value=(1268)"),
        "{said}"
    );
    drop(run_);
    let run_ = serving("tftp-path-told", "[tftp]\npath_mtu = 1000");
    let (got, said) = run_.curl(1468, &target);
    assert!(
        got && said.contains("got option=(blksize) value=(968)"),
        "{said}"
    );
}

/// A client behind a link that drops large frames without a word: its first transfer stalls, the next one has small
/// blocks, and its timeline says so.
#[test]
fn a_stalled_transfer_makes_the_next_one_small() {
    let run_ = serving("tftp-stall", "");
    run_.site
        .post("machines", &json!({ "macs": [CARD] }))
        .unwrap();
    run_.client
        .ip(["link", "set", "eth0", "mtu", "700"])
        .unwrap();
    let target = run_.folder.join("fetched");
    let (got, said) = run_.curl_for("20", 1400, &target);
    assert!(!got, "{said}");
    run_.site
        .wait_for(
            CARD,
            "stalled at blocks of 1400 bytes",
            Duration::from_secs(20),
        )
        .unwrap();
    let (got, said) = run_.curl(1400, &target);
    assert!(
        got && said.contains("got option=(blksize) value=(512)"),
        "{said}"
    );
    assert!(fs::read(&target).unwrap() == run_.site.loader().unwrap().1);
}
