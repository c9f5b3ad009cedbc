//! Sending magic packets on one interface, in each way that some network lets through.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};

use farrier_proto::MacAddr;
use farrier_proto::wire::wake::{ETHERTYPE, PORT, SecureOn, magic_packet};
use socket2::{Domain, Protocol, Socket, Type};

use crate::interface::{Interface, network};
use crate::link::LinkSender;

const EVERYBODY: MacAddr = MacAddr([0xff; 6]);

/// Wakes `mac` behind `interface`: by a frame of its own, which needs no IP; by the limited broadcast; and
/// by the directed broadcast of each network there, which switches with IGMP habits treat otherwise.
/// Returns where packets went, in words.
pub fn wake(
    interface: &Interface,
    mac: MacAddr,
    password: Option<SecureOn>,
) -> io::Result<Vec<String>> {
    let packet = magic_packet(mac, password);
    LinkSender::open(interface.index)?.send_frame(ETHERTYPE, EVERYBODY, &packet)?;
    let mut went = vec![format!("frame on {}", interface.name)];
    let socket = broadcaster(Some(&interface.name))?;
    let directed = interface
        .addresses
        .iter()
        .filter(|(_, prefix)| *prefix < 31)
        .map(|(address, prefix)| broadcast_of(*address, *prefix));
    for to in std::iter::once(Ipv4Addr::BROADCAST).chain(directed) {
        socket.send_to(&packet, SocketAddrV4::new(to, PORT))?;
        went.push(format!("{to} on {}", interface.name));
    }
    Ok(went)
}

/// Wakes `mac` in a network behind routers that forward directed broadcasts (RFC 2644 has them drop
/// these unless told otherwise).
pub fn wake_far(broadcast: Ipv4Addr, mac: MacAddr, password: Option<SecureOn>) -> io::Result<()> {
    let packet = magic_packet(mac, password);
    let to = SocketAddrV4::new(broadcast, PORT);
    broadcaster(None)?.send_to(&packet, to).map(drop)
}

/// The address that all hosts of the network of `address` hear.
#[must_use]
pub fn broadcast_of(address: Ipv4Addr, prefix: u8) -> Ipv4Addr {
    let hosts = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
    Ipv4Addr::from_bits(network(address, prefix).to_bits() | hosts)
}

fn broadcaster(interface: Option<&str>) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_broadcast(true)?;
    socket.bind_device(interface.map(str::as_bytes))?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::broadcast_of;

    #[test]
    fn t4_directed_broadcast_of_every_prefix() {
        for (address, prefix, expected) in [
            ("10.77.3.200", 24, "10.77.3.255"),
            ("10.77.3.200", 23, "10.77.3.255"),
            ("10.77.3.200", 30, "10.77.3.203"),
            ("10.77.3.200", 0, "255.255.255.255"),
            ("10.77.3.200", 32, "10.77.3.200"),
        ] {
            let found = broadcast_of(address.parse().unwrap(), prefix);
            assert_eq!(found.to_string(), expected, "/{prefix}");
        }
    }
}
