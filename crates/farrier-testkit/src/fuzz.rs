//! The bodies of the fuzz targets: each takes arbitrary bytes and panics if a promise is broken.
//!
//! `fuzz/` wraps each for the fuzzer; `tests/fuzz_bodies.rs` runs each over its corpus and over random
//! input, so that the promises are also kept where no fuzzer runs.

mod dhcpv6;
mod multicast;

use std::mem;
use std::net::{Ipv4Addr, SocketAddrV4};

pub use dhcpv6::dhcpv6_decode;
pub use multicast::multicast_stream;

use farrier_engine::facts::{BootName, Whose, without_board_folder};
use farrier_engine::tls::{Ended, KeyKind, Trouble};
use farrier_proto::Instant;
use farrier_proto::reply::{self, BootFile, BootStyle, Lend};
use farrier_proto::session::tftp_transfer::{Limits, TftpTransfer, Transmit};
use farrier_proto::wire::dhcpv4::{MIN_LEN, Message};
use farrier_proto::wire::ndp::{self, Discovery};
use farrier_proto::wire::onc_rpc::Call;
use farrier_proto::wire::option::{self, Form};
use farrier_proto::wire::option_setting::{self, Written};
use farrier_proto::wire::pxe::{Mtftp, PxeVendorOptions};
use farrier_proto::wire::rarp::{self, Rarp};
use farrier_proto::wire::tftp::{self, Packet, ReadRequest};
use farrier_proto::wire::tls::ClientHello;
use farrier_proto::wire::{arp, echo};

/// A target: its name in `fuzz/` and its body.
pub type Target = (&'static str, fn(&[u8]));

/// All targets, by the names of their corpora.
pub const TARGETS: &[Target] = &[
    ("address_claim", address_claim),
    ("boot_name", boot_name),
    ("dhcpv4_decode", dhcpv4_decode),
    ("dhcpv6_decode", dhcpv6_decode),
    ("multicast_stream", multicast_stream),
    ("ndp_decode", ndp_decode),
    ("onc_rpc_call", onc_rpc_call),
    ("option43_decode", option43_decode),
    ("rarp_decode", rarp_decode),
    ("reply_builder", reply_builder),
    ("tftp_packet", tftp_packet),
    ("tftp_session", tftp_session),
    ("tls_hello", tls_hello),
];

/// Who claims an address names one and a card; what a packet says as names or routes can be written again.
pub fn address_claim(bytes: &[u8]) {
    if let Some((ip, mac)) = arp::claim(bytes) {
        assert!(!ip.is_unspecified() && !mac.is_unusable());
    }
    let _ = echo::answer(bytes, 1);
    let again = |form: Form, items: Vec<String>| {
        let items = items.into_iter().map(Written::Text).collect();
        option_setting::encode(form, &Written::List(items))
    };
    if let Some(names) = option_setting::names(bytes)
        && let Ok(encoded) = again(Form::Names, names)
    {
        assert_eq!(encoded, bytes);
    }
    if let Some(routes) = option_setting::routes(bytes)
        && let Ok(encoded) = again(Form::Routes, routes)
    {
        assert_eq!(encoded, bytes);
    }
}

/// What a connection begins with holds no more values than bytes, and is told in whole sentences.
pub fn tls_hello(bytes: &[u8]) {
    if let Ok(hello) = ClientHello::decode(bytes) {
        let values = hello.suites.len() + hello.groups.len() + hello.signatures.len();
        assert!(values * 2 <= bytes.len());
    }
    for ended in [Ended::Alert(48), Ended::Left, Ended::Refused] {
        for key in [KeyKind::Rsa, KeyKind::P256, KeyKind::Other] {
            let told = Trouble::of(bytes, ended, key);
            assert_eq!(told.is_none(), bytes.is_empty());
            assert!(told.is_none_or(|told| told.text.ends_with('.') && told.text.len() < 400));
        }
    }
}

/// A name that a loader asks for names no machine by an address that is none, and a folder is taken off once.
pub fn boot_name(bytes: &[u8]) {
    let Ok(name) = tftp::clean_name(bytes) else {
        return;
    };
    let rest = without_board_folder(&name).unwrap_or(&name);
    assert!(name.ends_with(rest));
    if let BootName::Script(script) = BootName::of(rest)
        && let Whose::Mac(mac) = script.whose
    {
        assert!(!mac.is_unusable());
    }
}

/// A refusal is short and goes to who called, by its own number.
pub fn onc_rpc_call(bytes: &[u8]) {
    let Ok(call) = Call::decode(bytes) else {
        return;
    };
    if let Some(refusal) = call.refusal() {
        assert!(refusal.len() <= 28 && refusal.len() <= bytes.len());
        assert_eq!(refusal[..4], bytes[..4]);
    }
}

/// What is read is written the same, and an answer is a whole packet for who asked.
pub fn rarp_decode(bytes: &[u8]) {
    let Ok(asked) = Rarp::decode(bytes) else {
        return;
    };
    assert_eq!(asked.encode()[..], bytes[..rarp::LEN]);
    let answer = asked.answer(Ipv4Addr::LOCALHOST, asked.target_mac, Ipv4Addr::LOCALHOST);
    assert_eq!(Rarp::decode(&answer.encode()), Ok(answer));
}

/// A message without its options reads as the same kind, and who asks may tell a hardware address.
pub fn ndp_decode(bytes: &[u8]) {
    let Ok(Some(heard)) = Discovery::decode(bytes) else {
        return;
    };
    let bare: &[u8] = match heard {
        Discovery::Solicitation { source } => {
            assert!(source.is_none() || bytes.len() >= 16);
            &ndp::SOLICITATION
        }
        Discovery::Advertisement => &ndp::NOTHING,
    };
    let same = Discovery::decode(bare).map(|read| read.map(|read| mem::discriminant(&read)));
    assert_eq!(same, Ok(Some(mem::discriminant(&heard))));
}

/// What is decoded and written again reads the same, whatever was odd about it.
pub fn dhcpv4_decode(bytes: &[u8]) {
    let Ok(mut message) = Message::decode(bytes) else {
        return;
    };
    let _ = farrier_proto::wire::text::render(&message);
    let _ = (
        message.vendor_class().map(|class| class.arch()),
        message.client_system_architecture(),
    );
    let _ = message.user_class().map(|class| class.classes());
    let _ = message.client_machine_identifier().map(|id| id.uuid());
    let _ = message
        .relay_agent_information()
        .map(|info| info.sub_options().count());
    let encoded = message.encode();
    assert_eq!(encoded.len(), message.encoded_len());
    let mut again = Message::decode(&encoded).expect("what was encoded can be decoded");
    // Oddities of the first encoding are gone, those of the values stay.
    message.oddities.clear();
    again.oddities.clear();
    assert_eq!(again, message);
}

/// What is decoded and written again reads the same.
pub fn option43_decode(bytes: &[u8]) {
    let Ok(options) = PxeVendorOptions::decode(bytes) else {
        return;
    };
    let again =
        PxeVendorOptions::decode(&options.encode()).expect("what was encoded can be decoded");
    assert_eq!(again, options);
}

/// One option, of which the engine makes no more (`rom_menu`).
const MAX_MENU: usize = 255;

/// Every reply to every request echoes what must be echoed, can be decoded, and is not longer than the
/// client takes unless what must be echoed alone is.
pub fn reply_builder(bytes: &[u8]) {
    let Some((&choice, bytes)) = bytes.split_first() else {
        return;
    };
    let Ok(request) = Message::decode(bytes) else {
        return;
    };
    let server = Ipv4Addr::new(10, 0, 0, 1);
    let lend = Lend {
        server_id: server,
        yiaddr: Ipv4Addr::new(10, 0, 0, 77),
        subnet_mask: Ipv4Addr::new(255, 255, 255, 0),
        lease_s: 3600,
        t1_s: 1800,
        t2_s: 3150,
        options: vec![
            (3, &[10, 0, 0, 1]),
            (6, &[10, 0, 0, 1]),
            (15, b"boot.example"),
            (42, &[10, 0, 0, 1]),
            (43, &[1, 1, 1]),
            (119, &[7; 300]),
            (53, &[1]),
        ],
    };
    let style = [
        BootStyle::Plain,
        BootStyle::PxeFinal,
        BootStyle::AskPort4011,
        BootStyle::HttpUrl,
        BootStyle::Ipxe {
            no_proxy_wait: true,
        },
    ][usize::from(choice % 5)];
    let name = if choice & 0x80 == 0 {
        "ipxe.efi".to_owned()
    } else {
        "u".repeat(200)
    };
    let boot = BootFile {
        mtftp: (choice & 0x10 != 0).then_some(Mtftp {
            address: Ipv4Addr::new(239, 255, 67, 65),
            client_port: 1758,
            server_port: 1759,
            timeout: 2,
            delay: 2,
        }),
        next_server: server,
        name,
        style,
        // What the client said, given back: any menu that is as long as ours are.
        menu: request
            .options
            .get(option::VENDOR_SPECIFIC_INFORMATION)
            .and_then(|vendor| PxeVendorOptions::decode(vendor).ok())
            .filter(|menu| choice & 0x10 != 0 && menu.encode().len() <= MAX_MENU),
    };
    let boot = Some(&boot).filter(|_| choice & 0x40 == 0);
    let mut replies = vec![
        reply::dhcp::offer(&request, &lend, boot),
        reply::dhcp::ack(&request, &lend, boot),
        reply::dhcp::inform_ack(&request, &lend, boot),
        reply::dhcp::nak(&request, server, "the address is not on this network"),
        reply::bootp::reply(&request, &lend, boot, choice & 0x20 != 0),
    ];
    if let Some(boot) = boot {
        replies.push(reply::proxy_dhcp::offer(&request, server, boot));
        replies.push(reply::boot_server::ack(&request, server, boot));
    }
    for reply in replies {
        check_reply(&request, &reply);
    }
}

fn check_reply(request: &Message, reply: &Message) {
    let encoded = reply.encode();
    assert!(encoded.len() >= MIN_LEN);
    let mut decoded = Message::decode(&encoded).expect("our replies can be decoded");
    // An echoed value that breaks its definition is odd in the reply too.
    decoded.oddities.clear();
    assert_eq!(&decoded, reply);
    assert_eq!(
        (reply.xid, reply.chaddr, reply.giaddr),
        (request.xid, request.chaddr, request.giaddr)
    );
    if reply.cookie {
        let last = reply.options.iter().next_back().map(|(code, _)| code);
        let relay = request.options.get(option::RELAY_AGENT_INFORMATION);
        assert_eq!(reply.options.get(option::RELAY_AGENT_INFORMATION), relay);
        assert!(
            relay.is_none() || last == Some(option::RELAY_AGENT_INFORMATION),
            "82 comes last"
        );
    }
    let echoed: usize = [61, 82, 97]
        .iter()
        .filter_map(|&code| request.options.get(code))
        .map(<[u8]>::len)
        .sum();
    // 256: the options a reply has by rule; 208: a long name; pieces of long values add two bytes each.
    let vendor = reply.options.get(option::VENDOR_SPECIFIC_INFORMATION);
    let menu = vendor.map_or(0, <[u8]>::len);
    let by_rule = MIN_LEN + 256 + 208 + menu + echoed + echoed / 64;
    assert!(
        encoded.len() <= request.reply_limit().max(by_rule),
        "{} bytes",
        encoded.len()
    );
    let source = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
    let _ = reply::destination(request, reply, source, 67).addr();
    let _ = reply::destination(request, reply, source, 4011).addr();
}

/// What is decoded and written again reads the same, and a clean name stays clean.
pub fn tftp_packet(bytes: &[u8]) {
    let Ok(packet) = Packet::decode(bytes) else {
        return;
    };
    let encoded = packet.encode();
    assert_eq!(Packet::decode(&encoded).as_ref(), Ok(&packet));
    if let Packet::ReadRequest(request) | Packet::WriteRequest(request) = packet
        && let Ok(name) = tftp::clean_name(&request.name)
    {
        assert_eq!(tftp::clean_name(name.as_bytes()), Ok(name.clone()));
        assert!(!name.starts_with('/') && !name.split('/').any(|part| part == ".."));
    }
}

/// Any sequence of packets and waits: never a block outside the file, never more than four single packets
/// before the first ACK, never a timer in the past, and over within a minute of silence.
pub fn tftp_session(bytes: &[u8]) {
    let Some((setup, mut script)) = bytes.split_first_chunk::<8>() else {
        return;
    };
    let content_len = u64::from(u32::from_le_bytes([setup[0], setup[1], setup[2] & 0x0f, 0]));
    let options = tftp::TransferOptions {
        blksize: (setup[3] & 1 != 0).then(|| 8 + u16::from(setup[4]) * 8),
        tsize: (setup[3] & 2 != 0).then_some(0),
        timeout: (setup[3] & 4 != 0).then_some(setup[5].max(1)),
        windowsize: (setup[3] & 8 != 0).then(|| u16::from(setup[6]).max(1)),
        multicast: None,
    };
    let request = ReadRequest {
        name: b"x".to_vec(),
        options,
        ..ReadRequest::default()
    };
    let limits = Limits {
        first_block_after_wrap: u16::from(setup[7] & 1),
        ..Limits::default()
    };
    let mut now = Instant(0);
    let mut transfer = TftpTransfer::new(now, &request, content_len, limits);
    let mut opening_packets = 0;
    let mut acked = false;
    while let Some((&operation, rest)) = script.split_first() {
        script = rest;
        drain(&mut transfer, content_len, acked, &mut opening_packets);
        match operation {
            // What a client of RFC 1350 does while it has no answer.
            0x7f => transfer.handle_repeated_request(),
            0..=0x9f => {
                let block = match operation {
                    0..=0x7f => u16::from(operation),
                    _ => u16::MAX - u16::from(operation & 0x1f),
                };
                acked = true;
                let _ = transfer.handle(now, &Packet::Ack { block }.encode());
            }
            0xa0..=0xef => {
                now = Instant(now.0 + u64::from(operation - 0x9f) * 10);
                transfer.handle_timeout(now);
            }
            0xf0..=0xfe => {
                if let Some(wake) = transfer.poll_timeout() {
                    now = now.max(wake);
                    transfer.handle_timeout(now);
                    assert!(
                        transfer.poll_timeout().is_none_or(|next| next > now),
                        "the timer moves on"
                    );
                }
            }
            0xff => {
                let end = script.len().min(6);
                let _ = transfer.handle(now, &script[..end]);
                script = &script[end..];
                acked = true;
            }
        }
    }
    drain(&mut transfer, content_len, acked, &mut opening_packets);
    let silent_since = now;
    while let Some(wake) = transfer.poll_timeout() {
        now = now.max(wake);
        transfer.handle_timeout(now);
        drain(&mut transfer, content_len, acked, &mut opening_packets);
        assert!(
            now.since(silent_since).as_secs() < 60,
            "state is freed within a minute"
        );
    }
    assert!(transfer.is_over());
}

fn drain(transfer: &mut TftpTransfer, content_len: u64, acked: bool, opening_packets: &mut u32) {
    while let Some(transmit) = transfer.poll_transmit() {
        if !acked {
            *opening_packets += 1;
            assert!(
                *opening_packets <= 4,
                "T8: four packets before the first ACK"
            );
        }
        let Transmit::Blocks {
            first_block,
            offset,
            blksize,
            count,
            last_len,
        } = transmit
        else {
            continue;
        };
        assert!((1..=64).contains(&count) && (acked || count == 1));
        assert!(
            first_block.checked_add(count - 1).is_some(),
            "numbers do not wrap within a run"
        );
        let end = offset + u64::from(count - 1) * u64::from(blksize) + u64::from(last_len);
        assert!(end <= content_len && last_len <= blksize);
        assert!(
            last_len == blksize || end == content_len,
            "only the end of the file is short"
        );
    }
    let _ = transfer.poll_event();
}
