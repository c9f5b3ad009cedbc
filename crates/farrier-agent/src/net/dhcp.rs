//! A DHCP client just large enough for one agent (RFC 2131 section 4.4): ask, take the first offer, keep it
//! alive. Used only when the boot script gave no address.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use farrier_proto::wire::dhcpv4::{BROADCAST, Message, MessageType, Xid};
use farrier_proto::wire::option;
use rustix::rand::GetRandomFlags;
use socket2::{Domain, Protocol, Socket, Type};

use super::{Interface, prefix_of};
use crate::arguments::StaticAddress;

/// An address and for how long.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub(super) address: StaticAddress,
    seconds: u32,
}

/// RFC 2131 section 4.1 doubles from 4 s; servers that probe before they offer need the first seconds.
const WAITS: [u64; 4] = [4, 8, 16, 16];

/// Says who asks, so that no server takes us for firmware and offers a boot file.
const VENDOR_CLASS: &[u8] = b"farrier-agent";

/// Asks until a server answers or patience ends.
pub(super) fn acquire(interface: &Interface) -> Option<Lease> {
    let socket = open(interface).ok()?;
    for seconds in WAITS {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        if let Some(lease) = attempt(&socket, interface, deadline) {
            return Some(lease);
        }
    }
    None
}

/// Renews the lease in the background while the agent runs.
pub(super) fn keep(interface: Interface, lease: Lease) {
    const INFINITE: u32 = u32::MAX;
    if lease.seconds == INFINITE {
        return;
    }
    thread::spawn(move || {
        let mut seconds = lease.seconds;
        loop {
            thread::sleep(Duration::from_secs(u64::from(seconds / 2).max(30)));
            // A renewal that gets no answer is tried again at half of what is left.
            seconds = renew(&interface, &lease).unwrap_or(seconds / 2);
        }
    });
}

fn open(interface: &Interface) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.set_broadcast(true)?;
    // The link has no address yet, so only the device says where packets go and come from.
    socket.bind_device(Some(interface.name.as_bytes()))?;
    socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68).into())?;
    Ok(socket.into())
}

fn attempt(socket: &UdpSocket, interface: &Interface, deadline: Instant) -> Option<Lease> {
    let xid = random_xid()?;
    let discover = message(xid, interface, MessageType::Discover);
    let offer = exchange(socket, &discover, deadline, |reply| {
        reply.message_type() == Some(MessageType::Offer)
    })?;
    let mut request = message(xid, interface, MessageType::Request);
    request
        .options
        .set(option::REQUESTED_IP_ADDRESS, offer.yiaddr.octets());
    request.options.set(
        option::SERVER_IDENTIFIER,
        offer.server_identifier()?.octets(),
    );
    let decided = |reply: &Message| {
        matches!(
            reply.message_type(),
            Some(MessageType::Ack | MessageType::Nak)
        )
    };
    let ack = exchange(socket, &request, deadline, decided)?;
    lease(&ack)
}

fn renew(interface: &Interface, lease: &Lease) -> Option<u32> {
    let socket = open(interface).ok()?;
    let mut request = message(random_xid()?, interface, MessageType::Request);
    let IpAddr::V4(own) = lease.address.address else {
        return None;
    };
    request.ciaddr = own;
    request.flags = 0;
    let deadline = Instant::now() + Duration::from_secs(10);
    let acked = |reply: &Message| reply.message_type() == Some(MessageType::Ack);
    exchange(&socket, &request, deadline, acked)?.lease_time()
}

fn message(xid: Xid, interface: &Interface, kind: MessageType) -> Message {
    let mut message = Message::request(xid, interface.mac);
    message.flags = BROADCAST;
    message.options.set(option::DHCP_MESSAGE_TYPE, [kind as u8]);
    message
        .options
        .set(option::VENDOR_CLASS_IDENTIFIER, VENDOR_CLASS);
    message.options.set(
        option::PARAMETER_REQUEST_LIST,
        [option::SUBNET_MASK, option::ROUTER],
    );
    message
}

/// Sends and waits for the reply that `wanted` accepts. Whatever else arrives is somebody else's.
fn exchange(
    socket: &UdpSocket,
    request: &Message,
    deadline: Instant,
    wanted: impl Fn(&Message) -> bool,
) -> Option<Message> {
    socket
        .send_to(
            &request.encode(),
            SocketAddrV4::new(Ipv4Addr::BROADCAST, 67),
        )
        .ok()?;
    let mut buffer = [0; 2048];
    loop {
        let left = deadline
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())?;
        socket.set_read_timeout(Some(left)).ok()?;
        let Ok((len, _)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let Ok(reply) = Message::decode(&buffer[..len]) else {
            continue;
        };
        if reply.xid == request.xid && reply.chaddr == request.chaddr && wanted(&reply) {
            return Some(reply);
        }
    }
}

fn lease(ack: &Message) -> Option<Lease> {
    if ack.message_type() != Some(MessageType::Ack) || ack.yiaddr.is_unspecified() {
        return None;
    }
    let address = |code| {
        ack.options
            .get(code)
            .and_then(|value| value.first_chunk::<4>())
            .map(|a| Ipv4Addr::from(*a))
    };
    let address = StaticAddress {
        address: ack.yiaddr.into(),
        prefix: address(option::SUBNET_MASK)
            .and_then(prefix_of)
            .unwrap_or(24),
        gateway: address(option::ROUTER).map(IpAddr::V4),
    };
    Some(Lease {
        address,
        seconds: ack.lease_time().unwrap_or(3600),
    })
}

/// A transaction id has to differ, not to be secret; waiting for entropy can take minutes on a machine
/// without a hardware source.
fn random_xid() -> Option<Xid> {
    let mut bytes = [0; 4];
    rustix::rand::getrandom(&mut bytes[..], GetRandomFlags::INSECURE).ok()?;
    Some(Xid(u32::from_be_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use farrier_proto::MacAddr;
    use farrier_proto::wire::dhcpv4::{Message, MessageType, Op, Xid};
    use farrier_proto::wire::option;

    use super::{Interface, lease, message};

    fn ack() -> Message {
        let mut ack = Message::request(Xid(7), MacAddr([2, 0, 0, 0, 0, 1]));
        ack.op = Op::Reply;
        ack.yiaddr = Ipv4Addr::new(192, 0, 2, 50);
        ack.options
            .set(option::DHCP_MESSAGE_TYPE, [MessageType::Ack as u8]);
        ack.options.set(option::SERVER_IDENTIFIER, [192, 0, 2, 1]);
        ack.options.set(option::SUBNET_MASK, [255, 255, 255, 128]);
        ack
    }

    #[test]
    fn rfc2131_4_4_1_an_ack_becomes_an_address() {
        let lease = lease(&ack()).unwrap();
        assert_eq!(
            (lease.address.prefix, lease.address.gateway, lease.seconds),
            (25, None, 3600)
        );
    }

    #[test]
    fn rfc2131_a_refusal_or_an_empty_address_is_no_lease() {
        let mut nak = ack();
        nak.options
            .set(option::DHCP_MESSAGE_TYPE, [MessageType::Nak as u8]);
        assert!(lease(&nak).is_none());
        let mut empty = ack();
        empty.yiaddr = Ipv4Addr::UNSPECIFIED;
        assert!(lease(&empty).is_none());
    }

    #[test]
    fn f10_the_agent_does_not_look_like_firmware() {
        let interface = Interface {
            name: "eth0".into(),
            index: 2,
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
        };
        let sent =
            Message::decode(&message(Xid(1), &interface, MessageType::Discover).encode()).unwrap();
        assert!(sent.wants_broadcast());
        assert!(
            sent.vendor_class()
                .is_some_and(|class| !class.is_pxe_client())
        );
        assert_eq!(sent.mac(), Some(interface.mac));
    }
}
