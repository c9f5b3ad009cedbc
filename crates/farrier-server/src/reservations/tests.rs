//! One set of reservations in four languages, and every kind of fault.

use farrier_engine::lease::Holder;
use farrier_proto::MacAddr;

use super::{Entry, Fault, Format, read, render};
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
            holder: Holder::Mac(MacAddr([0x52, 0x54, 0, 0, 0, last])),
            name: Some(name.to_owned()),
        })
        .collect()
}

/// One set of reservations in each language, and the lines they stand in.
fn good() -> [(Format, String, [usize; 2]); 4] {
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
    [
        (Format::Dhcpd, dhcpd, [4, 6]),
        (Format::Kea, kea.to_owned(), [3, 6]),
        (Format::Dnsmasq, dnsmasq.to_owned(), [2, 4]),
        (Format::Csv, csv.to_owned(), [2, 4]),
    ]
}

#[test]
fn four_servers_files_say_the_same() {
    for (format, text, lines) in good() {
        let found = read(format, &text, &subnets(OURS));
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
            2,
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
        is_told(format, text, line, what);
    }
}

/// The first fault is in this line, and says this among other things.
fn is_told(format: Format, text: &str, line: usize, what: &str) {
    let faults = read(format, text, &subnets(OURS)).unwrap_err();
    let first = &faults[0];
    let told = first.line == line && first.what.contains(what);
    assert!(told, "{text}: {faults:?}");
}

#[test]
fn a_brace_or_semicolon_too_few_or_too_many_is_a_fault_of_its_line() {
    let (a, b) = (
        "hardware ethernet 52:54:00:00:00:01; fixed-address 10.0.0.1;",
        "hardware ethernet 52:54:00:00:00:02; fixed-address 10.0.0.2;",
    );
    for (text, line, what) in [
        (
            format!("\nhost a {{ {a}\nhost b {{ {b} }}\n"),
            2,
            "does not end",
        ),
        (
            format!("host a {{ {a}\nhost b {{ {b} }}\n}}\n"),
            2,
            "host b stands inside of host a",
        ),
        (format!("group {{\n host a {{ {a} }}\n"), 1, "does not end"),
        (format!("host a {{ {a} }}\n}}\n"), 2, "ends no block"),
        (format!("host a\n {a} }}\n"), 1, "write the {"),
        (
            "host a {\n hardware ethernet 52:54:00:00:00:01; }\n fixed-address 10.0.0.1; }"
                .to_owned(),
            3,
            "directly in the block",
        ),
        (
            "host a { if known {\n fixed-address 10.0.0.1; } }".to_owned(),
            2,
            "directly in the block",
        ),
        (format!("host a b {{ {a} }}"), 1, "one name"),
        (
            format!("default-lease-time 60\nhost a {{ {a} }}"),
            2,
            "; is missing",
        ),
        (
            format!("host a {{ option host-name \"a\"\n{a} }}"),
            2,
            "no ; before hardware",
        ),
        (
            "host a { hardware ethernet 52:54:00:00:00:01\nfixed-address 10.0.0.1; }".to_owned(),
            2,
            "no ; before fixed-address",
        ),
        (
            format!("host a {{ option host-name \"a;\n{a} }}"),
            1,
            "string",
        ),
        (format!("host a {{ {a} }}\nhost b"), 2, "file ends"),
        (
            format!("host a {{ {a}\n{b} }}"),
            2,
            "second hardware address",
        ),
        (
            format!("host a {{ {a}\nfixed-address 10.0.0.1; }}"),
            2,
            "second address",
        ),
        (
            "host a { fixed-address 10.0.0.1,\n10.0.0.2; }".to_owned(),
            1,
            "several values as address",
        ),
        (
            format!("HOST a {{ {a}\nFixed-Address 10.0.0.1; }}"),
            2,
            "second address",
        ),
        (
            "host a { fixed-address 10.0.0.1;\noption dhcp-client-identifier \"\\001a\"; }"
                .to_owned(),
            2,
            "write bytes",
        ),
    ] {
        is_told(Format::Dhcpd, &text, line, what);
    }
}

#[test]
fn files_that_others_bring_in_are_to_be_imported_by_themselves() {
    let host = "host a { hardware ethernet 52:54:00:00:00:01; fixed-address 10.0.0.1; }\n";
    let include = format!("{host}group {{\n include \"/etc/dhcp/hosts\"; }}\n");
    is_told(Format::Dhcpd, &include, 3, "import that file by itself");
    let line = "dhcp-host=52:54:00:00:00:01,10.0.0.1\n";
    for (other, what) in [
        ("conf-file=/etc/x", "import each by itself"),
        ("conf-dir = /etc/x,*.conf", "import each by itself"),
        ("dhcp-hostsfile=/etc/x", "dhcp-hostsfile brings in"),
        ("dhcp-hostsdir=/etc/x", "dhcp-hostsdir brings in"),
        ("read-ethers", "read-ethers brings in"),
        ("dhcp-host 52:54:00:00:00:02,10.0.0.2", "is not dhcp-host="),
        (
            "dhcp-host=52:54:00:00:00:02,10.0.0.2,10.0.0.3",
            "several addresses",
        ),
        (
            "dhcp-host=52:54:00:00:00:02,10.0.0.2O",
            "neither an address nor a name",
        ),
        (
            "dhcp-host=52:54:00:00:00:02,10.0.0.2 printer",
            "neither an address nor a name",
        ),
        (
            "dhcp-host=52:54:00:00:00:02,52:54:00:00:00:03,10.0.0.2",
            "several hardware",
        ),
    ] {
        is_told(Format::Dnsmasq, &format!("{line}{other}\n"), 2, what);
    }
}

/// Kea includes text, wherever it stands and whatever it is: it is no file by itself.
#[test]
fn what_kea_would_include_is_to_be_put_in_its_place() {
    let one = "{ \"hw-address\": \"52:54:00:00:00:01\", \"ip-address\": \"10.0.0.1\" }";
    for (text, line) in [
        (
            "{ \"Dhcp4\": {\n<?include \"hosts.json\"?>\n} }".to_owned(),
            2,
        ),
        (
            "{ \"reservations\":\n\n <?include \"hosts.json\"?> }".to_owned(),
            3,
        ),
        (
            format!("{{ /* \n */ \"reservations\": [ {one},\n<? include \"hosts.json\" ?>] }}"),
            3,
        ),
        ("<?include \"hosts.json\"\n".to_owned(), 1),
    ] {
        let what =
            "it includes \"hosts.json\", which is not read: put what that file says in its place";
        is_told(Format::Kea, &text, line, what);
    }
    let two = "{ \"subnet4\": [ <?include \"a\"?>,\n <?include \"b\"?> ] }";
    let faults = read(Format::Kea, two, &subnets(OURS)).unwrap_err();
    let lines: Vec<_> = faults.iter().map(|fault| fault.line).collect();
    assert_eq!(lines, [1, 2], "{faults:?}");
    let quoted = "\"user-context\": { \"x\": \"<?include \\\"a\\\"?>\" }, // <?include \"b\"?>\n";
    let text = format!("{{ {quoted} \"reservations\": [ {one} ] }}");
    let entries = read(Format::Kea, &text, &subnets(OURS)).unwrap();
    assert_eq!(entries.len(), 1, "a string and a comment include nothing");
}

#[test]
fn reservations_that_kea_keeps_in_a_database_are_to_be_imported_by_themselves() {
    let with = |more: &str| {
        format!(
            "{{ \"Dhcp4\": {{\n \"user-context\": {{ \"see\": \"hosts-database\" }},\n{more}\n \"subnet4\": [ {{ \
             \"reservations\": [ {{ \"hw-address\": \"52:54:00:00:00:01\", \"ip-address\": \"10.0.0.1\" }} ] }} ] \
             }} }}"
        )
    };
    let one = "{ \"type\": \"mysql\", \"name\": \"kea\" }";
    for (key, value) in [
        ("hosts-database", one.to_owned()),
        ("hosts-databases", format!("[ {one}, {one} ]")),
    ] {
        let what = format!("{key} keeps reservations in a database, which is not read: import");
        let text = with(&format!("\"{key}\" : {value},"));
        is_told(Format::Kea, &text, 3, &what);
        let bare = format!("{{ \"reservations\": [],\n\"{key}\": {value} }}");
        is_told(Format::Kea, &bare, 2, &what);
    }
    let leases = with("\"lease-database\": { \"type\": \"mysql\" }, \"hosts-databases\": [],");
    let entries = read(Format::Kea, &leases, &subnets(OURS)).unwrap();
    assert_eq!(entries.len(), 1, "neither has reservations");
}

#[test]
fn hosts_are_read_as_their_servers_read_them() {
    let one = |format, text: &str| {
        let entries = read(format, text, &subnets(OURS)).unwrap();
        assert_eq!(entries.len(), 1, "{text}");
        entries[0].holder.clone()
    };
    let mac = Holder::Mac(MacAddr([0x52, 0x54, 0, 0, 0, 2]));
    for (format, text) in [
        (
            Format::Dnsmasq,
            "dhcp-host=52:54:00:00:00:02,10.0.0.20\t# printer\n",
        ),
        (
            Format::Dnsmasq,
            "dhcp-host=52:54:0:0:0:2,10.0.0.20,pc-lab-2-row-1-a\n",
        ),
        (
            Format::Dhcpd,
            "host a { hardware ethernet 52:54:0:0:0:2; option dhcp-client-identifier \"\\001RT\"; \
             fixed-address 10.0.0.20; }",
        ),
    ] {
        assert_eq!(one(format, text), mac, "{text}");
    }
    let quoted = "host a { option dhcp-client-identifier \"01:02\"; fixed-address 10.0.0.20; }";
    assert_eq!(
        one(Format::Dhcpd, quoted),
        Holder::ClientId(b"01:02".to_vec())
    );
}

/// Whatever is left of a file, it says the same or is refused: nothing is made up of what was moved together.
#[test]
fn a_file_that_lost_one_character_says_the_same_or_is_refused() {
    for (format, text, lines) in good() {
        for (at, lost) in text
            .char_indices()
            .filter(|(_, c)| "{}[];\"=#".contains(*c))
        {
            let rest = format!("{}{}", &text[..at], &text[at + lost.len_utf8()..]);
            match read(format, &rest, &subnets(OURS)) {
                Ok(found) => assert_eq!(found, expected(lines), "{format:?}: {rest}"),
                Err(faults) => are_in(&rest, &faults),
            }
        }
    }
}

/// There is one at least, in order, in lines that are there, with words.
fn are_in(text: &str, faults: &[Fault]) {
    let last = text.split('\n').count();
    let fine = |fault: &Fault| (1..=last).contains(&fault.line) && !fault.what.is_empty();
    let good = !faults.is_empty()
        && faults.iter().all(fine)
        && faults.is_sorted_by_key(|fault| fault.line);
    assert!(good, "{text:?}: {faults:?}");
}

/// Pieces in any order: whatever is taken over stands there word for word, as often as it is taken.
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
        " hardware ethernet 52:54:00:00:00:01",
        " fixed-address 10.0.0.20",
        "host a { hardware ethernet 52:54:00:00:00:02; fixed-address 10.0.0.21; }",
    ];
    let (mut random, mut taken) = (1_u64, 0);
    for _ in 0..10_000 {
        let mut text = String::new();
        for _ in 0..8 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let at = usize::try_from(random >> 33).unwrap() % pieces.len();
            text.push_str(pieces[at]);
        }
        for format in [Format::Csv, Format::Dhcpd, Format::Dnsmasq, Format::Kea] {
            match read(format, &text, &subnets(OURS)) {
                Ok(found) => {
                    let addresses = text.matches("fixed-address").count();
                    assert!(found.len() <= addresses, "{text:?}: {found:?}");
                    assert!(
                        found.iter().all(|entry| stands_in(&text, entry)),
                        "{text:?}: {found:?}"
                    );
                    taken += found.len();
                }
                Err(faults) => are_in(&text, &faults),
            }
        }
    }
    assert!(
        taken > 50,
        "only {taken} files were good enough to say something"
    );
}

fn stands_in(text: &str, entry: &Entry) -> bool {
    let Holder::Mac(mac) = &entry.holder else {
        return false;
    };
    let one = format!("hardware ethernet {mac}");
    text.contains(&one) && text.contains(&format!("fixed-address {}", entry.address))
}
