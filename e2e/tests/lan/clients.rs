//! Foreign clients against the real server: no firmware, but nobody's code of ours on the other side either.

use std::{fs, net::Ipv4Addr, path::PathBuf};

use farrier_e2e::{Host, Lab, Lan, Mode, Site, clients};

struct Run {
    folder: PathBuf,
    client: Host,
    site: Site,
    _lan: Lan,
}

fn run(name: &str) -> Run {
    let lab = Lab::open().unwrap();
    let folder = lab.scratch(name).unwrap();
    let lan = Lan::new().unwrap();
    let site = Site::start(&lab, lan.server().unwrap(), &folder, Mode::Dhcp).unwrap();
    let client = lan
        .host("client", Some(Ipv4Addr::new(10, 77, 0, 10)))
        .unwrap();
    Run {
        folder,
        client,
        site,
        _lan: lan,
    }
}

impl Run {
    fn server(&self) -> Ipv4Addr {
        self.site.host().address().unwrap()
    }
}

/// T8: DISCOVER to ACK with two foreign clients; the lease is in the API and survives SIGKILL.
#[test]
fn t8_udhcpc_and_dhclient_get_leases_that_survive_a_kill() {
    let mut run = run("clients-dhcp");
    let told = clients::udhcpc(&run.client, &run.folder, &[]).unwrap();
    assert!(told["ip"].starts_with("10.77.0.1"), "{told:?}");
    assert_eq!(told["router"], "10.77.0.1", "{told:?}");
    assert_eq!(told["lease"], "3600", "{told:?}");
    let again = clients::dhclient(&run.client, &run.folder).unwrap();
    assert!(
        again.contains(&format!("fixed-address {}", told["ip"])),
        "the same machine, the same address: {again}"
    );
    let before = run.site.get("leases").unwrap().to_string();
    assert!(before.contains(&told["ip"]), "{before}");
    run.site.kill();
    run.site.resume().unwrap();
    let after = run.site.get("leases").unwrap().to_string();
    assert!(after.contains(&told["ip"]), "{after}");
    let renewed = clients::udhcpc(&run.client, &run.folder, &[]).unwrap();
    assert_eq!(renewed["ip"], told["ip"]);
}

/// F2: the same bytes by every client, block size and window size.
#[test]
fn f2_tftp_clients_get_every_byte() {
    let run = run("clients-tftp");
    let (name, bytes) = run.site.loader().unwrap();
    let target = run.folder.join("fetched");
    // It negotiates nothing, and such requests count from hosts only that have spoken DHCP of late (T8).
    clients::udhcpc(&run.client, &run.folder, &[]).unwrap();
    clients::tftp_hpa(&run.client, run.server(), &name, &target).unwrap();
    assert!(fs::read(&target).unwrap() == bytes, "tftp-hpa");
    for options in [
        &["blksize 8"][..],
        &["blksize 512"],
        &["blksize 1024", "tsize 0"],
        &["blksize 1428", "timeout 2"],
        &["blksize 1468", "windowsize 4"],
        &["blksize 1468", "windowsize 64"],
        &["blksize 65464", "windowsize 16"],
    ] {
        let _ = fs::remove_file(&target);
        clients::atftp(&run.client, run.server(), &name, &target, options).unwrap();
        assert!(fs::read(&target).unwrap() == bytes, "atftp {options:?}");
    }
    let url = format!("tftp://{}/{name}", run.server());
    let mut curl = run.client.command("curl");
    curl.args([
        "--silent",
        "--show-error",
        "--tftp-blksize",
        "1400",
        "--output",
    ])
    .arg(&target)
    .arg(&url);
    assert!(curl.status().unwrap().success());
    assert!(fs::read(&target).unwrap() == bytes, "curl");
}

/// T7 of the threat model: names that try to leave the tree find nothing, and no file of the server appears.
#[test]
fn t7_names_lead_nowhere_but_into_the_catalogue() {
    let run = run("clients-names");
    let target = run.folder.join("fetched");
    for name in [
        "../../etc/passwd",
        "/etc/passwd",
        "boot/../../farrier.toml",
        "..\\..\\farrier.toml",
        "boot/ipxe-undionly-bios/../x",
    ] {
        let _ = fs::remove_file(&target);
        let fetched = clients::tftp_hpa(&run.client, run.server(), name, &target);
        let got = fs::read(&target).unwrap_or_default();
        assert!(
            fetched.is_err() || got.is_empty(),
            "{name} gave {} bytes",
            got.len()
        );
    }
    for path in [
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/boot/agent/x/../../../ca/root.key",
        "/api/v1/machines",
        "/agent/v1/work",
    ] {
        let url = format!("http://{}:8067{path}", run.server());
        let answer = clients::curl(
            &run.client,
            &[
                "--path-as-is",
                "--output",
                "/dev/null",
                "--write-out",
                "%{http_code}",
            ],
            &url,
        )
        .unwrap();
        assert_eq!(answer, "404", "{path}");
    }
}

/// Z18: kernel and initial RAM disk by HTTP with ranges; an interrupted download resumes; HEAD says the same.
#[test]
fn z18_http_ranges_and_head() {
    let run = run("clients-http");
    let (name, bytes) = run.site.loader().unwrap();
    let url = format!("http://{}:8067/{name}", run.server());
    let target = run.folder.join("fetched");
    let output = target.display().to_string();
    fs::write(&target, &bytes[..10_000]).unwrap();
    clients::curl(
        &run.client,
        &["--fail", "--continue-at", "-", "--output", &output],
        &url,
    )
    .unwrap();
    assert_eq!(fs::read(&target).unwrap(), bytes, "resumed");
    let head = clients::curl(&run.client, &["--head", "--fail"], &url).unwrap();
    assert!(
        head.to_lowercase()
            .contains(&format!("content-length: {}", bytes.len())),
        "{head}"
    );
    assert!(!head.to_lowercase().contains("transfer-encoding"), "{head}");
    let double = format!("http://{}:8067//{}", run.server(), name.replace('/', "//"));
    clients::curl(&run.client, &["--fail", "--output", &output], &double).unwrap();
    assert_eq!(
        fs::read(&target).unwrap(),
        bytes,
        "double slashes are cleaned, not redirected"
    );
}

/// X3: planted secrets never show in boot traffic, whoever asks.
#[test]
fn x3_nothing_secret_before_enrolment() {
    let run = run("clients-secrets");
    let secrets = [
        fs::read_to_string(run.site.data().join("admin.token"))
            .unwrap()
            .trim()
            .to_owned(),
        fs::read_to_string(run.site.data().join("ca/root.key"))
            .unwrap()
            .lines()
            .nth(1)
            .unwrap()
            .to_owned(),
    ];
    let first = clients::curl(
        &run.client,
        &["--fail"],
        &format!("http://{}:8067/boot/first.ipxe", run.server()),
    )
    .unwrap();
    let mac = "52:54:00:77:00:63";
    let script = clients::own_script(&run.client, run.server(), mac).unwrap();
    assert!(script.contains("farrier.token="), "{script}");
    for secret in &secrets {
        assert!(!first.contains(secret) && !script.contains(secret));
    }
}

/// Kea's load generator drives DISCOVER to ACK without loss, each ACK durable.
#[test]
fn perfdhcp_drives_leases_without_loss() {
    let run = run("clients-perfdhcp");
    let load = ["-r", "50", "-n", "150", "-R", "40"];
    let report = clients::perfdhcp(&run.client, &load).unwrap();
    assert!(report.contains("REQUEST-ACK"), "{report}");
    let leases = run.site.get("leases").unwrap();
    assert!(
        leases.to_string().matches("10.77.0.1").count() >= 30,
        "{leases}"
    );
}

/// A Raspberry Pi 4 loses TFTP blocks above 1024 bytes and asks for larger ones all the same.
#[test]
fn quirk_devices_that_lose_large_blocks_get_small_ones() {
    let run = run("clients-quirk");
    let (name, bytes) = run.site.loader().unwrap();
    let target = run.folder.join("fetched");
    run.client
        .ip(["link", "set", "eth0", "address", "dc:a6:32:00:77:01"])
        .unwrap();
    let class = "PXEClient:Arch:00041:UNDI:003000";
    clients::udhcpc(&run.client, &run.folder, &["-V", class, "-x", "0x5d:0029"]).unwrap();
    let mut curl = run.client.command("curl");
    curl.args(["--verbose", "--tftp-blksize", "1400", "--output"])
        .arg(&target)
        .arg(format!("tftp://{}/{name}", run.server()));
    let output = curl.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("got option=(blksize) value=(1024)"), "{said}");
    assert!(fs::read(&target).unwrap() == bytes);
}
