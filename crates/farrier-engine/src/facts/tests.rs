//! Facts from requests as real firmware sends them (the option bytes are from captures), and from
//! script parameters.

mod firmware;
mod of_scripts;

use std::time::Duration;

use farrier_proto::MacAddr;
use farrier_proto::wire::dhcpv4::{Message, MessageType, Op, Xid};
use proptest::prelude::*;

use super::*;
use crate::Reason;
use crate::quirk::Effect;

const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x77, 0, 1]);
const UUID_OPTION: &str = "0033221100554477668899525400770001";
/// Option 175 of QEMU's BIOS ROM, of its EFI ROM, and of Debian's snponly.efi.
const ROM_BIOS: &str = "b105011af41000eb03010000170101220101130101110101270101190101290101100102210101150101180101120101";
const ROM_EFI: &str = "b105011af41000eb03010000170101240101130101110101270101290101150101120101";
const PRL_SLOF: &str = "01030642435d";

fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
        .collect()
}

fn request(mac: MacAddr, options: &[(u8, &[u8])]) -> Message {
    let mut message = Message::request(Xid(7), mac);
    message.options.set(53, vec![MessageType::Discover as u8]);
    for (code, value) in options {
        message.options.set(*code, value);
    }
    message
}

fn facts(options: &[(u8, &[u8])]) -> BootFacts {
    BootFacts::from_dhcp(&request(MAC, options)).unwrap()
}

#[test]
fn rfc951_a_request_without_message_type_is_bootp() {
    let mut message = Message::request(Xid(7), MAC);
    for cookie in [true, false] {
        message.cookie = cookie;
        let facts = BootFacts::from_dhcp(&message).unwrap();
        assert_eq!(
            (facts.protocol, facts.stage.clone()),
            (Protocol::Bootp, Stage::Firmware)
        );
        assert!(facts.wants_boot());
    }
}

#[test]
fn ipxe_features_decide_whether_the_script_comes_at_once() {
    let rows: [(&str, Vec<u8>, bool); 5] = [
        ("QEMU's BIOS ROM", hex(ROM_BIOS), true),
        ("QEMU's EFI ROM lists no bzImage", hex(ROM_EFI), true),
        ("no HTTP (VirtualBox)", hex("150101180101"), false),
        ("HTTP, nothing to start", hex("130101150101"), false),
        ("features with version 0", hex("130100180101"), false),
    ];
    for (name, encapsulated, enough) in rows {
        let facts = facts(&[(77, b"iPXE"), (175, &encapsulated), (93, &[0, 0])]);
        let Stage::Ipxe { features, .. } = facts.stage else {
            panic!("{name}")
        };
        assert_eq!(features.is_enough(), enough, "{name}");
    }
    let Stage::Ipxe { version, .. } = facts(&[(77, b"iPXE"), (175, &hex(ROM_BIOS))]).stage else {
        panic!()
    };
    assert_eq!(version.unwrap().as_str(), "1.0.0");
    let Stage::Ipxe { features, .. } = facts(&[(77, b"\x04iPXE")]).stage else {
        panic!()
    };
    assert!(!features.is_enough(), "RFC 3004 form, no option 175");
}

#[test]
fn machine_identifiers() {
    let good = hex(UUID_OPTION);
    let facts_of = |value: &[u8]| facts(&[(97, value)]);
    assert_eq!(
        facts_of(&good).usable_uuid().unwrap().to_string(),
        "00112233-4455-6677-8899-525400770001"
    );
    let zero = facts_of(&[0; 17]);
    assert_eq!(zero.usable_uuid(), None);
    assert_eq!(zero.oddities, [Oddity::MachineIdentifierConstant]);
    for bad in [&good[..16], &[1; 17][..], &[0; 3][..]] {
        let facts = facts_of(bad);
        assert_eq!(
            (facts.uuid, facts.oddities.clone()),
            (None, vec![Oddity::MachineIdentifierForm]),
            "{bad:?}"
        );
    }
    assert_eq!(facts(&[]).uuid, None);
}

#[test]
fn oddities_do_not_cost_the_machine() {
    let long = vec![b'x'; 200];
    let facts = facts(&[
        (12, b"a\nreboot"),
        (60, b"PXEClient:Arch:00000:UNDI:002001"),
        (77, &long),
        (93, &[0, 7]),
        (97, &[9]),
    ]);
    assert_eq!(facts.arch, Some(Arch::X86_64));
    assert_eq!(facts.hostname, None);
    for oddity in [
        Oddity::ArchitecturesDiffer,
        Oddity::MachineIdentifierForm,
        Oddity::Text,
    ] {
        assert!(facts.oddities.contains(&oddity), "{oddity:?}");
        assert!(oddity.sentence().ends_with('.'));
    }
}

#[test]
fn a_request_must_name_a_machine() {
    let mut reply = request(MAC, &[]);
    reply.op = Op::Reply;
    let mut token_ring = request(MAC, &[]);
    token_ring.htype = 6;
    let rows = [
        (reply, NoMachine::IsReply),
        (token_ring, NoMachine::NoMac),
        (request(MacAddr([0; 6]), &[]), NoMachine::UnusableMac),
        (request(MacAddr([0xff; 6]), &[]), NoMachine::UnusableMac),
    ];
    for (message, expected) in rows {
        assert_eq!(BootFacts::from_dhcp(&message), Err(expected));
    }
}

#[test]
fn rfc3046_relay_and_rfc3527_link() {
    let mut message = request(
        MAC,
        &[(82, &[1, 2, 0xaa, 0xbb, 2, 1, 0xcc, 5, 4, 10, 9, 0, 0])],
    );
    message.giaddr = Ipv4Addr::new(10, 78, 0, 254);
    let relay = BootFacts::from_dhcp(&message).unwrap().relay.unwrap();
    assert_eq!(relay.giaddr, Ipv4Addr::new(10, 78, 0, 254));
    assert_eq!(
        (relay.circuit_id, relay.remote_id),
        (Some(vec![0xaa, 0xbb]), Some(vec![0xcc]))
    );
    assert_eq!(relay.link_selection, Some(Ipv4Addr::new(10, 9, 0, 0)));
    assert_eq!(facts(&[]).relay, None);
}

#[test]
fn swapped_seconds_are_put_right() {
    for (sent, meant) in [(0, 0), (4, 4), (0x0400, 4), (0x0c00, 12), (300, 300)] {
        let mut message = request(MAC, &[]);
        message.secs = sent;
        assert_eq!(
            BootFacts::from_dhcp(&message).unwrap().secs,
            meant,
            "{sent}"
        );
    }
}

proptest! {
    #[test]
    fn any_options_give_facts(options in prop::collection::vec((1u8..255, prop::collection::vec(any::<u8>(), 0..64)), 0..20)) {
        let mut message = Message::request(Xid(1), MAC);
        for (code, value) in options {
            message.options.set(code, value);
        }
        prop_assert!(BootFacts::from_dhcp(&message).is_ok());
    }

    #[test]
    fn any_parameters_give_facts(parameters in prop::collection::vec((".{0,12}", ".{0,200}"), 0..20)) {
        let all = [("mac", "525400770001")].into_iter()
            .chain(parameters.iter().map(|(n, v)| (n.as_str(), v.as_str())));
        prop_assert!(BootFacts::from_http(all).is_ok());
    }
}
