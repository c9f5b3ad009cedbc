//! RFC 2131 section 4.1, page 22, and what PXE adds: where each reply travels.

use std::net::{Ipv4Addr, SocketAddrV4};

use farrier_proto::MacAddr;
use farrier_proto::reply::{ReplyTo, destination};
use farrier_proto::wire::dhcpv4::{BROADCAST, Message, MessageType, Op, Xid};
use farrier_proto::wire::option;

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const NONE: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 77);
const RELAY: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);

/// `[giaddr, ciaddr, yiaddr]` and the rest of one exchange.
struct Case {
    asked: MessageType,
    answered: MessageType,
    addresses: [Ipv4Addr; 3],
    flags: u16,
    source: (Ipv4Addr, u16),
    local_port: u16,
}

const PLAIN: Case = Case {
    asked: MessageType::Discover,
    answered: MessageType::Offer,
    addresses: [NONE, NONE, CLIENT],
    flags: 0,
    source: (NONE, 68),
    local_port: 67,
};

fn request_and_reply(case: &Case) -> (Message, Message) {
    let mut request = Message::request(Xid(1), MAC);
    request
        .options
        .set(option::DHCP_MESSAGE_TYPE, [case.asked as u8]);
    [request.giaddr, request.ciaddr, _] = case.addresses;
    request.flags = case.flags;
    let mut reply = Message {
        op: Op::Reply,
        yiaddr: case.addresses[2],
        ..request.clone()
    };
    reply
        .options
        .set(option::DHCP_MESSAGE_TYPE, [case.answered as u8]);
    (request, reply)
}

fn check(name: &str, case: &Case, expected: ReplyTo) {
    let (request, reply) = request_and_reply(case);
    let source = SocketAddrV4::new(case.source.0, case.source.1);
    assert_eq!(
        destination(&request, &reply, source, case.local_port),
        expected,
        "{name}"
    );
}

fn relay() -> ReplyTo {
    ReplyTo::Relay(SocketAddrV4::new(RELAY, 67))
}

fn ciaddr() -> ReplyTo {
    ReplyTo::Ciaddr(SocketAddrV4::new(CLIENT, 68))
}

fn hardware() -> ReplyTo {
    ReplyTo::HardwareUnicast {
        addr: SocketAddrV4::new(CLIENT, 68),
        mac: MAC,
    }
}

const EVERYBODY: ReplyTo = ReplyTo::Broadcast { port: 68 };

#[test]
fn rfc2131_4_1_table() {
    use MessageType::{Ack, Inform, Nak, Offer, Request};
    let rows = [
        (
            "giaddr",
            Case {
                addresses: [RELAY, NONE, CLIENT],
                ..PLAIN
            },
            relay(),
        ),
        (
            "giaddr before ciaddr and flag",
            Case {
                addresses: [RELAY, CLIENT, CLIENT],
                flags: BROADCAST,
                ..PLAIN
            },
            relay(),
        ),
        (
            "a relay's own address is not its giaddr",
            Case {
                addresses: [RELAY, NONE, CLIENT],
                source: (Ipv4Addr::new(10, 0, 0, 254), 67),
                ..PLAIN
            },
            relay(),
        ),
        (
            "ciaddr, renewing",
            Case {
                asked: Request,
                answered: Ack,
                addresses: [NONE, CLIENT, CLIENT],
                ..PLAIN
            },
            ciaddr(),
        ),
        (
            "ciaddr before flag",
            Case {
                asked: Request,
                answered: Ack,
                addresses: [NONE, CLIENT, CLIENT],
                flags: BROADCAST,
                ..PLAIN
            },
            ciaddr(),
        ),
        (
            "broadcast flag",
            Case {
                flags: BROADCAST,
                ..PLAIN
            },
            EVERYBODY,
        ),
        ("no flag: by hardware address", PLAIN, hardware()),
        (
            "NAK on the same subnet",
            Case {
                asked: Request,
                answered: Nak,
                ..PLAIN
            },
            EVERYBODY,
        ),
        (
            "NAK although ciaddr is set, 4.3.2",
            Case {
                asked: Request,
                answered: Nak,
                addresses: [NONE, CLIENT, NONE],
                ..PLAIN
            },
            EVERYBODY,
        ),
        (
            "NAK through a relay",
            Case {
                asked: Request,
                answered: Nak,
                addresses: [RELAY, NONE, NONE],
                ..PLAIN
            },
            relay(),
        ),
        (
            "INFORM",
            Case {
                asked: Inform,
                answered: Ack,
                addresses: [NONE, CLIENT, NONE],
                ..PLAIN
            },
            ciaddr(),
        ),
        (
            "INFORM without ciaddr",
            Case {
                asked: Inform,
                answered: Ack,
                addresses: [NONE; 3],
                source: (CLIENT, 68),
                ..PLAIN
            },
            ciaddr(),
        ),
        (
            "proxy offer has no address to send to",
            Case {
                answered: Offer,
                addresses: [NONE; 3],
                ..PLAIN
            },
            EVERYBODY,
        ),
    ];
    for (name, case, expected) in rows {
        check(name, &case, expected);
    }
}

#[test]
fn pxe_2_1_port_4011_answers_the_very_source_port() {
    use MessageType::{Ack, Request};
    let ask = Case {
        asked: Request,
        answered: Ack,
        local_port: 4011,
        ..PLAIN
    };
    for port in [68, 4011, 1068] {
        let case = Case {
            addresses: [NONE, CLIENT, NONE],
            source: (CLIENT, port),
            ..ask
        };
        check(
            "edk2 and ROMs",
            &case,
            ReplyTo::SourcePort(SocketAddrV4::new(CLIENT, port)),
        );
    }
    let flagged = Case {
        addresses: [NONE, CLIENT, NONE],
        flags: BROADCAST,
        source: (CLIENT, 68),
        ..ask
    };
    check(
        "iPXE sets the flag there",
        &flagged,
        ReplyTo::SourcePort(SocketAddrV4::new(CLIENT, 68)),
    );
    let nameless = Case {
        addresses: [NONE; 3],
        source: (NONE, 68),
        ..ask
    };
    check("no address at all", &nameless, EVERYBODY);
}

#[test]
fn a_client_without_ethernet_address_gets_a_broadcast() {
    let (mut request, reply) = request_and_reply(&PLAIN);
    request.htype = 32;
    request.hlen = 0;
    let source = SocketAddrV4::new(NONE, 68);
    assert_eq!(destination(&request, &reply, source, 67), EVERYBODY);
}

#[test]
fn addr_is_what_the_packet_says() {
    assert_eq!(EVERYBODY.addr().to_string(), "255.255.255.255:68");
    assert_eq!(hardware().addr().to_string(), "10.0.0.77:68");
    assert_eq!(relay().addr().to_string(), "10.9.0.1:67");
}
