//! The replies of the DHCP server against RFC 2131 table 3, and what measured firmware needs in them.

use std::net::Ipv4Addr;

use farrier_proto::MacAddr;
use farrier_proto::reply::{BootFile, BootStyle, Lend, bootp, dhcp};
use farrier_proto::wire::dhcpv4::{BROADCAST, Message, MessageType, Op, Xid};
use farrier_proto::wire::option;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 77);
const NEXT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

fn lend() -> Lend<'static> {
    Lend {
        server_id: SERVER,
        yiaddr: CLIENT,
        subnet_mask: Ipv4Addr::new(255, 255, 255, 0),
        lease_s: 3600,
        t1_s: 1800,
        t2_s: 3150,
        options: vec![
            (3, &[10, 0, 0, 1]),
            (6, &[10, 0, 0, 1, 10, 0, 0, 2]),
            (15, b"example.net"),
            (42, &[10, 0, 0, 9]),
        ],
    }
}

fn boot(style: BootStyle) -> BootFile {
    BootFile {
        mtftp: None,
        next_server: NEXT,
        name: "ipxe.efi".to_owned(),
        style,
        menu: None,
    }
}

fn request(kind: MessageType, options: &[(u8, &[u8])]) -> Message {
    let mut request = Message::request(Xid(7), MacAddr([2, 0, 0, 0, 0, 1]));
    request.secs = 4;
    request.options.set(option::DHCP_MESSAGE_TYPE, [kind as u8]);
    for (code, value) in options {
        request.options.set(*code, *value);
    }
    request
}

fn codes(message: &Message) -> Vec<u8> {
    message.options.iter().map(|(code, _)| code).collect()
}

const PXE: (u8, &[u8]) = (60, b"PXEClient:Arch:00007:UNDI:003016");
const HTTP: (u8, &[u8]) = (60, b"HTTPClient:Arch:00016:UNDI:003001");
const ASKS_66_67: (u8, &[u8]) = (55, &[1, 3, 66, 67]);
const UUID: [u8; 17] = [0; 17];

#[test]
fn rfc2131_table_3_offer() {
    let mut discover = request(MessageType::Discover, &[]);
    discover.hops = 2;
    discover.flags = BROADCAST;
    discover.giaddr = Ipv4Addr::new(10, 9, 0, 1);
    discover.ciaddr = CLIENT;
    let offer = dhcp::offer(&discover, &lend(), None);
    assert_eq!((offer.op, offer.htype, offer.hlen), (Op::Reply, 1, 6));
    assert_eq!((offer.hops, offer.secs), (0, 0));
    assert_eq!(
        (offer.xid, offer.flags, offer.giaddr),
        (Xid(7), BROADCAST, discover.giaddr)
    );
    assert_eq!(offer.ciaddr, Ipv4Addr::UNSPECIFIED);
    assert_eq!(offer.yiaddr, CLIENT);
    assert_eq!(
        offer.siaddr,
        Ipv4Addr::UNSPECIFIED,
        "nothing to boot, no next server"
    );
    assert_eq!(offer.chaddr, discover.chaddr);
    assert_eq!(offer.message_type(), Some(MessageType::Offer));
    assert_eq!(offer.server_identifier(), Some(SERVER));
    assert_eq!(offer.lease_time(), Some(3600));
}

#[test]
fn rfc2131_table_3_ack_and_inform() {
    let mut renewal = request(MessageType::Request, &[]);
    renewal.ciaddr = CLIENT;
    let ack = dhcp::ack(&renewal, &lend(), None);
    assert_eq!((ack.ciaddr, ack.yiaddr), (CLIENT, CLIENT));
    assert_eq!(ack.message_type(), Some(MessageType::Ack));

    let mut inform = request(MessageType::Inform, &[]);
    inform.ciaddr = CLIENT;
    let ack = dhcp::inform_ack(&inform, &lend(), None);
    assert_eq!((ack.ciaddr, ack.yiaddr), (CLIENT, Ipv4Addr::UNSPECIFIED));
    assert_eq!(
        codes(&ack),
        [53, 54, 1, 3, 6, 15, 42],
        "no times without a lease"
    );
}

#[test]
fn rfc2131_4_3_2_nak() {
    let mut wrong = request(MessageType::Request, &[(61, b"\x01id"), (82, b"\x01\x01a")]);
    wrong.ciaddr = CLIENT;
    let nak = dhcp::nak(&wrong, SERVER, "wrong network");
    assert_eq!(codes(&nak), [53, 54, 56, 61, 82]);
    assert_eq!(nak.message_type(), Some(MessageType::Nak));
    assert_eq!(
        (nak.ciaddr, nak.yiaddr, nak.siaddr),
        (
            Ipv4Addr::UNSPECIFIED,
            Ipv4Addr::UNSPECIFIED,
            Ipv4Addr::UNSPECIFIED
        )
    );
    assert!(!nak.wants_broadcast());
    wrong.giaddr = Ipv4Addr::new(10, 9, 0, 1);
    assert!(
        dhcp::nak(&wrong, SERVER, "").wants_broadcast(),
        "the relay must broadcast it"
    );
}

#[test]
fn options_come_in_the_order_old_roms_need() {
    let discover = request(
        MessageType::Discover,
        &[
            PXE,
            ASKS_66_67,
            (61, b"\x01id"),
            (82, b"\x01\x01a"),
            (97, &UUID),
        ],
    );
    let offer = dhcp::offer(&discover, &lend(), Some(&boot(BootStyle::PxeFinal)));
    assert_eq!(
        codes(&offer),
        [
            53, 54, 51, 58, 59, 1, 3, 6, 15, 42, 61, 66, 60, 97, 43, 67, 82
        ]
    );
    let bytes = offer.encode();
    let name_at = bytes
        .windows(10)
        .position(|window| window == b"\x43\x08ipxe.efi")
        .unwrap();
    assert_eq!(
        bytes[name_at + 10..name_at + 12],
        [0, 82],
        "one PAD behind option 67"
    );
}

/// The rule that came of trying each reply on five firmware families.
#[test]
fn every_boot_reply_has_what_some_firmware_fails_without() {
    for style in [
        BootStyle::Plain,
        BootStyle::PxeFinal,
        BootStyle::Ipxe {
            no_proxy_wait: true,
        },
    ] {
        for offer in [dhcp::offer, dhcp::ack] {
            let reply = offer(
                &request(MessageType::Discover, &[PXE]),
                &lend(),
                Some(&boot(style)),
            );
            assert_eq!(
                reply.siaddr, NEXT,
                "iPXE, U-Boot, SLOF and s390x need siaddr"
            );
            assert_eq!(reply.file, b"ipxe.efi");
            assert_eq!(reply.sname, b"10.0.0.2");
            for code in [54, 1, 51, 3] {
                assert!(
                    reply.options.contains(code),
                    "edk2 fails without 1 and 54; {code}"
                );
            }
            assert!(
                !reply.options.contains(66) && !reply.options.contains(67),
                "not asked for"
            );
            assert!(reply.encode().len() >= 300);
            let asks_4011 = reply.options.contains(60) && !reply.options.contains(43);
            assert!(!asks_4011, "edk2 insists on port 4011 then: {style:?}");
        }
    }
}

#[test]
fn styles_and_classes() {
    use BootStyle::{AskPort4011, HttpUrl, Ipxe, Plain, PxeFinal};
    type Row = (
        BootStyle,
        Option<(u8, &'static [u8])>,
        Option<&'static [u8]>,
        Option<&'static [u8]>,
    );
    let final_file: &[u8] = &[6, 1, 8, 255];
    let rows: [Row; 10] = [
        (Plain, Some(PXE), None, None),
        (PxeFinal, Some(PXE), Some(b"PXEClient"), Some(final_file)),
        (PxeFinal, None, None, None),
        (PxeFinal, Some((60, b"U-Boot.armv8")), None, None),
        (PxeFinal, Some(HTTP), None, None),
        (AskPort4011, Some(PXE), Some(b"PXEClient"), None),
        (AskPort4011, None, None, None),
        (HttpUrl, Some(HTTP), Some(b"HTTPClient"), None),
        (HttpUrl, Some(PXE), None, None),
        (
            Ipxe {
                no_proxy_wait: true,
            },
            Some(PXE),
            None,
            None,
        ),
    ];
    for (style, class, option_60, option_43) in rows {
        let options: Vec<(u8, &[u8])> = class.into_iter().collect();
        let offer = dhcp::offer(
            &request(MessageType::Discover, &options),
            &lend(),
            Some(&boot(style)),
        );
        assert_eq!(offer.options.get(60), option_60, "{style:?} {class:?}");
        assert_eq!(offer.options.get(43), option_43, "{style:?} {class:?}");
    }
}

#[test]
fn ipxe_is_spared_the_wait_for_a_proxy() {
    for (no_proxy_wait, expected) in [(true, Some(&[176, 1, 1][..])), (false, None)] {
        let style = BootStyle::Ipxe { no_proxy_wait };
        let offer = dhcp::offer(
            &request(MessageType::Discover, &[PXE]),
            &lend(),
            Some(&boot(style)),
        );
        assert_eq!(offer.options.get(175), expected);
    }
}

#[test]
fn http_boot_gets_the_whole_url_and_long_names_only_option_67() {
    for length in [20, 127, 128, 300] {
        let url = format!("http://10.0.0.1/{}", "x".repeat(length - 16));
        let boot = BootFile {
            mtftp: None,
            next_server: NEXT,
            name: url.clone(),
            style: BootStyle::HttpUrl,
            menu: None,
        };
        let discover = request(
            MessageType::Discover,
            &[HTTP, (57, &1472_u16.to_be_bytes())],
        );
        let decoded =
            Message::decode(&dhcp::offer(&discover, &lend(), Some(&boot)).encode()).unwrap();
        assert_eq!(decoded.options.get(67), Some(url.as_bytes()));
        let in_header = if length <= 127 { url.as_bytes() } else { b"" };
        assert_eq!(decoded.file, in_header, "{length}");
    }
}

#[test]
fn echoes_are_byte_for_byte_even_when_odd() {
    let odd: [(u8, &[u8]); 3] = [(61, b""), (97, b"\x07short"), (82, b"\x01\xff")];
    let reply = dhcp::ack(
        &request(MessageType::Request, &odd),
        &lend(),
        Some(&boot(BootStyle::Plain)),
    );
    for (code, value) in odd {
        assert_eq!(reply.options.get(code), Some(value), "option {code}");
    }
    let reply = dhcp::ack(&request(MessageType::Request, &[]), &lend(), None);
    for (code, _) in odd {
        assert!(
            !reply.options.contains(code),
            "{code} was not in the request"
        );
    }
}

#[test]
fn rfc5107_relay_may_stand_in_as_server() {
    let relay: &[u8] = &[1, 1, b'a', 11, 4, 10, 9, 0, 1];
    let reply = dhcp::offer(
        &request(MessageType::Discover, &[(82, relay)]),
        &lend(),
        None,
    );
    assert_eq!(reply.server_identifier(), Some(Ipv4Addr::new(10, 9, 0, 1)));
}

#[test]
fn replies_fit_the_client_by_leaving_out_what_it_can_boot_without() {
    let mut lend = lend();
    lend.options = vec![(42, &[1; 4]), (119, &[7; 200]), (121, &[8; 200])];
    for (size, kept) in [
        (None, &[42, 119][..]),
        (Some(576), &[42, 119]),
        (Some(1500), &[42, 119, 121]),
    ] {
        let mut discover = request(MessageType::Discover, &[PXE, (97, &UUID)]);
        if let Some(size) = size {
            discover.options.set(57, u16::to_be_bytes(size));
        }
        let offer = dhcp::offer(&discover, &lend, Some(&boot(BootStyle::PxeFinal)));
        assert!(offer.encode().len() <= discover.reply_limit());
        for code in [42, 119, 121] {
            assert_eq!(
                offer.options.contains(code),
                kept.contains(&code),
                "{size:?} {code}"
            );
        }
    }
}

#[test]
fn extra_options_never_replace_those_set_by_rule() {
    let mut lend = lend();
    let nines: &[u8] = &[9; 4];
    lend.options = [1, 43, 51, 53, 54, 60, 61, 66, 67, 82, 97]
        .map(|code| (code, nines))
        .to_vec();
    let discover = request(MessageType::Discover, &[PXE]);
    let offer = dhcp::offer(&discover, &lend, Some(&boot(BootStyle::Plain)));
    let replaced = |reply: &Message| -> Vec<u8> {
        let nine = reply.options.iter().filter(|(_, value)| *value == nines);
        nine.map(|(code, _)| code).collect()
    };
    assert_eq!(replaced(&offer), [], "{:?}", offer.options);
    let offer = dhcp::offer(&discover, &lend, None);
    assert_eq!(
        replaced(&offer),
        [43, 66, 67],
        "telephones are told by them where we name nothing to boot"
    );
}

#[test]
fn rfc1534_bootp_reply() {
    let mut asks = Message::request(Xid(9), MacAddr([2, 0, 0, 0, 0, 1]));
    asks.file = b"vmunix".to_vec();
    let reply = bootp::reply(&asks, &lend(), Some(&boot(BootStyle::PxeFinal)), false);
    assert_eq!(
        (reply.yiaddr, reply.siaddr, &reply.file[..]),
        (CLIENT, NEXT, &b"ipxe.efi"[..])
    );
    assert_eq!(
        codes(&reply),
        [1, 3, 6, 15, 42],
        "no message type, no lease, no server id, no class"
    );
    assert_eq!(reply.encode().len(), 300);

    asks.cookie = false;
    assert!(!bootp::reply(&asks, &lend(), None, false).cookie);
    assert!(
        bootp::reply(&asks, &lend(), None, true).cookie,
        "POWER needs it"
    );

    let mut much = lend();
    much.options = vec![(3, &[1; 4]), (42, &[1; 20]), (119, &[1; 60])];
    asks.cookie = true;
    let reply = bootp::reply(&asks, &much, None, false);
    assert_eq!(
        codes(&reply),
        [1, 3, 42],
        "64 bytes of vendor area hold no more"
    );
}

/// SLOF and s390x ask a server that is named for files that are not.
#[test]
fn firmware_that_looks_for_itself_is_told_the_server_and_no_file() {
    let request = request(MessageType::Discover, &[ASKS_66_67]);
    let alone = BootFile {
        name: String::new(),
        ..boot(BootStyle::Plain)
    };
    let reply = dhcp::offer(&request, &lend(), Some(&alone));
    assert_eq!(reply.siaddr, NEXT);
    assert!(reply.file.is_empty());
    assert!(codes(&reply).contains(&66) && !codes(&reply).contains(&67));
}
