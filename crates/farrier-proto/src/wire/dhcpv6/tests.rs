use super::*;
use crate::wire::dhcpv6_option::ELAPSED_TIME;

fn message() -> Message {
    let mut options = Options::default();
    options.push(CLIENT_ID, [0, 3, 0, 1, 2, 0, 0, 0, 0, 1]);
    options.push(ELAPSED_TIME, [0, 0]);
    options.push(OPTION_REQUEST, [0, 59, 0, 60]);
    options.push(CLIENT_ARCHITECTURE, [0, 7]);
    Message {
        kind: MessageType::Solicit,
        xid: [1, 2, 3],
        options,
        cut_off: false,
    }
}

fn relay(hop_count: u8, link: &str, peer: &str) -> Relay {
    Relay {
        hop_count,
        link: link.parse().unwrap(),
        peer: peer.parse().unwrap(),
        options: Options::default(),
    }
}

#[test]
fn rfc8415_19_relays_nest_and_come_back() {
    let mut near_client = relay(0, "::", "fe80::5054:ff:fe77:15");
    near_client.options.push(18, *b"port 4");
    let packet = Packet {
        relays: vec![relay(1, "fd77::fe", "fe80::1"), near_client],
        message: message(),
    };
    let bytes = packet.encode_forward();
    assert_eq!(bytes[..2], [12, 1]);
    assert_eq!(Packet::decode(&bytes).unwrap(), packet);
    assert_eq!(packet.encode_reply()[..2], [13, 1]);
    assert_eq!(Packet::decode(&packet.encode_reply()).unwrap(), packet);
    assert_eq!(packet.link(), Some("fd77::fe".parse().unwrap()));
    let mac = packet.client_mac("fe80::1".parse().unwrap());
    assert_eq!(mac, Some(MacAddr([0x52, 0x54, 0, 0x77, 0, 0x15])));
}

#[test]
fn rfc6939_the_relay_knows_the_hardware_address() {
    let mut first = relay(0, "fd77::fe", "fe80::dead:beef:dead:beef");
    first
        .options
        .push(CLIENT_LINK_LAYER_ADDRESS, [0, 1, 2, 0, 0, 0, 0, 9]);
    let packet = Packet {
        relays: vec![first],
        message: message(),
    };
    let source = "fe80::1".parse().unwrap();
    assert_eq!(packet.client_mac(source), Some(MacAddr([2, 0, 0, 0, 0, 9])));
}

#[test]
fn too_many_relays_are_refused() {
    let packet = Packet {
        relays: vec![relay(0, "::", "::"); MAX_RELAYS + 1],
        message: message(),
    };
    assert!(Packet::decode(&packet.encode_forward()).is_err());
}

#[test]
fn rfc5970_what_a_boot_client_says() {
    let mut message = message();
    let class = [&[0, 0, 1, 0x57, 0, 9][..], b"PXEClient"].concat();
    message.options.push(VENDOR_CLASS, [0, 0, 0, 1, 0, 1, b'x']);
    message.options.push(VENDOR_CLASS, class);
    message
        .options
        .push(USER_CLASS, [&[0, 4][..], b"iPXE"].concat());
    assert_eq!(message.architectures(), [7]);
    assert_eq!(message.pxe_vendor_class(), Some(&b"PXEClient"[..]));
    assert_eq!(message.user_classes(), [b"iPXE"]);
    assert!(message.wants_boot_file());
}

#[test]
fn random_and_privacy_addresses_name_no_card() {
    for address in [
        "fe80::1",
        "fd77::5054:ff:fe77:15",
        "fe80::1:5054:ff:fe77:15",
    ] {
        assert_eq!(
            mac_of_link_local(address.parse().unwrap()),
            None,
            "{address}"
        );
    }
}
