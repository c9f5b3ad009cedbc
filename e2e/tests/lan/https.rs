//! HTTPS of the boot plane: curl and openssl as clients, then real firmware and iPXE, new ones and some too old.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use farrier_e2e::{
    Debs, Firmware, Host, Lab, Lan, Machine, Scene, Site, clients, debs::Suite, site::OVER_IPV6,
};
use serde_json::json;

const BOOT: Duration = Duration::from_secs(150);
const SOON: Duration = Duration::from_secs(20);
const CARD: &str = "52:54:00:77:43:01";
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 10);

/// A LAN with our server, which serves HTTPS with what `tls` says.
fn serving(name: &str, tls: &str) -> Scene {
    let text = format!(
        "[boot.tls]\n{tls}\n[[interface]]\nname = \"eth0\"\nmode = \"dhcp\"\n[[subnet]]\nnetwork = \"10.77.0.0/24\"\n\
         pools = [\"10.77.0.100-10.77.0.199\"]\nrouters = [\"10.77.0.1\"]\n[[subnet.reservation]]\n\
         address = \"{ADDRESS}\"\nmac = \"{CARD}\"\n"
    );
    Scene::serving(name, &text).unwrap()
}

/// A host that is known as a machine and has its address from us.
fn known_client(run: &Scene) -> Host {
    let client = run.lan.host("client", Some(ADDRESS)).unwrap();
    client.ip(["link", "set", "eth0", "address", CARD]).unwrap();
    run.know(CARD).unwrap();
    clients::udhcpc(&client, &run.folder, &[]).unwrap();
    client
}

fn authority_file(run: &Scene, name: &str) -> PathBuf {
    run.site.data().join("ca").join(name)
}

fn set(run: &Scene, boot_tls: &str) {
    let policy = json!({ "enrolment": "automatic", "boot_tls": boot_tls });
    run.site.put("policy", &policy).unwrap();
}

/// Powers a machine on and waits until it has its agent; returns its timeline.
fn boots(run: &Scene, machine: &Machine) -> String {
    let _vm = machine.start(&run.lan, &run.folder).unwrap();
    run.site.hands_over_the_agent(machine.mac()).unwrap();
    run.site.timeline(machine.mac()).unwrap().join("\n")
}

/// Powers a machine on that is known already, and waits for these words on its timeline.
fn fails(run: &Scene, machine: &Machine, words: &str) {
    run.know(machine.mac()).unwrap();
    let _vm = machine.start(&run.lan, &run.folder).unwrap();
    run.site.wait_for(machine.mac(), words, BOOT).unwrap();
}

/// OVMF of today: that of the installed release has no elliptic curves.
fn new_firmware(run: &Scene) -> PathBuf {
    let debs = Debs::open(&run.lab).unwrap();
    let deb = debs.fetch("ovmf-generic", Suite::Unstable).unwrap();
    debs.unpack(&deb).unwrap().join("usr/share/OVMF")
}

fn url(port: u16, path: &str) -> String {
    format!("https://10.77.0.1:{port}/{path}")
}

/// Fetches by each version of TLS, with nothing trusted but `authority`; whole files and parts of them.
fn fetches(client: &Host, authority: &Path, port: u16) {
    let trust = authority.to_str().unwrap();
    for version in [&["--tlsv1.2", "--tls-max", "1.2"][..], &["--tlsv1.3"]] {
        let arguments = [&["--fail", "--cacert", trust], version].concat();
        let script = clients::curl(client, &arguments, &url(port, "boot/first.ipxe")).unwrap();
        assert!(script.starts_with("#!ipxe"), "{script}");
        // iPXE goes on as it came.
        let next = format!("chain --replace --autofree https://10.77.0.1:{port}/boot/script?");
        assert!(script.contains(&next), "{script}");
        let part = [&arguments[..], &["--range", "2-5"]].concat();
        let part = clients::curl(client, &part, &url(port, "boot/first.ipxe")).unwrap();
        assert_eq!(part, "ipxe");
    }
    // GRUB speaks no TLS: its script names plain HTTP.
    let arguments = ["--fail", "--cacert", trust];
    let grub = clients::curl(client, &arguments, &url(port, "boot/grub.cfg")).unwrap();
    assert!(
        grub.contains("10.77.0.1:8067") && !grub.contains("https"),
        "{grub}"
    );
}

/// Sends bytes to the HTTPS port and reads what comes back.
fn openssl(client: &Host, arguments: &[&str]) -> String {
    let mut openssl = client.command("timeout");
    openssl.args(["60", "openssl", "s_client", "-connect"]);
    openssl.args(arguments);
    let output = openssl.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&said).into_owned()
}

/// RSA-3072, the authority included; and what openssl of yesterday and plain HTTP come to, on the timeline.
#[test]
fn https_with_rsa_and_the_old_are_told_why_not() {
    let run = serving("https-rsa", "");
    let client = known_client(&run);
    let authority = authority_file(&run, "boot-rsa.pem");
    fetches(&client, &authority, 443);
    let trust = authority.to_str().unwrap();
    let chain = openssl(&client, &["10.77.0.1:443", "-CAfile", trust, "-tls1_2"]);
    assert!(
        chain.contains("ECDHE-RSA-AES") && chain.contains("Verify return code: 0 (ok)"),
        "{chain}"
    );
    assert!(chain.contains("Server public key is 3072 bit"), "{chain}");

    let old = ["10.77.0.1:443", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"];
    let refused = openssl(&client, &old);
    assert!(
        refused.contains("protocol version") || refused.contains("handshake failure"),
        "{refused}"
    );
    run.site
        .wait_for(
            CARD,
            "speaks TLS 1.1 at most and is too old for HTTPS",
            SOON,
        )
        .unwrap();

    let unsafe_suites = [
        "10.77.0.1:443",
        "-tls1_2",
        "-cipher",
        "AES256-SHA:DHE-RSA-AES256-GCM-SHA384:@SECLEVEL=0",
    ];
    openssl(&client, &unsafe_suites);
    run.site
        .wait_for(CARD, "none of its 3 cipher suites is safe today", SOON)
        .unwrap();

    let curves = [
        "10.77.0.1:443",
        "-tls1_2",
        "-cipher",
        "ECDHE-ECDSA-AES128-GCM-SHA256",
    ];
    openssl(&client, &curves);
    run.site
        .wait_for(CARD, "Set boot.tls.key to p-256", SOON)
        .unwrap();

    // It trusts somebody else.
    let other = authority_file(&run, "root.pem");
    let distrust = ["--cacert", other.to_str().unwrap()];
    assert!(clients::curl(&client, &distrust, &url(443, "boot/first.ipxe")).is_err());
    run.site
        .wait_for(CARD, "does not know who signed our certificate", SOON)
        .unwrap();

    let _ = clients::curl(&client, &[], "http://10.77.0.1:443/boot/first.ipxe");
    run.site
        .wait_for(CARD, "plain HTTP at the port for HTTPS", SOON)
        .unwrap();
    assert!(run.count("tls_too_old").unwrap() > 0);
    assert!(run.count("tls_not_trusted").unwrap() > 0);
}

/// P-256 below the site's authority, on another port.
#[test]
fn https_with_elliptic_curves() {
    let run = serving(
        "https-p256",
        "port = 9443\nkey = \"p-256\"\nnames = [\"boot.example.org\"]",
    );
    let client = known_client(&run);
    let authority = authority_file(&run, "root.pem");
    fetches(&client, &authority, 9443);
    let arguments = [
        "--fail",
        "--cacert",
        authority.to_str().unwrap(),
        "--resolve",
        "boot.example.org:9443:10.77.0.1",
    ];
    let named = "https://boot.example.org:9443/boot/first.ipxe";
    assert!(clients::curl(&client, &arguments, named).is_ok());
    openssl(
        &client,
        &[
            "10.77.0.1:9443",
            "-tls1_2",
            "-cipher",
            "ECDHE-RSA-AES128-GCM-SHA256",
        ],
    );
    run.site
        .wait_for(CARD, "Set boot.tls.key to rsa-3072", SOON)
        .unwrap();
}

/// Firmware of today that trusts our authority boots by HTTPS, and so does the iPXE that it loads: it takes its
/// trust from the firmware.
#[test]
fn https_firmware_of_today_boots() {
    let run = serving("https-firmware", "");
    set(&run, "always");
    let machine = Machine::new("https", Firmware::UefiHttp4, 44)
        .built(&new_firmware(&run))
        .trusts(&authority_file(&run, "boot-rsa.pem"), &run.folder)
        .unwrap();
    let told = boots(&run, &machine);
    for sentence in [
        "It was told to fetch a loader by HTTPS.",
        "It fetched the first script by HTTPS.",
        "It fetched the agent by HTTPS.",
    ] {
        assert!(told.contains(sentence), "{sentence} in\n{told}");
    }
}

/// The same over IPv6 alone, where a URL holds an address in brackets.
#[test]
fn https_over_ipv6() {
    let lab = Lab::open().unwrap();
    let folder = lab.scratch("https-ipv6").unwrap();
    let lan = Lan::new().unwrap();
    let host = lan.server().unwrap();
    host.ip(["addr", "add", "fd77::1/64", "dev", "eth0", "nodad"])
        .unwrap();
    let site = Site::serving(&lab, host, &folder, &format!("[boot.tls]\n{OVER_IPV6}")).unwrap();
    let run = Scene {
        lab,
        folder,
        lan,
        site,
    };
    set(&run, "firmware");
    let authority = authority_file(&run, "boot-rsa.pem");

    let client = run.lan.host("client", None).unwrap();
    client
        .ip(["addr", "add", "fd77::5/64", "dev", "eth0", "nodad"])
        .unwrap();
    let trust = ["--fail", "--cacert", authority.to_str().unwrap()];
    let script = clients::curl(&client, &trust, "https://[fd77::1]/boot/first.ipxe").unwrap();
    let next = "chain --replace --autofree https://[fd77::1]:443/boot/script?";
    assert!(script.contains(next), "{script}");

    let machine = Machine::new("https6", Firmware::UefiHttp6, 49)
        .built(&new_firmware(&run))
        .trusts(&authority, &run.folder)
        .unwrap();
    // It tries IPv4 first, in vain.
    let told = boots(&run, &machine);
    let sentence = "It was told to fetch a loader by HTTPS.";
    assert!(told.contains(sentence), "{told}");
    let loader = |line: &str| line.contains("fetched snponly.efi") && line.ends_with("by HTTPS.");
    assert!(told.lines().any(loader), "{told}");
}

/// The same with elliptic curves; only the firmware is to use HTTPS.
#[test]
fn https_firmware_of_today_with_elliptic_curves() {
    let run = serving("https-firmware-p256", "key = \"p-256\"");
    set(&run, "firmware");
    let machine = Machine::new("https-p256", Firmware::UefiHttp4, 45)
        .built(&new_firmware(&run))
        .trusts(&authority_file(&run, "root.pem"), &run.folder)
        .unwrap();
    let told = boots(&run, &machine);
    for sentence in [
        "It was told to fetch a loader by HTTPS.",
        "snponly.efi",
        // iPXE 2.0 asks for `autoexec.ipxe` where it came from.
        "It fetched the first script by HTTPS.",
    ] {
        assert!(told.contains(sentence), "{sentence} in\n{told}");
    }
}

/// Firmware that nobody has told of our authority says nothing, and the timeline what to do.
#[test]
fn https_firmware_without_our_authority_is_told_of() {
    let run = serving("https-untrusted", "");
    set(&run, "firmware");
    let machine = Machine::new("untrusted", Firmware::UefiHttp4, 46).built(&new_firmware(&run));
    fails(&run, &machine, "left in the middle of the HTTPS handshake");
}

/// OVMF of the installed release offers no elliptic curves.
#[test]
fn https_firmware_that_is_too_old_is_told_of() {
    let run = serving("https-old", "");
    set(&run, "firmware");
    let machine = Machine::new("old", Firmware::UefiHttp4, 47)
        .trusts(&authority_file(&run, "boot-rsa.pem"), &run.folder)
        .unwrap();
    fails(&run, &machine, "is safe today, and it is too old for HTTPS");
    assert!(run.count("tls_too_old").unwrap() > 0);
}

/// iPXE of QEMU's cards says that it speaks no HTTPS, and is not asked to.
#[test]
fn https_loaders_without_it_boot_by_http() {
    let run = serving("https-rom", "");
    set(&run, "always");
    let told = boots(&run, &Machine::new("rom", Firmware::Bios, 48));
    assert!(told.contains("It was told where its script is."), "{told}");
    assert!(!told.contains("HTTPS"), "{told}");
}

/// iPXE of today does not know our authority unless its firmware does. It came by TFTP, where it says nothing of
/// itself, so the policy alone sends it to HTTPS.
#[test]
fn https_ipxe_without_our_authority_is_told_of() {
    let run = serving("https-ipxe", "");
    set(&run, "always");
    fails(
        &run,
        &Machine::new("ipxe", Firmware::UefiPxe4, 49),
        "left in the middle of the HTTPS handshake",
    );
}
