//! The DHCP port: messages that are damaged, in floods, or out of the ordinary.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use farrier_proto::MacAddr;
use farrier_proto::wire::dhcpv4::{Message, Xid};
use farrier_server::boot::Outcome;
use farrier_server::config::Mode;
use farrier_server::core::now;
use proptest::prelude::*;

use super::resident_kib;
use crate::site::Site;

const SUBNET: &str =
    "[[subnet]]\nnetwork = \"127.0.0.0/8\"\npools = [\"127.9.0.10-127.9.0.250\"]\n";

/// A message that a client could send, to be damaged.
fn discover() -> Vec<u8> {
    use farrier_proto::wire::option;
    let mut message = Message::request(Xid(7), MacAddr([0x52, 0x54, 0, 0, 0, 1]));
    message.options.set(option::DHCP_MESSAGE_TYPE, vec![1]);
    message.options.set(
        option::VENDOR_CLASS_IDENTIFIER,
        b"PXEClient:Arch:00007:UNDI:003016",
    );
    message
        .options
        .set(option::CLIENT_SYSTEM_ARCHITECTURE, vec![0, 7]);
    message
        .options
        .set(option::CLIENT_MACHINE_IDENTIFIER, vec![0; 17]);
    message.options.set(
        option::RELAY_AGENT_INFORMATION,
        vec![1, 4, b'e', b't', b'h', b'0'],
    );
    message.encode()
}

fn datagrams() -> impl Strategy<Value = Vec<u8>> {
    let noise = proptest::collection::vec(any::<u8>(), 0..2000);
    let damaged = (
        proptest::collection::vec((0..600usize, any::<u8>()), 0..40),
        0..700usize,
    )
        .prop_map(|(hits, len)| {
            let mut packet = discover();
            for (at, byte) in hits {
                if let Some(hit) = packet.get_mut(at) {
                    *hit = byte;
                }
            }
            packet.truncate(len.max(1));
            packet
        });
    prop_oneof![1 => noise, 3 => damaged]
}

/// Switches with DHCP snooping add option 82 to what they pass on, and leave `giaddr` alone.
#[tokio::test]
async fn rfc3046_option_82_without_a_relay_is_answered_on_the_link() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::configured(data.path(), SUBNET).await;
    let asked = discover();
    let said = site
        .boot_port(67, Mode::Dhcp)
        .await
        .handle(&asked, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68))
        .await;
    let Outcome::Reply { reply, .. } = said else {
        panic!("{said:?}")
    };
    assert!(reply.yiaddr.octets().starts_with(&[127, 9, 0]));
    assert!(
        reply.relay_agent_information().is_some(),
        "echoed (RFC 3046 section 2.2)"
    );
}

/// raspberrypi/firmware#934: the boot ROM of a Raspberry Pi 3 hangs when it is answered at once.
#[tokio::test]
async fn quirk_a_hasty_rom_is_answered_late() {
    use farrier_proto::wire::option;
    let data = tempfile::tempdir().unwrap();
    let site = Site::configured(data.path(), SUBNET).await;
    let mut asked = Message::request(Xid(8), MacAddr([0xb8, 0x27, 0xeb, 0, 0, 1]));
    asked.options.set(option::DHCP_MESSAGE_TYPE, vec![1]);
    let class = b"PXEClient:Arch:00000:UNDI:002001".to_vec();
    asked.options.set(option::VENDOR_CLASS_IDENTIFIER, class);
    asked
        .options
        .set(option::CLIENT_SYSTEM_ARCHITECTURE, vec![0, 0]);
    let began = Instant::now();
    let said = site
        .boot_port(67, Mode::Dhcp)
        .await
        .handle(
            &asked.encode(),
            SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68),
        )
        .await;
    assert!(matches!(said, Outcome::Reply { .. }), "{said:?}");
    assert!(began.elapsed() >= Duration::from_millis(1500));
}

/// A hundred thousand DISCOVERs of invented addresses: a known machine is offered its address all the while,
/// in time, and gets it; nothing grows; and a minute later strangers are offered addresses again.
#[tokio::test]
async fn t10_known_machines_get_addresses_in_a_flood_of_invented_ones() {
    use farrier_proto::wire::dhcpv4::MessageType;
    use farrier_proto::wire::option;
    let data = tempfile::tempdir().unwrap();
    let site = Site::configured(data.path(), SUBNET).await;
    let port = site.boot_port(67, Mode::Dhcp).await;
    let known = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
    site.script(&known.to_string()).await;
    let ask = |mac, kind: u8, wanted: Option<Ipv4Addr>| {
        let mut message = Message::request(Xid(7), mac);
        message.options.set(option::DHCP_MESSAGE_TYPE, vec![kind]);
        let class = b"PXEClient:Arch:00007:UNDI:003016".to_vec();
        message.options.set(option::VENDOR_CLASS_IDENTIFIER, class);
        if let Some(wanted) = wanted {
            message
                .options
                .set(option::REQUESTED_IP_ADDRESS, wanted.octets());
            message
                .options
                .set(option::SERVER_IDENTIFIER, Ipv4Addr::LOCALHOST.octets());
        }
        message.encode()
    };
    let from = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
    let before = resident_kib();
    let (mut offers, mut waits) = (0, Vec::new());
    for n in 0..100_000u32 {
        let [a, b, c, d] = n.to_be_bytes();
        let invented = ask(MacAddr([2, 0, a, b, c, d]), 1, None);
        offers += usize::from(matches!(
            port.handle(&invented, from).await,
            Outcome::Reply { .. }
        ));
        if n % 500 == 499 {
            let start = Instant::now();
            let said = port.handle(&ask(known, 1, None), from).await;
            waits.push(start.elapsed());
            let Outcome::Reply { reply, .. } = said else {
                panic!("after {n}: {said:?}")
            };
            if n % 20_000 == 19_999 {
                let wanted = ask(known, 3, Some(reply.yiaddr));
                let said = port.handle(&wanted, from).await;
                let Outcome::Reply { reply: ack, .. } = said else {
                    panic!("{said:?}")
                };
                assert_eq!(ack.message_type(), Some(MessageType::Ack));
                assert_eq!(ack.yiaddr, reply.yiaddr);
            }
        }
    }
    waits.sort();
    let (p99, grown) = (
        waits[waits.len() * 99 / 100],
        resident_kib().saturating_sub(before),
    );
    println!(
        "T10: {offers} of 100000 invented addresses got an offer; known p99 {p99:?}; {grown} KiB more"
    );
    assert!(offers <= 256, "{offers} offers");
    assert!(p99 < Duration::from_millis(100), "{p99:?}");
    assert!(grown < 64 << 10, "{grown} KiB");
    assert_eq!(site.core.fleet.machine_count(), 1, "strangers cost no row");
    let later = now() + Duration::from_secs(61);
    let stranger = farrier_engine::lease::Client::new(MacAddr([2, 9, 9, 9, 9, 9]));
    let offered = site
        .core
        .leases
        .with_book(|book| book.offer(later, &stranger, Ipv4Addr::LOCALHOST, None));
    assert!(
        matches!(offered, farrier_engine::lease::Offered::Address { .. }),
        "offers nobody took are free again after a minute: {offered:?}"
    );
}

#[test]
fn t9_no_datagram_makes_a_boot_port_panic() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let data = tempfile::tempdir().unwrap();
    let site = runtime.block_on(Site::configured(data.path(), SUBNET));
    let ports = runtime.block_on(async {
        [
            site.boot_port(67, Mode::Dhcp).await,
            site.boot_port(67, Mode::Proxy).await,
            site.boot_port(4011, Mode::Proxy).await,
        ]
    });
    let sane = runtime
        .block_on(ports[0].handle(&discover(), SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68)));
    assert!(
        matches!(sane, Outcome::Reply { .. }),
        "undamaged it is answered: {sane:?}"
    );
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(700));
    let source =
        (any::<u32>(), any::<u16>()).prop_map(|(ip, port)| SocketAddrV4::new(ip.into(), port));
    let run = runner.run(
        &(datagrams(), source, 0..ports.len()),
        |(datagram, source, which)| {
            if let Outcome::Reply { reply, .. } =
                runtime.block_on(ports[which].handle(&datagram, source))
            {
                prop_assert!(Message::decode(&reply.encode()).is_ok());
            }
            Ok(())
        },
    );
    run.unwrap();
}
