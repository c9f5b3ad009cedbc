//! The DHCP server before clients of others: what they are told, who gets which address, who else is there.

use std::{fs, net::Ipv4Addr, path::PathBuf};

use anyhow::{Result, ensure};
use farrier_e2e::{Host, Lab, Lan, Relay, Site, clients, lab::until, server::Dnsmasq};

struct Run {
    folder: PathBuf,
    lan: Lan,
    site: Site,
}

fn serving(name: &str, subnet: &str) -> Run {
    let lab = Lab::open().unwrap();
    let folder = lab.scratch(name).unwrap();
    let lan = Lan::new().unwrap();
    let text = format!("{subnet}\n\n[[interface]]\nname = \"eth0\"\nmode = \"dhcp\"\n");
    let site = Site::serving(&lab, lan.server().unwrap(), &folder, &text).unwrap();
    Run { folder, lan, site }
}

impl Run {
    /// A host without an address, and a folder of its own for what its programs write.
    fn client(&self, name: &str) -> (Host, PathBuf) {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder).unwrap();
        (self.lan.host(name, None).unwrap(), folder)
    }
}

/// The hardware address of a host's card.
fn mac(host: &Host) -> String {
    let told = host.ip(["-o", "link", "show", "eth0"]).unwrap();
    let at = told.split("link/ether ").nth(1).unwrap();
    at.split(' ').next().unwrap().to_owned()
}

fn set_mac(host: &Host, mac: &str) {
    host.ip(["link", "set", "eth0", "address", mac]).unwrap();
}

/// The last value of an option in what dhclient wrote down.
fn option<'a>(lease: &'a str, name: &str) -> Option<&'a str> {
    let lines = lease
        .lines()
        .rev()
        .map(|line| line.trim().trim_end_matches(';'));
    lines
        .filter_map(|line| line.strip_prefix("option ").unwrap_or(line).split_once(' '))
        .find_map(|(found, value)| (found == name).then_some(value))
}

/// T9: options by name and by number, from all layers, in what busybox's and ISC's clients understood.
#[test]
fn t9_options_reach_foreign_clients_from_every_layer() {
    let run = serving(
        "dhcp-options",
        r#"[options]
ntp-servers = ["10.77.0.9"]
domain-search = ["all.example", "more.example"]
interface-mtu = 1400
210 = { value = "/all/", send = "always" }

[[class]]
name = "telephones"
when = 'facts.vendor_class.startsWith("phone-")'
options = { tftp-server-name = "10.77.0.5", 43 = { hex = "01:02:03" }, ntp-servers = "10.77.0.5" }

[[subnet]]
network = "10.77.0.0/24"
pools = ["10.77.0.100-10.77.0.199", { range = "10.77.0.220-10.77.0.229", allow = ["telephones"] }]
routers = ["10.77.0.1"]
dns = ["10.77.0.1", "10.77.0.2"]
domain = "lab.example"
lease_seconds = 3600

[subnet.options]
ntp-servers = ["10.77.0.7", "10.77.0.8"]
classless-static-route = ["10.9.0.0/16 via 10.77.0.3"]
224 = { u16 = 513 }
time-offset = -3600

[[subnet.reservation]]
address = "10.77.0.20"
mac = "52:54:00:77:20:20"
options = { ntp-servers = "10.77.0.6", host-name = "kept", domain-search = { send = "never" } }
"#,
    );
    let (client, folder) = run.client("stranger");
    let asks = ["ntpsrv", "search", "staticroutes", "mtu", "224"];
    let asks: Vec<&str> = asks.iter().flat_map(|name| ["-O", *name]).collect();
    let told = clients::udhcpc(&client, &folder, &asks).unwrap();
    assert_eq!(told["ntpsrv"], "10.77.0.7 10.77.0.8", "subnet: {told:?}");
    assert_eq!(told["search"], "all.example more.example", "{told:?}");
    assert_eq!(told["staticroutes"], "10.9.0.0/16 10.77.0.3", "{told:?}");
    assert_eq!(told["mtu"], "1400", "{told:?}");
    assert_eq!(told["opt224"], "0201", "{told:?}");
    assert_eq!(told["dns"], "10.77.0.1 10.77.0.2", "{told:?}");
    assert_eq!(told["domain"], "lab.example", "{told:?}");
    assert_eq!(
        told["pxepathprefix"], "/all/",
        "never asked for, always sent: {told:?}"
    );

    let (telephone, folder) = run.client("telephone");
    let asks = ["-V", "phone-7", "-O", "tftp", "-O", "43", "-O", "ntpsrv"];
    let told = clients::udhcpc(&telephone, &folder, &asks).unwrap();
    assert_eq!(
        told["ip"], "10.77.0.220",
        "the range of its class: {told:?}"
    );
    assert_eq!(told["tftp"], "10.77.0.5", "{told:?}");
    assert_eq!(
        told["ntpsrv"], "10.77.0.5",
        "the class counts more than the subnet: {told:?}"
    );
    let vendor = told.get("opt43").or_else(|| told.get("vendor"));
    assert_eq!(vendor.map(String::as_str), Some("010203"), "{told:?}");

    let (kept, folder) = run.client("kept");
    set_mac(&kept, "52:54:00:77:20:20");
    let lease = clients::dhclient(&kept, &folder).unwrap();
    assert_eq!(
        option(&lease, "fixed-address"),
        Some("10.77.0.20"),
        "{lease}"
    );
    assert_eq!(option(&lease, "ntp-servers"), Some("10.77.0.6"), "{lease}");
    assert_eq!(option(&lease, "time-offset"), Some("-3600"), "{lease}");
    assert_eq!(option(&lease, "host-name"), Some("\"kept\""), "{lease}");
    assert_eq!(option(&lease, "domain-search"), None, "taken back: {lease}");
    assert_eq!(option(&lease, "interface-mtu"), Some("1400"), "{lease}");
    assert_eq!(option(&lease, "routers"), Some("10.77.0.1"), "{lease}");
    let routes = "16,10,9,10,77,0,3";
    assert_eq!(
        option(&lease, "rfc3442-classless-static-routes"),
        Some(routes),
        "{lease}"
    );
    assert_eq!(option(&lease, "dhcp-lease-time"), Some("3600"), "{lease}");

    // The dry run says which place each of them comes from.
    let said = ["policy", "explain", "--mac", "52:54:00:77:20:20"];
    let said = [&said[..], &["--firmware", "bios"]].concat();
    let explained = run.site.farrier(&said).unwrap();
    for line in [
        "option ntp-servers (42) = 10.77.0.6, from reservation",
        "option time-offset (2) = -3600, from subnet",
        "option interface-mtu (26) = 1400, from all networks",
    ] {
        assert!(explained.contains(line), "{line} in\n{explained}");
    }
    assert!(!explained.contains("domain-search"), "{explained}");
}

/// T9: what each architecture is told on the wire: options 1, 3, 6, 15, 43, 54, 60, 66, 67, and 93 understood.
#[test]
fn t9_boot_information_by_architecture() {
    let run = serving(
        "dhcp-architectures",
        "[[subnet]]\nnetwork = \"10.77.0.0/24\"\npools = [\"10.77.0.100-10.77.0.199\"]\n\
         routers = [\"10.77.0.1\"]\ndns = [\"10.77.0.2\"]\ndomain = \"lab.example\"\n",
    );
    let rows = [
        (0, "PXEClient:Arch:00000:UNDI:002001", "undionly"),
        (7, "PXEClient:Arch:00007:UNDI:003016", ".efi"),
        (
            16,
            "HTTPClient:Arch:00016:UNDI:003001",
            "http://10.77.0.1:8067/",
        ),
    ];
    for (arch, class, file) in rows {
        let (client, folder) = run.client(&format!("arch{arch}"));
        let configuration = format!(
            "option arch code 93 = unsigned integer 16;\n\
             send vendor-class-identifier \"{class}\";\nsend arch {arch};\n\
             request subnet-mask, routers, domain-name-servers, domain-name, vendor-encapsulated-options,\n\
             vendor-class-identifier, tftp-server-name, bootfile-name;\n"
        );
        let lease = clients::dhclient_with(&client, &folder, &configuration).unwrap();
        assert_eq!(
            option(&lease, "subnet-mask"),
            Some("255.255.255.0"),
            "{lease}"
        );
        assert_eq!(option(&lease, "routers"), Some("10.77.0.1"), "{lease}");
        assert_eq!(
            option(&lease, "domain-name-servers"),
            Some("10.77.0.2"),
            "{lease}"
        );
        assert_eq!(
            option(&lease, "domain-name"),
            Some("\"lab.example\""),
            "{lease}"
        );
        assert_eq!(
            option(&lease, "dhcp-server-identifier"),
            Some("10.77.0.1"),
            "{lease}"
        );
        assert_eq!(
            option(&lease, "tftp-server-name"),
            Some("\"10.77.0.1\""),
            "{lease}"
        );
        let named = option(&lease, "bootfile-name").unwrap_or_default();
        assert!(named.contains(file), "{arch}: {lease}");
        let echoed = option(&lease, "vendor-class-identifier");
        let expected = (arch == 16).then_some("\"HTTPClient\"");
        assert_eq!(
            echoed, expected,
            "edk2 wants it for HTTP, and it binds PXE to port 4011: {lease}"
        );
    }
}

/// T8: beside a competing DHCP server clients get on with either, and the one that is not chosen keeps nothing.
#[test]
fn t8_a_competing_dhcp_server_and_both_work() {
    let run = serving(
        "dhcp-competing",
        "[[subnet]]\nnetwork = \"10.77.0.0/24\"\npools = [\"10.77.0.100-10.77.0.199\"]\n",
    );
    let other = run.lan.other().unwrap();
    let foreign = Dnsmasq::addresses(Ipv4Addr::new(10, 77, 0, 50), Ipv4Addr::new(10, 77, 0, 60));
    let _foreign = foreign.start(&other, &run.folder).unwrap();

    let (ours, folder) = run.client("ours");
    let lease = clients::dhclient_with(&ours, &folder, "reject 10.77.0.2;\n").unwrap();
    assert_eq!(
        option(&lease, "dhcp-server-identifier"),
        Some("10.77.0.1"),
        "{lease}"
    );
    let address = option(&lease, "fixed-address").unwrap().to_owned();
    assert!(address.starts_with("10.77.0.1"), "{lease}");

    let (theirs, folder) = run.client("theirs");
    let lease = clients::dhclient_with(&theirs, &folder, "reject 10.77.0.1;\n").unwrap();
    assert_eq!(
        option(&lease, "dhcp-server-identifier"),
        Some("10.77.0.2"),
        "{lease}"
    );

    // Both servers hear what the client chose, each in its own time.
    until("that its offer is freed", || {
        let status = run.site.get("status").unwrap();
        status["boot"]["chose_other_server"].as_u64() >= Some(1)
    })
    .unwrap();
    let leases = run.site.get("leases").unwrap().to_string();
    assert!(leases.contains(&address), "{leases}");
    assert!(!leases.contains(&mac(&theirs)), "{leases}");
}

/// T11: two servers with boot files, one so late that ours is first on any machine: the client takes the file of that
/// one.
#[test]
fn t11_the_server_that_answers_first_is_used() {
    let run = serving(
        "dhcp-first",
        "[[subnet]]\nnetwork = \"10.77.0.0/24\"\npools = [\"10.77.0.100-10.77.0.199\"]\n",
    );
    let other = run.lan.other().unwrap();
    let foreign = Dnsmasq::addresses(Ipv4Addr::new(10, 77, 0, 50), Ipv4Addr::new(10, 77, 0, 60));
    let _foreign = foreign
        .with("--dhcp-boot=late.0")
        .with("--dhcp-reply-delay=8")
        .start(&other, &run.folder)
        .unwrap();
    let pcap = run.folder.join("wire.pcap");
    let recording = run.lan.record(&pcap).unwrap();
    let (client, folder) = run.client("client");
    let class = "PXEClient:Arch:00000:UNDI:002001";
    let told = clients::udhcpc(&client, &folder, &["-V", class, "-O", "bootfile"]).unwrap();
    assert_eq!(told["serverid"], "10.77.0.1", "{told:?}");
    assert!(told["boot_file"].contains("undionly"), "{told:?}");
    // The other one's offer is on its way still.
    recording.wait_for("the late offer", b"late.0").unwrap();
    recording.finish().unwrap();
    let mut dump = client.command("tcpdump");
    dump.arg("-vnr").arg(&pcap);
    let shown = String::from_utf8(dump.output().unwrap().stdout).unwrap();
    let first = shown.find("Server-ID (54), length 4: 10.77.0.1").unwrap();
    let late = shown.find("late.0").unwrap();
    assert!(first < late, "{shown}");
}

/// RFC 2131 2.2: an address that somebody answers for is not offered; on our own wire, where the next subnet of a
/// shared network helps out, and behind a relay, where reservations go by the circuit id.
#[test]
fn rfc2131_2_2_an_address_in_use_is_not_offered() {
    // The server listens for 150 ms to whoever has an address, and offers it if it has heard nobody, as it must:
    // clients do not wait for longer. A busy machine can keep it from listening for all of that, but not each time.
    is_not_offered()
        .or_else(|_| is_not_offered())
        .or_else(|_| is_not_offered())
        .unwrap();
}

fn is_not_offered() -> Result<()> {
    let (lab, near) = (Lab::open().unwrap(), Lan::new().unwrap());
    let folder = lab.scratch("dhcp-in-use").unwrap();
    let host = near.server().unwrap();
    let relay = Relay::new(&near, &[&host]).unwrap();
    let far = &relay.far;
    let site = Site::serving(
        &lab,
        host,
        &folder,
        r#"[[interface]]
name = "eth0"
mode = "dhcp"

[[shared_network]]
name = "near"

[[subnet]]
network = "10.77.0.0/24"
shared_network = "near"
pools = ["10.77.0.100-10.77.0.101"]

[[subnet]]
network = "10.76.0.0/24"
shared_network = "near"
pools = ["10.76.0.100-10.76.0.199"]

[[subnet]]
network = "10.78.0.0/24"
pools = ["10.78.0.100-10.78.0.199"]
routers = ["10.78.0.1"]

[[subnet.reservation]]
address = "10.78.0.50"
circuit_id = "eth1"
"#,
    )
    .unwrap();
    let client = |lan: &Lan, name: &str| {
        let own = folder.join(name);
        fs::create_dir_all(&own).unwrap();
        let host = lan.host(name, None).unwrap();
        clients::udhcpc(&host, &own, &[]).unwrap()["ip"].clone()
    };
    let states = || -> Vec<(String, String)> {
        let leases = site.get("leases").unwrap();
        let all = leases.as_array().unwrap().iter();
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        all.map(|lease| (text(&lease["ip"]), text(&lease["state"])))
            .collect()
    };
    let set_aside = |ip: &str| states().contains(&(ip.to_owned(), "declined".to_owned()));
    let gets = |lan: &Lan, name: &str, expected: &str, why: &str| {
        let got = client(lan, name);
        ensure!(got == expected, "{name} got {got}, {why}\n{}", site.log());
        Ok(())
    };

    let _squatter = near
        .host("squatter", Some(Ipv4Addr::new(10, 77, 0, 100)))
        .unwrap();
    gets(&near, "first", "10.77.0.101", "the first one is in use")?;
    assert!(set_aside("10.77.0.100"), "{:?}\n{}", states(), site.log());
    gets(
        &near,
        "second",
        "10.76.0.100",
        "the next subnet of the wire",
    )?;

    let listed = site
        .farrier(&[
            "lease",
            "list",
            "--state",
            "declined",
            "--subnet",
            "10.77.0.0/24",
        ])
        .unwrap();
    assert!(
        listed.contains("10.77.0.100") && !listed.contains("10.77.0.101"),
        "{listed}"
    );
    site.farrier(&["lease", "release", "10.77.0.100", "--yes"])
        .unwrap();
    assert!(!set_aside("10.77.0.100"), "{:?}", states());
    let _dhcrelay = relay.start(&lab, &folder).unwrap();
    let far_squatter = far
        .host("squatter", Some(Ipv4Addr::new(10, 78, 0, 100)))
        .unwrap();
    far_squatter
        .ip(["route", "add", "default", "via", "10.78.0.1"])
        .unwrap();
    let third = client(far, "third");
    assert_eq!(third, "10.78.0.50", "whatever is behind this circuit");
    gets(far, "fourth", "10.78.0.101", "the first one is in use")?;
    assert!(set_aside("10.78.0.100"), "{:?}", states());
    Ok(())
}
