//! `farrier doctor` against the faults it claims to find: each made with real parts on the LAN.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    path::Path,
    time::{Duration, Instant},
};

use farrier_e2e::{
    Debs, Host, Lab, Lan, Program, Relay, Scene, Site, clients,
    command::{command, run},
    lab::{stretched, until},
    server::{Dnsmasq, Kea},
};
use serde_json::Value;

fn serving(name: &str, mode: &str) -> Scene {
    Scene::serving(name, &config(mode)).unwrap()
}

fn config(mode: &str) -> String {
    let mut text =
        format!("names = [\"10.77.0.1\"]\n[[interface]]\nname = \"eth0\"\nmode = \"{mode}\"\n");
    if mode == "dhcp" {
        text.push_str(
            "[[subnet]]\nnetwork = \"10.77.0.0/24\"\npools = [\"10.77.0.100-10.77.0.199\"]\n",
        );
    }
    text
}

/// What the doctor finds from inside: name, verdict, what, and remedy of each check.
fn seen_inside(scene: &Scene) -> Vec<[String; 4]> {
    read(&scene.site.get("doctor").unwrap())
}

/// What the command finds, run on another host of the LAN.
fn seen_from(scene: &Scene, host: &Host) -> Vec<[String; 4]> {
    let program = farrier_e2e::site::Programs::find(&scene.lab)
        .unwrap()
        .farrier;
    let mut command = host.command(program.to_str().unwrap());
    command
        .args(["--json", "doctor"])
        .env("FARRIER_DATA", scene.site.data());
    command.env("FARRIER_SERVER", "https://10.77.0.1:8443");
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let json: Value = serde_json::from_str(&said)
        .unwrap_or_else(|e| panic!("{e}: {said}\n{}", String::from_utf8_lossy(&output.stderr)));
    read(&json)
}

fn start_dnsmasq(scene: &Scene, host: &Host, options: &[&str]) -> Program {
    let (first, last) = (Ipv4Addr::new(10, 77, 0, 50), Ipv4Addr::new(10, 77, 0, 99));
    let addresses = Dnsmasq::addresses(first, last);
    let dnsmasq = options.iter().fold(addresses, |dnsmasq, o| dnsmasq.with(o));
    dnsmasq.start(host, &scene.folder).unwrap()
}

fn read(doctor: &Value) -> Vec<[String; 4]> {
    let checks = doctor["checks"].as_array().unwrap().iter();
    checks
        .map(|check| {
            ["name", "verdict", "found", "remedy"]
                .map(|key| check[key].as_str().unwrap_or_default().to_owned())
        })
        .collect()
}

/// What `look` sees when a check with this name has these words in what it found. Programs that are asked on the LAN
/// have a second or some to answer in, and the doctor is right to call those silent that a busy machine kept from it;
/// so what must be seen is looked for more than once.
fn seen_with(look: impl Fn() -> Vec<[String; 4]>, name: &str, words: &str) -> Vec<[String; 4]> {
    let mut checks = look();
    for _ in 0..TRIES {
        let is = |check: &[String; 4]| check[0].contains(name) && check[2].contains(words);
        if checks.iter().any(is) {
            break;
        }
        checks = look();
    }
    checks
}

const TRIES: usize = 6;

/// The check with this name and these words in what it found.
fn find<'a>(checks: &'a [[String; 4]], name: &str, words: &str) -> &'a [String; 4] {
    let found = checks
        .iter()
        .find(|check| check[0].contains(name) && check[2].contains(words));
    found.unwrap_or_else(|| panic!("{name}: {words} is not in {checks:#?}"))
}

/// A host with an address of its own that can broadcast.
fn client_of(scene: &Scene) -> Host {
    let address = Ipv4Addr::new(10, 77, 0, 10);
    let client = scene.lan.host("client", Some(address)).unwrap();
    client
        .ip(["route", "add", "255.255.255.255/32", "dev", "eth0"])
        .unwrap();
    client
}

/// F12: nftables before each port in turn, seen from another host.
#[test]
fn f12_doctor_names_each_port_that_a_firewall_closes() {
    let scene = serving("doctor-firewall", "dhcp");
    let client = client_of(&scene);
    let ports = [
        ("DHCP", "udp", "67", "warning"),
        ("TFTP", "udp", "69", "bad"),
        ("HTTP", "tcp", "8067", "bad"),
        ("PXE boot server", "udp", "4011", "warning"),
        ("Agents", "tcp", "8444", "bad"),
    ];
    // All in one look, but for the one that is closed.
    let look = |closed: Option<&str>| {
        let is_open = |check: &[String; 4]| check[2].contains("answers from outside");
        let as_made = |checks: &[[String; 4]]| {
            ports.iter().all(|(name, _, port, _)| {
                let name = format!("{name} 10.77.0.1:{port}");
                let mut named = checks.iter().filter(|check| check[0].contains(&name));
                let opens = closed != Some(*port);
                named.any(|check| is_open(check) == opens)
            })
        };
        // A port of ours has a second to answer, which it can miss on a busy machine.
        let mut looks = (0..TRIES).map(|_| seen_from(&scene, &client));
        let seen = looks.find(|checks| as_made(checks));
        seen.unwrap_or_else(|| panic!("{closed:?}: {:#?}", seen_from(&scene, &client)))
    };
    let open = look(None);
    for (name, _, port, _) in ports {
        let name = format!("{name} 10.77.0.1:{port}");
        let check = find(&open, &name, "answers from outside");
        assert_eq!(check[1], "good", "{check:?}");
    }
    for (name, transport, port, verdict) in ports {
        firewall(
            scene.site.host(),
            &format!("iifname \"eth0\" {transport} dport {port} drop"),
        );
        let closed = look(Some(port));
        firewall(scene.site.host(), "");
        let check = find(&closed, &format!("{name} 10.77.0.1:{port}"), "no answer");
        assert_eq!(check[1], verdict, "{check:?}");
        let open = format!("{} port {port} to 10.77.0.1", transport.to_uppercase());
        assert!(check[3].contains(&open), "{check:?}");
    }
}

/// The one rule of a table of ours on what comes in; none takes the table away.
fn firewall(host: &Host, rule: &str) {
    let _ = run(host.command("nft").args(["delete", "table", "inet", "lab"]));
    if rule.is_empty() {
        return;
    }
    run(host.command("nft").args(["add", "table", "inet", "lab"])).unwrap();
    let chain = "{ type filter hook input priority 0 ; }";
    run(host
        .command("nft")
        .args(["add", "chain", "inet", "lab", "in", chain]))
    .unwrap();
    let words = ["add", "rule", "inet", "lab", "in"];
    run(host.command("nft").args(words).args(rule.split(' '))).unwrap();
}

/// F12: the certificate that firmware sees, from another host: a good one, one that ends soon, one that is not signed by
/// what is sent with it, a renewed one that does not fit its key, and a port that is closed.
#[test]
fn f12_doctor_looks_at_the_certificate_for_firmware() {
    let lab = Lab::open().unwrap();
    let brought = lab.scratch("doctor-certificate").unwrap();
    sign(&brought, "first", 400);
    let scene = Scene::serving(
        "doctor-https",
        &format!(
            "{}[boot.tls]\ncertificate = {:?}\nprivate_key = {:?}\n",
            config("dhcp"),
            brought.join("boot.pem"),
            brought.join("boot.key"),
        ),
    )
    .unwrap();
    let client = scene
        .lan
        .host("client", Some(Ipv4Addr::new(10, 77, 0, 10)))
        .unwrap();
    let https = |words: &str| {
        // The server looks at its files every other second, and once more before it believes them.
        let mut seen = Vec::new();
        let is = |check: &&[String; 4]| check[0].contains("HTTPS") && check[2].contains(words);
        let shows = until(words, || {
            seen = seen_from(&scene, &client);
            seen.iter().any(|check| is(&check))
        });
        let found = seen.iter().find(is);
        let check = found.unwrap_or_else(|| panic!("{shows:?}: {seen:#?}"));
        (check[1].clone(), check[3].clone())
    };
    let outside =
        "answers from outside; the certificate names 10.77.0.1 and is good for 399 more days";
    assert_eq!(https(outside).0, "good");

    sign(&brought, "second", 10);
    let (verdict, remedy) = https("the certificate ends in 9 days");
    assert_eq!(verdict, "warning");
    assert!(remedy.contains("Renew it"), "{remedy}");

    let authority = fs::read_to_string(brought.join("first.pem")).unwrap();
    let leaf = fs::read_to_string(brought.join("leaf.pem")).unwrap();
    fs::write(brought.join("boot.pem"), leaf + &authority).unwrap();
    let (verdict, _) =
        https("the new one is refused: is not signed by those that are sent with it");
    assert_eq!(verdict, "bad");
    let refused = start_with(&scene, &client);
    assert_eq!(refused.0, Some(2), "{}", refused.1);
    for words in [
        "boot.tls.certificate",
        "is not signed by those that are sent with it",
        "then the one that signed it",
    ] {
        assert!(refused.1.contains(words), "{words}: {}", refused.1);
    }

    fs::copy(brought.join("first.key"), brought.join("boot.key")).unwrap();
    let (verdict, remedy) = https("the new one is refused");
    assert_eq!(verdict, "bad");
    assert!(remedy.contains("a certificate and its key"), "{remedy}");
    sign(&brought, "third", 400);
    assert_eq!(https(outside).0, "good");

    firewall(scene.site.host(), "iifname \"eth0\" tcp dport 443 drop");
    let (verdict, remedy) = https("no answer");
    assert_eq!(verdict, "bad");
    assert!(remedy.contains("TCP port 443 to 10.77.0.1"), "{remedy}");
}

/// What comes of starting the server anew on another host, with the same files: its exit code and what it says.
fn start_with(scene: &Scene, host: &Host) -> (Option<i32>, String) {
    let programs = farrier_e2e::site::Programs::find(&scene.lab).unwrap();
    let config = fs::read_to_string(scene.folder.join("farrier.toml")).unwrap();
    let data = scene.folder.join("second-data");
    let ours = scene.site.data().display().to_string();
    let second = scene.folder.join("second.toml");
    fs::write(&second, config.replace(&ours, &data.display().to_string())).unwrap();
    let mut serve = host.command(programs.farrier.to_str().unwrap());
    let output = serve
        .args(["serve", "--config"])
        .arg(&second)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    (output.status.code(), said.into_owned())
}

/// Leaves `boot.pem` and `boot.key` for our server's address, good for so many days, and the authority beside them.
fn sign(folder: &Path, authority: &str, days: u32) {
    let openssl = |words: &str| {
        let mut openssl = command("openssl", words.split(' '));
        run(openssl.current_dir(folder)).unwrap();
    };
    openssl(&format!(
        "req -x509 -newkey rsa:2048 -nodes -subj /CN={authority} -days 3650 -keyout {authority}.key -out {authority}.pem"
    ));
    openssl(
        "req -new -newkey rsa:2048 -nodes -subj /CN=boot -addext subjectAltName=IP:10.77.0.1 -keyout new.key -out new.csr",
    );
    openssl(&format!(
        "x509 -req -in new.csr -copy_extensions copy -CA {authority}.pem -CAkey {authority}.key -days {days} -out leaf.pem"
    ));
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let chain = read("leaf.pem") + &read(&format!("{authority}.pem"));
    fs::rename(folder.join("new.key"), folder.join("boot.key")).unwrap();
    fs::write(folder.join("boot.pem"), chain).unwrap();
}

/// F12: dnsmasq as a second DHCP server, as a PXE server beside a third, and with options of its own for booting.
#[test]
fn f12_doctor_names_second_servers_and_wrong_options() {
    let scene = serving("doctor-second", "dhcp");
    let other = scene.lan.other().unwrap();
    let second = start_dnsmasq(&scene, &other, &[]);
    let words = "10.77.0.2 is a second DHCP server";
    let checks = seen_with(|| seen_inside(&scene), "network eth0", words);
    let check = find(&checks, "network eth0", words);
    assert_eq!(check[1], "bad", "{check:?}");
    assert!(check[3].contains("mode = \"proxy\" for eth0"), "{check:?}");
    second.kill().unwrap();
    drop(scene);

    let scene = serving("doctor-wrong", "proxy");
    let other = scene.lan.other().unwrap();
    let checks = seen_inside(&scene);
    let check = find(&checks, "network eth0", "nobody gives addresses here");
    assert_eq!(check[1], "bad", "{check:?}");

    // Another server's file; ours from another server; a file of ours that we do not have; option 60.
    let ours = "boot/ipxe-snponly-x64/snponly.efi";
    let rows: [(&[&str], &str, &str); 5] = [
        (
            &["--dhcp-boot=pxelinux.0,,10.77.0.9"],
            "warning",
            "names a boot file, too",
        ),
        (
            &["--dhcp-boot=boot/ipxe-snponly-x64/snponly.efi,,10.77.0.9"],
            "bad",
            "sends machines to \"10.77.0.9\" for our boot file",
        ),
        (
            &["--dhcp-boot=undionly.0,,10.77.0.1"],
            "bad",
            "\"undionly.0\", which we do not have",
        ),
        (
            &[
                "--dhcp-option-force=66,10.77.0.9",
                "--dhcp-option-force=67,wdsnbp.com",
            ],
            "warning",
            "boot file \"wdsnbp.com\", from \"10.77.0.9\"",
        ),
        (
            &["--dhcp-option-force=60,PXEClient"],
            "warning",
            "option 60 PXEClient",
        ),
    ];
    for (options, verdict, words) in rows {
        let dnsmasq = start_dnsmasq(&scene, &other, options);
        let checks = seen_with(|| seen_inside(&scene), "network eth0", words);
        let check = find(&checks, "network eth0", words);
        assert_eq!(check[1], verdict, "{options:?}: {check:?}");
        assert!(!check[3].is_empty(), "{check:?}");
        dnsmasq.kill().unwrap();
    }
    let _plain = start_dnsmasq(&scene, &other, &[]);
    let words = "10.77.0.2 gives addresses, nobody else names boot files";
    let checks = seen_with(|| seen_inside(&scene), "network eth0", words);
    find(&checks, "network eth0", words);
    let third = scene
        .lan
        .host("third", Some(Ipv4Addr::new(10, 77, 0, 4)))
        .unwrap();
    let proxy = Dnsmasq::default()
        .with("--dhcp-range=10.77.0.0,proxy")
        .with(&format!("--pxe-service=X86-64_EFI,Other,{ours}"))
        .with("--pxe-prompt=Other,0");
    let folder = scene.folder.join("third");
    fs::create_dir_all(&folder).unwrap();
    let _proxy = proxy.start(&third, &folder).unwrap();
    let words = "10.77.0.4 is another PXE server";
    let checks = seen_with(|| seen_inside(&scene), "network eth0", words);
    let check = find(&checks, "network eth0", words);
    assert_eq!(check[1], "bad", "{check:?}");
}

/// F12: a relay agent whose way back is closed, and one that is well.
#[test]
fn f12_doctor_names_a_relay_that_drops_our_answers() {
    let (lab, near) = (Lab::open().unwrap(), Lan::new().unwrap());
    let folder = lab.scratch("doctor-relay").unwrap();
    let host = near.server().unwrap();
    let relay = Relay::new(&near, &[&host]).unwrap();
    let site = Site::serving(&lab, host, &folder, farrier_e2e::relay::BOTH_NETWORKS).unwrap();
    let _dhcrelay = relay.start(&lab, &folder).unwrap();
    let client = relay.far.host("client", None).unwrap();
    client.ip(["link", "set", "eth0", "up"]).unwrap();
    // On the wire between them: what a host drops itself it knows of, and dhcrelay reads before its host's firewall.
    let nft = |words: &str| {
        let mut nft = near.switch_command("nft");
        run(nft.args(words.split(' '))).unwrap();
    };
    nft("add table bridge lab");
    nft("add chain bridge lab forward { type filter hook forward priority 0 ; }");
    nft("add rule bridge lab forward ip daddr 10.78.0.1 udp sport 67 drop");
    let scene = Scene {
        lab,
        folder,
        lan: near,
        site,
    };
    for _ in 0..2 {
        clients::udhcpc_in_vain(&client, &scene.folder, &[]).unwrap();
    }
    let checks = seen_with(|| seen_inside(&scene), "relay 10.78.0.1", "none of");
    let check = find(&checks, "relay 10.78.0.1", "none of");
    assert_eq!(check[1], "bad", "{check:?}");
    assert!(check[3].contains("port 67 of 10.78.0.1"), "{check:?}");
    run(scene
        .lan
        .switch_command("nft")
        .args(["delete", "table", "bridge", "lab"]))
    .unwrap();
    clients::udhcpc(&client, &scene.folder, &[]).unwrap();
    let checks = seen_inside(&scene);
    assert!(
        !checks.iter().any(|check| check[0].starts_with("relay")),
        "{checks:#?}"
    );
}

/// F12: a machine of an architecture that nothing in the catalogue is for.
#[test]
fn f12_doctor_names_the_architecture_without_a_loader() {
    let scene = serving("doctor-loader", "dhcp");
    let mac = [0x52, 0x54, 0, 0x77, 5, 1];
    scene.know("52:54:00:77:05:01").unwrap();
    let before = seen_inside(&scene);
    assert!(
        !before
            .iter()
            .any(|check| check[0].starts_with("loader for")),
        "{before:#?}"
    );
    let client = client_of(&scene);
    discover(&client, mac, 10);
    let words = "there is no loader for them";
    let checks = seen_with(|| seen_inside(&scene), "loader for arm32", words);
    let check = find(&checks, "loader for arm32", words);
    assert_eq!(check[1], "bad", "{check:?}");
    assert!(check[3].contains("farrier loader import"), "{check:?}");
}

/// A DHCPDISCOVER of UEFI firmware for this code of option 93.
fn discover(host: &Host, mac: [u8; 6], arch: u8) {
    let mut request = vec![0; 240];
    request[..8].copy_from_slice(&[1, 1, 6, 0, b'a', b'r', b'c', b'h']);
    request[10] = 0x80;
    request[28..34].copy_from_slice(&mac);
    request[236..].copy_from_slice(&[99, 130, 83, 99]);
    request.extend([53, 1, 1, 93, 2, 0, arch, 60, 32]);
    request.extend(format!("PXEClient:Arch:{arch:05}:UNDI:003000").bytes());
    request.push(255);
    let everybody = SocketAddrV4::new(Ipv4Addr::BROADCAST, 67);
    clients::exchange(host, &request, everybody, 1).unwrap();
}

/// F12: what `doctor --lines` prints goes word by word into dnsmasq, Kea and ISC's dhcpd, and then the probe is content.
#[test]
fn f12_printed_lines_make_dnsmasq_kea_and_isc_right() {
    let scene = serving("doctor-lines", "proxy");
    let lines = scene
        .site
        .farrier(&["doctor", "--lines", "dnsmasq"])
        .unwrap();
    let file = scene.folder.join("farrier.conf");
    fs::write(&file, &lines).unwrap();
    let host = scene.lan.other().unwrap();
    let dnsmasq = start_dnsmasq(&scene, &host, &[&format!("--conf-file={}", file.display())]);
    content(&scene, "dnsmasq");
    dnsmasq.kill().unwrap();

    let lines = scene.site.farrier(&["doctor", "--lines", "kea"]).unwrap();
    let (first, last) = (Ipv4Addr::new(10, 77, 0, 50), Ipv4Addr::new(10, 77, 0, 99));
    let kea = Kea::addresses(first, last).classes(&lines);
    let kea = kea.start(&scene.lab, &host, &scene.folder).unwrap();
    content(&scene, "kea");
    kea.kill().unwrap();

    // Debian's default is to look for a free address by echo before it is offered: a second of silence.
    let subnet = "subnet 10.77.0.0 netmask 255.255.255.0 { range 10.77.0.50 10.77.0.99; }\n";
    let dhcpd = isc(&scene, &host, subnet);
    let words = "nobody else names boot files";
    let checks = seen_with(|| seen_inside(&scene), "network eth0", words);
    find(&checks, "network eth0", words);
    dhcpd.kill().unwrap();
    let lines = scene.site.farrier(&["doctor", "--lines", "isc"]).unwrap();
    let _dhcpd = isc(&scene, &host, &format!("{lines}{subnet}"));
    content(&scene, "isc");
}

/// F12: the server as a whole, seen by who asks it: stopped, and started again.
#[test]
fn f12_doctor_names_the_server_that_is_stopped() {
    let mut scene = serving("doctor-stopped", "dhcp");
    let programs = farrier_e2e::site::Programs::find(&scene.lab).unwrap();
    let doctor = |scene: &Scene| {
        let mut command = scene
            .site
            .host()
            .command(programs.farrier.to_str().unwrap());
        command
            .arg("doctor")
            .env("FARRIER_DATA", scene.site.data())
            .env("FARRIER_SERVER", "https://10.77.0.1:8443");
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    };
    scene.site.kill();
    let asked = Instant::now();
    let (code, said) = doctor(&scene);
    // Without a wait for anybody; usual are some tens of milliseconds.
    let took = asked.elapsed();
    assert!(took < stretched(Duration::from_secs(5)), "{took:?}");
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("https://10.77.0.1:8443"), "{said}");
    scene.site.resume().unwrap();
    let (_, said) = doctor(&scene);
    assert!(!said.contains("does not answer"), "{said}");
}

fn content(scene: &Scene, server: &str) {
    let words = "10.77.0.2 gives addresses and names our boot file";
    let checks = seen_with(|| seen_inside(scene), "network eth0", words);
    let check = find(&checks, "network eth0", words);
    assert_eq!(check[1], "good", "{server}: {check:?}");
    assert!(
        check[2].contains("boot/ipxe-snponly-x64/snponly.efi"),
        "{server}: {check:?}"
    );
    let of_network = checks.iter().filter(|check| check[0] == "network eth0");
    assert_eq!(of_network.count(), 1, "{server}: {checks:#?}");
}

/// Debian's ISC dhcpd, unpacked and not installed.
fn isc(scene: &Scene, host: &Host, text: &str) -> Program {
    let debs = Debs::open(&scene.lab).unwrap();
    let program = debs.program("isc-dhcp-server", "usr/sbin/dhcpd").unwrap();
    let (file, leases) = (
        scene.folder.join("dhcpd.conf"),
        scene.folder.join("dhcpd.leases"),
    );
    fs::write(&file, text).unwrap();
    fs::write(&leases, "").unwrap();
    let mut dhcpd = host.command(&program.to_string_lossy());
    dhcpd.args(["-4", "-f", "-d", "--no-pid", "-cf"]).arg(&file);
    dhcpd.arg("-lf").arg(&leases).arg("eth0");
    let dhcpd = Program::start("dhcpd", dhcpd, &scene.folder).unwrap();
    dhcpd
        .wait_for("Server starting service", Duration::from_secs(10))
        .unwrap();
    dhcpd
}
