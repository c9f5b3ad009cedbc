//! UDP sockets tied to one interface.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

/// Room for the bursts of a boot storm; the kernel caps it at its own limit.
const RECEIVE_BUFFER: usize = 4 << 20;

/// A socket that hears everything sent to `port` on `interface`, broadcasts included, and nothing that
/// arrives elsewhere. It is bound to the wildcard address, since a client without an address broadcasts.
pub fn listen(interface: &str, port: u16) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    // No SO_REUSEADDR: our own sockets differ by interface, and a foreign server on this port must
    // make the bind fail instead of answering beside us.
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.set_broadcast(true)?;
    // Best effort: the default still works, it only drops earlier.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    finish(socket, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port))
}

/// A socket on a port of its own, talking to one peer: a TFTP transfer (RFC 1350 section 4, TID).
pub fn connected(interface: &str, local: Ipv4Addr, peer: SocketAddrV4) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.bind_device(Some(interface.as_bytes()))?;
    let socket = finish(socket, SocketAddrV4::new(local, 0))?;
    rebind_peer(&socket, peer)?;
    Ok(socket)
}

fn rebind_peer(socket: &UdpSocket, peer: SocketAddrV4) -> io::Result<()> {
    socket2::SockRef::from(socket).connect(&SocketAddr::V4(peer).into())
}

fn finish(socket: Socket, local: SocketAddrV4) -> io::Result<UdpSocket> {
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::V4(local).into())?;
    UdpSocket::from_std(socket.into())
}
