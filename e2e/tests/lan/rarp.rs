//! T3, L9: a machine from before BOOTP, scripted as OpenBoot does it: RARP, TFTP by its address in hex digits, and a
//! call for `bootparam`.

use std::{
    fs,
    net::{Ipv4Addr, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result};
use farrier_e2e::{Host, Lab, Lan, Site, clients, lab::until};
use serde_json::json;

const SERVED: &str = r#"
[[interface]]
name = "eth0"
mode = "dhcp"
rarp = true

[[subnet]]
network = "10.77.0.0/24"
pools = ["10.77.0.100-10.77.0.199"]

[[subnet.reservation]]
address = "10.77.0.7"
mac = "MAC"
"#;

#[test]
fn t3_a_sparc_gets_its_address_by_rarp_and_its_program_by_hex_name() {
    let lab = Lab::open().unwrap();
    let folder = lab.scratch("rarp").unwrap();
    let lan = Lan::new().unwrap();
    let client = lan.host("sparc", None).unwrap();
    let mac = mac(&client);
    let served = SERVED.replace("MAC", &mac);
    let site = Site::serving(&lab, lan.server().unwrap(), &folder, &served).unwrap();
    site.post("machines", &json!({ "macs": [mac] })).unwrap();
    let program = folder.join("core.img");
    let content: Vec<u8> = (0..5000_u32).map(|n| n.to_le_bytes()[0]).collect();
    fs::write(&program, &content).unwrap();
    let import = ["loader", "import", program.to_str().unwrap()];
    site.farrier(&import).unwrap();
    until("that the server has the loader", || {
        site.farrier(&["loader", "list"])
            .unwrap()
            .contains("grub-net-sparc64")
    })
    .unwrap();

    // Nobody knows this one, and RARP has no word for no.
    let heard = clients::hear_rarp(&client, &folder).unwrap();
    clients::rarp(&client, [8, 0, 0x20, 9, 9, 9]).unwrap();
    let refused = "bootp_needs_reservation";
    until(refused, || {
        site.get("status").unwrap()["boot"][refused] == 1
    })
    .unwrap();
    clients::rarp(&client, bytes(&mac)).unwrap();
    heard
        .wait_for(
            &format!("Reverse Reply {mac} at 10.77.0.7"),
            Duration::from_secs(5),
        )
        .unwrap();
    assert!(
        !heard.log().contains("08:00:20:09:09:09 at"),
        "{}",
        heard.log()
    );

    client
        .ip(["addr", "add", "10.77.0.7/24", "dev", "eth0"])
        .unwrap();
    let server = Ipv4Addr::new(10, 77, 0, 1);
    let got = folder.join("got");
    clients::tftp_hpa(&client, server, "0A4D0007.SUN4U", &got).unwrap();
    assert_eq!(fs::read(&got).unwrap(), content);
    for (name, why) in [
        // What kind of machine this is, nobody said.
        ("0A4D0007", "There is no loader"),
        ("0A4D0007.SUN4M", "There is no loader"),
        // Another machine's.
        ("0A4D0008.SUN4U", "There is no such file"),
    ] {
        let error = clients::atftp(&client, server, name, &folder.join("none"), &[]);
        let error = format!("{:#}", error.unwrap_err());
        assert!(error.contains(why), "{name}: {error}");
    }

    let answer = bootparam_port(&client, server).unwrap();
    assert_eq!(answer[..8], [0, 0, 0, 7, 0, 0, 0, 1], "a reply to the call");
    assert_eq!(
        answer[answer.len() - 4..],
        [0; 4],
        "port 0: no such program"
    );
    let words = ["has the address 10.77.0.7", "core.img", "by bootparam"];
    site.told(&mac, &words).unwrap();
}

/// The port mapper's answer to "at which port is bootparam?" (RFC 1833).
fn bootparam_port(client: &Host, server: Ipv4Addr) -> Result<Vec<u8>> {
    const WORDS: [u32; 14] = [7, 0, 2, 100_000, 2, 3, 0, 0, 0, 0, 100_026, 1, 17, 0];
    let call: Vec<u8> = WORDS.iter().flat_map(|word| word.to_be_bytes()).collect();
    client.run(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("bind")?;
        socket
            .set_read_timeout(Some(Duration::from_secs(60)))
            .context("limit the wait")?;
        socket.send_to(&call, (server, 111)).context("call")?;
        let mut answer = vec![0; 500];
        let len = socket.recv(&mut answer).context("no answer")?;
        answer.truncate(len);
        Ok(answer)
    })
}

fn mac(host: &Host) -> String {
    let told = host.ip(["-o", "link", "show", "eth0"]).unwrap();
    let at = told.split("link/ether ").nth(1).unwrap();
    at.split(' ').next().unwrap().to_owned()
}

fn bytes(mac: &str) -> [u8; 6] {
    let bytes = mac
        .split(':')
        .map(|two| u8::from_str_radix(two, 16).unwrap());
    bytes.collect::<Vec<_>>().try_into().unwrap()
}
