//! Good files, and every kind of fault.

use super::{Config, EXAMPLE, Mode, TftpConfig};

#[test]
fn the_example_is_valid_and_shows_the_defaults() {
    let shown = Config::parse(EXAMPLE).unwrap();
    let defaults = Config::parse("[[interface]]\nname = \"eth0\"\n").unwrap();
    assert_eq!(shown.data_dir, defaults.data_dir);
    assert_eq!(shown.boot_http_port, defaults.boot_http_port);
    assert_eq!(shown.agent_port, defaults.agent_port);
    assert_eq!(shown.admin, defaults.admin);
    assert_eq!(shown.interfaces, defaults.interfaces);
    assert_eq!(
        shown.subnets[0].subnet.lease_time.as_secs(),
        u64::from(super::DEFAULT_LEASE_SECONDS)
    );
    assert_eq!(defaults.interfaces[0].mode, Mode::Proxy);
    assert_eq!(defaults.tftp, TftpConfig::default(), "multicast is off");
    let tables = "[tftp.multicast]\n[tftp.mtftp]\n[[interface]]\nname = \"eth0\"\n";
    assert_eq!(shown.tftp, Config::parse(tables).unwrap().tftp);
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
