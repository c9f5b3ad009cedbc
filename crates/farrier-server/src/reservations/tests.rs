//! One set of reservations in four languages, and every kind of fault.

use farrier_engine::lease::Holder;

use super::{Entry, Format, read, render};
use crate::config::{Config, SubnetConfig};

const OURS: &str = "[[interface]]\nname = \"eth0\"\n[[subnet]]\nnetwork = \"10.0.0.0/24\"\n";

fn subnets(text: &str) -> Vec<SubnetConfig> {
    Config::parse(text).unwrap().subnets
}

fn expected(lines: [usize; 2]) -> Vec<Entry> {
    [("10.0.0.20", 1, "lab-01"), ("10.0.0.21", 2, "lab-02")]
        .into_iter()
        .zip(lines)
        .map(|((address, last, name), line)| Entry {
            line,
            address: address.parse().unwrap(),
            holder: Holder::Mac(farrier_proto::MacAddr([0x52, 0x54, 0, 0, 0, last])),
            name: Some(name.to_owned()),
        })
        .collect()
}

#[test]
fn four_servers_files_say_the_same() {
    let dhcpd = r#"# a comment with host x { in it
option domain-name "host y { }";
group {
  host lab-01 { hardware ethernet 52:54:00:00:00:01; fixed-address 10.0.0.20; }
  subnet 10.0.0.0 netmask 255.255.255.0 {
    host lab-02 {
      option host-name "a;b";
      fixed-address 10.0.0.21; hardware ethernet 52:54:0:0:0:2;
    }
    host nowhere { hardware ethernet 52:54:00:00:00:03; }
  }
}
"#
    .replace("52:54:0:0:0:2", "52:54:00:00:00:02");
    let kea = r#"{ // Kea allows comments
  "Dhcp4": { # of three kinds
    "reservations": [ { "hw-address": "52:54:00:00:00:01", "ip-address": "10.0.0.20", "hostname": "lab-01" } ],
    "shared-networks": [ { "subnet4": [ { "reservations": [ /* "not
      this" */ { "hw-address": "52:54:00:00:00:02",
        "ip-address": "10.0.0.21", "hostname": "lab-02" }, { "hw-address": "52:54:00:00:00:03" } ] } ] } ]
  } }"#;
    let dnsmasq = "port=0\ndhcp-host=52:54:00:00:00:01,10.0.0.20,lab-01,12h\n#dhcp-host=x\n\
                   dhcp-host=set:lab,52:54:00:00:00:02,lab-02,10.0.0.21,infinite\ndhcp-host=lab-03,1h\n";
    let csv = "Name;MAC;Address\nlab-01;52:54:00:00:00:01;10.0.0.20\n\n\"lab-02\"; 52-54-00-00-00-02 ;10.0.0.21\n";
    for (format, text, lines) in [
        (Format::Dhcpd, dhcpd.as_str(), [4, 6]),
        (Format::Kea, kea, [3, 6]),
        (Format::Dnsmasq, dnsmasq, [2, 4]),
        (Format::Csv, csv, [2, 4]),
    ] {
        let found = read(format, text, &subnets(OURS));
        assert_eq!(found, Ok(expected(lines)), "{format:?}");
    }
}

#[test]
fn what_is_printed_is_configuration() {
    let ours = subnets(OURS);
    let mut entries = expected([1, 2]);
    entries[1].name = Some("evil\"\n[admin]".to_owned());
    let config = format!("{OURS}{}", render(&entries, &ours));
    let again = subnets(&config);
    assert_eq!(again[0].subnet.reservations.len(), 2, "{config}");
    let faults = read(Format::Csv, "mac,ip\n52:54:00:00:00:01,10.0.0.99\n", &again).unwrap_err();
    assert!(faults[0].what.contains("already"), "{faults:?}");
}

#[test]
fn client_ids_and_ports_are_taken_over_byte_for_byte() {
    let id = |bytes: &[u8]| Holder::ClientId(bytes.to_vec());
    let port = Holder::Port {
        circuit_id: Some(b"ge-1".to_vec()),
        remote_id: None,
    };
    let kea = |name: &str, value: &str| {
        format!("{{\"reservations\":[{{\"ip-address\":\"10.0.0.3\",\"{name}\":\"{value}\"}}]}}")
    };
    let rows = [
        (
            Format::Dnsmasq,
            "dhcp-host=id:1:02:ab,10.0.0.3".to_owned(),
            id(&[1, 2, 0xab]),
        ),
        (
            Format::Dnsmasq,
            "dhcp-host=id:press,10.0.0.3".to_owned(),
            id(b"press"),
        ),
        (
            Format::Dhcpd,
            "host a { option dhcp-client-identifier \"press\"; fixed-address 10.0.0.3; }"
                .to_owned(),
            id(b"press"),
        ),
        (
            Format::Dhcpd,
            "host a { option dhcp-client-identifier 0:aB:3; fixed-address 10.0.0.3; }".to_owned(),
            id(&[0, 0xab, 3]),
        ),
        (Format::Kea, kea("client-id", "0102"), id(&[1, 2])),
        (Format::Kea, kea("client-id", "01:02"), id(&[1, 2])),
        (Format::Kea, kea("circuit-id", "'ge-1'"), port),
        (
            Format::Csv,
            "address,client_id\n10.0.0.3,01:02".to_owned(),
            id(&[1, 2]),
        ),
    ];
    for (format, text, holder) in rows {
        let ours = subnets(OURS);
        let entries = read(format, &text, &ours).unwrap();
        assert_eq!(entries[0].holder, holder, "{text}");
        let config = format!("{OURS}{}", render(&entries, &ours));
        let again = subnets(&config);
        assert_eq!(again[0].subnet.reservations[0].holder, holder, "{config}");
    }
}

#[test]
fn one_fault_and_nothing_is_imported() {
    let good = "52:54:00:00:00:01,10.0.0.20\n";
    for (line, row, what) in [
        (3, "52:54:00:00:00:02,10.0.0.256", "no IPv4 address"),
        (3, "52:54:00:00:00,10.0.0.21", "hardware address"),
        (3, "ff:ff:ff:ff:ff:ff,10.0.0.21", "hardware address"),
        (3, "52:54:00:00:00:02,10.0.0.20", "in line 2 too"),
        (3, "52:54:00:00:00:01,10.0.0.21", "in line 2 too"),
        (3, "52:54:00:00:00:02,10.0.1.21", "no [[subnet]] holds"),
        (3, ",10.0.0.21", "neither"),
    ] {
        let text = format!("mac,address\n{good}{row}\n");
        let faults = read(Format::Csv, &text, &subnets(OURS)).unwrap_err();
        let first = &faults[0];
        assert!(
            first.line == line && first.what.contains(what),
            "{row}: {faults:?}"
        );
    }
    for (format, text, line, what) in [
        (Format::Csv, "10.0.0.1,x\n", 1, "first line"),
        (
            Format::Dnsmasq,
            "\ndhcp-host=id:*,10.0.0.21\n",
            2,
            "client id",
        ),
        (
            Format::Dnsmasq,
            "dhcp-host=52:54:00:00:00:*,10.0.0.21\n",
            1,
            "hardware address",
        ),
        (
            Format::Dhcpd,
            "host a {\n fixed-address h.example; hardware ethernet 52:54:00:00:00:02; }",
            1,
            "no IPv4",
        ),
        (
            Format::Dhcpd,
            "\nhost a { fixed-address 10.0.0.3; }",
            2,
            "no hardware",
        ),
        (
            Format::Dhcpd,
            "host a {\n hardware token-ring 1:2; }",
            1,
            "token-ring",
        ),
        (Format::Kea, "{\n \"Dhcp4\": }", 2, "expected value"),
        (
            Format::Kea,
            "{\"reservations\":[\n{\"ip-address\":\"10.0.0.3\",\"duid\":\"01\"}]}",
            2,
            "is a duid",
        ),
    ] {
        let faults = read(format, text, &subnets(OURS)).unwrap_err();
        let first = &faults[0];
        assert!(
            first.line == line && first.what.contains(what),
            "{text}: {faults:?}"
        );
    }
}

#[test]
fn broken_files_end_in_faults_or_nothing() {
    let pieces = [
        "host",
        " a ",
        "{",
        "}",
        ";",
        "\"",
        "/*",
        "*/",
        "#",
        "\n",
        "dhcp-host=",
        ",",
        "[",
        ":",
        "\\",
    ];
    let mut random = 1_u64;
    for _ in 0..5000 {
        let mut text = String::new();
        for _ in 0..12 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let at = usize::try_from(random >> 33).unwrap() % pieces.len();
            text.push_str(pieces[at]);
        }
        for format in [Format::Csv, Format::Dhcpd, Format::Dnsmasq, Format::Kea] {
            let _ = read(format, &text, &[]);
        }
    }
}
