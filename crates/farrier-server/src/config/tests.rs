//! Good files, and every kind of fault.

use farrier_engine::address6::Holder6;
use farrier_engine::lease::Holder;

use super::{Config, EXAMPLE, Mode, TftpConfig};

#[test]
fn the_example_is_valid_and_shows_the_defaults() {
    let shown = Config::parse(EXAMPLE).unwrap();
    let defaults = Config::parse("[[interface]]\nname = \"eth0\"\n").unwrap();
    assert_eq!(shown.data_dir, defaults.data_dir);
    assert_eq!(shown.boot_http_port, defaults.boot_http_port);
    assert_eq!(shown.end_ipv6_wait, defaults.end_ipv6_wait);
    assert_eq!(shown.agent_port, defaults.agent_port);
    assert_eq!(shown.admin, defaults.admin);
    assert_eq!(shown.interfaces, defaults.interfaces);
    assert_eq!(
        shown.subnets[0].subnet.lease_time.as_secs(),
        u64::from(super::DEFAULT_LEASE_SECONDS)
    );
    assert_eq!(defaults.interfaces[0].mode, Mode::Proxy);
    assert_eq!(defaults.tftp, TftpConfig::default(), "multicast is off");
    assert_eq!(defaults.boot_tls, None, "HTTPS is off");
    let tables = "[tftp.multicast]\n[tftp.mtftp]\n[[interface]]\nname = \"eth0\"\n";
    assert_eq!(shown.tftp, Config::parse(tables).unwrap().tftp);
}

#[test]
fn z7_mtftp_is_told_where_the_configuration_says() {
    let told = |networks: &str, link: [u8; 4]| {
        let text = format!("[[interface]]\nname = \"eth0\"\n[tftp.mtftp]\n{networks}\n");
        let config = Config::parse(&text).unwrap();
        config.tftp.mtftp.unwrap().serves(link.into())
    };
    assert!(told("", [10, 0, 1, 1]));
    let one = "networks = [\"10.0.0.0/24\"]";
    assert!(told(one, [10, 0, 0, 9]) && !told(one, [10, 0, 1, 1]));
    assert!(!told("networks = []", [10, 0, 0, 9]));
}

#[test]
fn every_fault_of_https_is_told_at_once() {
    let text = r#"[boot.tls]
port = 8067
key = "dsa"
certificate = "/etc/boot.pem"
host = "10.0.0.1"
names = ["boot.example.org", "no name"]
[[interface]]
name = "eth0"
"#;
    let faults = Config::parse(text).unwrap_err();
    let seen: Vec<_> = faults.iter().map(|f| (f.key.as_str(), f.line)).collect();
    assert_eq!(
        seen,
        [
            ("boot.tls.port", Some(2)),
            ("boot.tls.host", Some(5)),
            ("boot.tls.key", Some(3)),
            ("boot.tls.private_key", Some(4)),
            ("boot.tls.names[1]", Some(6)),
        ]
    );
    let on = Config::parse("[boot.tls]\n[[interface]]\nname = \"eth0\"\n").unwrap();
    assert_eq!(on.boot_tls, Config::parse(EXAMPLE).unwrap().boot_tls);
    assert_eq!(on.boot_tls.unwrap().port, 443);
}

#[test]
fn groups_are_multicast_addresses_of_our_own() {
    for (groups, fault) in [
        ("239.1.2.3", None),
        ("10.0.0.1-10.0.0.2", Some("no range of multicast")),
        ("224.0.0.1-224.0.0.9", Some("routers")),
        ("239.0.0.0-239.0.4.0", Some("more than 256")),
        ("239.0.0.9-239.0.0.1", Some("before it begins")),
        ("239.255.67.70", Some("shares addresses")),
    ] {
        let text = format!(
            "[[interface]]\nname = \"eth0\"\n[tftp.mtftp]\n[tftp.multicast]\ngroups = \"{groups}\"\n"
        );
        let faults = Config::parse(&text).err().unwrap_or_default();
        let told = faults.first().map(|fault| fault.what.as_str());
        match fault {
            None => assert_eq!(told, None, "{groups}"),
            Some(part) => assert!(
                told.is_some_and(|what| what.contains(part)),
                "{groups}: {told:?}"
            ),
        }
    }
}

#[test]
fn every_fault_is_reported_at_once_with_key_and_line() {
    let text = r#"data_dir = "var"
[boot]
http_port = 0
[[interface]]
name = "eth0"
mode = "server"
[[interface]]
name = "eth0"
[[subnet]]
network = "10.0.0.0"
[[subnet]]
network = "10.1.0.0/24"
pools = ["10.1.0.9-10.1.0.x", "10.2.0.1-10.2.0.9"]
lease_seconds = 5
[[subnet.reservation]]
address = "10.1.0.4"
"#;
    let faults = Config::parse(text).unwrap_err();
    let seen: Vec<_> = faults.iter().map(|f| (f.key.as_str(), f.line)).collect();
    for expected in [
        ("data_dir", None),
        ("boot.http_port", Some(3)),
        ("interface[0].mode", Some(6)),
        ("interface[1].name", Some(8)),
        ("subnet[0].network", Some(10)),
        ("subnet[1].pools[0]", Some(13)),
        ("subnet[1].lease_seconds", Some(14)),
        ("subnet[1].reservation[0]", Some(16)),
    ] {
        assert!(
            seen.contains(&expected),
            "{expected:?} is not among {seen:?}"
        );
    }
    assert!(faults.iter().all(|f| !f.remedy.is_empty()));
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let faults = Config::parse("[boot]\nhttp_prot = 80\n").unwrap_err();
    assert_eq!(faults.len(), 1);
    assert_eq!(
        (faults[0].key.as_str(), faults[0].line),
        ("boot.http_prot", Some(2))
    );
    assert!(
        faults[0].what.contains("unknown field"),
        "{}",
        faults[0].what
    );
}

#[test]
fn a_wrong_type_is_named_with_its_line() {
    let faults =
        Config::parse("[[interface]]\nname = \"eth0\"\n[agent]\nport = \"many\"\n").unwrap_err();
    assert_eq!(
        (faults[0].key.as_str(), faults[0].line),
        ("agent.port", Some(4))
    );
}

#[test]
fn overlapping_subnets_are_refused() {
    let text = "[[interface]]\nname = \"eth0\"\n[[subnet]]\nnetwork = \"10.0.0.0/16\"\n[[subnet]]\nnetwork = \"10.0.5.0/24\"\n";
    let faults = Config::parse(text).unwrap_err();
    assert_eq!(
        (faults[0].key.as_str(), faults[0].line),
        ("subnet[1].network", Some(6))
    );
}

#[test]
fn ipv6_networks_and_their_faults() {
    let text = |networks: &[&str]| {
        let each = networks
            .iter()
            .map(|n| format!("[[subnet6]]\nnetwork = {n:?}\n"));
        format!(
            "[[interface]]\nname = \"eth0\"\n{}",
            each.collect::<String>()
        )
    };
    let config = Config::parse(&text(&["fd77::/64", "fd78::/64"])).unwrap();
    assert!(
        config.subnets6[0]
            .prefix
            .contains("fd77::9".parse().unwrap())
    );
    assert!(
        !config.subnets6[0].router_advertisement,
        "off unless asked for"
    );
    for bad in [
        "fd77::",
        "fd77::/48",
        "fd77::1/64",
        "fe80::/64",
        "ff02::/64",
        "10.0.0.0/64",
    ] {
        let faults = Config::parse(&text(&[bad])).unwrap_err();
        assert_eq!(
            (faults[0].key.as_str(), faults[0].line),
            ("subnet6[0].network", Some(4)),
            "{bad}"
        );
    }
    let faults = Config::parse(&text(&["fd77::/64", "fd77::/64"])).unwrap_err();
    assert_eq!(
        (faults[0].key.as_str(), faults[0].line),
        ("subnet6[1].network", Some(6))
    );
}

#[test]
fn ipv6_reservations_and_their_faults() {
    let text = |kept: &str| {
        format!(
            "[[interface]]\nname = \"eth0\"\n[[subnet6]]\nnetwork = \"fd77::/64\"\n\
             [[subnet6.reservation]]\naddress = \"fd77::20\"\nmac = \"52:54:00:12:34:56\"\n{kept}"
        )
    };
    let another = |address: &str, holder: &str| {
        text(&format!(
            "[[subnet6.reservation]]\naddress = {address:?}\n{holder}"
        ))
    };
    let duid = "duid = \"00:03:00:01:52:54:00:12:34:57\"";
    let config = Config::parse(&another("fd77::21", duid)).unwrap();
    let reserved = &config.subnets6[0].reserved;
    let bytes = vec![0, 3, 0, 1, 0x52, 0x54, 0, 0x12, 0x34, 0x57];
    let holder = reserved.holder("fd77::21".parse().unwrap());
    assert_eq!(holder, Some(&Holder6::Duid(bytes)));
    let uuid = "uuid = \"11111111-2222-3333-4444-555555555551\"";
    Config::parse(&another("fd77::21", uuid)).unwrap();
    for (address, holder, key, said) in [
        ("fd77::20", duid, "", "the address is kept"),
        ("fd77::21", "mac = \"52:54:00:12:34:56\"", "", "same client"),
        ("fd78::21", duid, ".address", "not in this network"),
        ("fd77::", duid, ".address", "not in this network"),
        ("10.0.0.1", duid, ".address", "10.0.0.1"),
        ("fd77::21", "", "", "exactly one"),
        ("fd77::21", "duid = \"\"", ".duid", "from 1 to 255"),
    ] {
        let faults = Config::parse(&another(address, holder)).unwrap_err();
        let expected = format!("subnet6[0].reservation[1]{key}");
        assert_eq!(faults[0].key, expected, "{address} {holder}");
        assert!(faults[0].what.contains(said), "{}", faults[0].what);
    }
}

#[test]
fn rarp_is_for_who_lends_addresses() {
    let with = |mode: &str| {
        Config::parse(&format!(
            "[[interface]]\nname = \"eth0\"\nmode = \"{mode}\"\nrarp = true\n"
        ))
    };
    assert!(with("dhcp").unwrap().interfaces[0].rarp);
    for mode in ["proxy", "port4011"] {
        let faults = with(mode).unwrap_err();
        assert_eq!(
            (faults[0].key.as_str(), faults[0].line),
            ("interface[0].rarp", Some(4))
        );
    }
}

#[test]
fn classes_shared_networks_and_reservations_by_any_evidence() {
    let text = r#"
[options]
ntp-servers = "10.0.0.1"
log-servers = "10.0.0.1"
[[interface]]
name = "eth0"
[[class]]
name = "phones"
when = 'facts.vendor_class.startsWith("Phone")'
options = { vendor-encapsulated-options = "01:02", tftp-server-name = "10.0.0.7" }
[[class]]
name = "guests"
when = "!machine.known"
[[shared_network]]
name = "hall"
options = { ntp-servers = "10.0.0.2" }
[[subnet]]
network = "10.0.0.0/24"
shared_network = "hall"
probe = false
pools = ["10.0.0.10-10.0.0.19", { range = "10.0.0.20-10.0.0.29", allow = ["phones"], deny = ["guests"] }]
[[subnet.reservation]]
address = "10.0.0.5"
client_id = "01:02"
[[subnet.reservation]]
address = "10.0.0.6"
circuit_id = "ge-1"
remote_id = "0x00ff"
[[subnet]]
network = "10.0.1.0/24"
shared_network = "hall"
options = { ntp-servers = "10.0.0.3" }
"#;
    let config = Config::parse(text).unwrap();
    let [first, second] = config.subnets.as_slice() else {
        panic!("{config:?}")
    };
    let ntp = |subnet: &super::SubnetConfig| subnet.options.find(42).unwrap().value[3];
    assert_eq!((ntp(first), ntp(second)), (2, 3), "the nearer one counts");
    assert_eq!(second.options.find(7).unwrap().value, [10, 0, 0, 1]);
    assert_eq!((first.probe, second.probe), (false, true));
    assert_eq!(first.subnet.shared, second.subnet.shared);
    assert_eq!(first.subnet.ranges.len(), 1);
    let kept = first.subnet.class_ranges[0].admits;
    assert!(kept.allow.contains(0) && kept.deny.contains(1));
    assert_eq!(config.classes[0].options.find(43).unwrap().value, [1, 2]);
    let holders: Vec<_> = first
        .subnet
        .reservations
        .iter()
        .map(|r| &r.holder)
        .collect();
    assert_eq!(*holders[0], Holder::ClientId(vec![1, 2]));
    let port = Holder::Port {
        circuit_id: Some(b"ge-1".to_vec()),
        remote_id: Some(vec![0, 0xff]),
    };
    assert_eq!(*holders[1], port);
}

#[test]
fn faults_of_classes_pools_and_evidence_are_told_together() {
    let text = r#"
[[interface]]
name = "eth0"
[[class]]
name = "a b"
when = "true"
[[class]]
name = "open"
when = "facts.colour == 1 ||"
[[class]]
name = "odd"
when = "fact.mac == ''"
[[subnet]]
network = "10.0.0.0/24"
shared_network = "cellar"
pools = [{ range = "10.0.0.1-10.0.0.9", allow = ["nobody"] }, { allow = [] }, 7]
routers = ["10.0.0.1"]
options = { routers = "10.0.0.2" }
[[subnet.reservation]]
address = "10.0.0.5"
client_id = "0xzz"
[[subnet.reservation]]
address = "10.0.0.6"
mac = "52:54:00:00:00:01"
circuit_id = "x"
[[subnet.reservation]]
address = "10.0.0.7"
remote_id = ""
"#;
    let faults = Config::parse(text).unwrap_err();
    let seen: Vec<_> = faults.iter().map(|f| f.key.as_str()).collect();
    for expected in [
        "class[0].name",
        "class[1].when",
        "class[2].when",
        "subnet[0].shared_network",
        "subnet[0].pools[0]",
        "subnet[0].pools[1]",
        "subnet[0].pools[2]",
        "subnet[0].routers",
        "subnet[0].reservation[0].client_id",
        "subnet[0].reservation[1]",
        "subnet[0].reservation[2].remote_id",
    ] {
        assert!(seen.contains(&expected), "{expected} is not in {faults:#?}");
    }
    assert!(
        faults
            .iter()
            .all(|f| f.line.is_some() && !f.remedy.is_empty())
    );
}
