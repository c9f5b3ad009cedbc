//! UDP sockets tied to one interface.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockRef, Socket, Type};
use tokio::net::UdpSocket;

/// Room for the bursts of a boot storm; the kernel caps it at its own limit.
const RECEIVE_BUFFER: usize = 4 << 20;

/// A socket that hears everything sent to `port` on `interface`, broadcasts included, and nothing that
/// arrives elsewhere. It is bound to the wildcard address, since a client without an address broadcasts.
pub fn listen(interface: &str, port: u16) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    // No SO_REUSEADDR: our own sockets differ by interface, and a foreign server on this port must
    // make the bind fail instead of answering beside us.
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.set_broadcast(true)?;
    // Best effort: the default still works, it only drops earlier.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    finish(
        socket,
        SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port).into(),
    )
}

/// Hears `group` too, on the interface with this `index`: PXE clients look for boot servers there.
pub fn join(socket: &UdpSocket, group: Ipv4Addr, index: u32) -> io::Result<()> {
    let interface = InterfaceIndexOrAddress::Index(index);
    SockRef::from(socket).join_multicast_v4_n(&group, &interface)
}

/// [`listen`] for IPv6: hears what is sent to `port` of `address` on the interface with this `index`, and
/// to `group` where one is given. With a group the address must be the wildcard.
pub fn listen6(
    interface: (&str, u32),
    address: Ipv6Addr,
    port: u16,
    group: Option<Ipv6Addr>,
) -> io::Result<UdpSocket> {
    let (name, index) = interface;
    let socket = Socket::new(Domain::IPV6, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    socket.set_only_v6(true)?;
    socket.bind_device(Some(name.as_bytes()))?;
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    if let Some(group) = group {
        socket.join_multicast_v6(&group, index)?;
        socket.set_multicast_if_v6(index)?;
    }
    finish(socket, SocketAddrV6::new(address, port, 0, 0).into())
}

/// A socket on a port of its own, talking to one peer: a TFTP transfer (RFC 1350 section 4, TID).
pub fn connected(interface: &str, local: IpAddr, peer: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(peer),
        Type::DGRAM.nonblocking(),
        Some(Protocol::UDP),
    )?;
    socket.bind_device(Some(interface.as_bytes()))?;
    let socket = finish(socket, SocketAddr::new(local, 0))?;
    SockRef::from(&socket).connect(&peer.into())?;
    Ok(socket)
}

/// A socket that talks to many: it sends to multicast groups on one interface, and hears what comes to `port` of
/// `local` there; 0 takes a free one. Packets go no further than the next router.
pub fn cast(interface: &str, local: Ipv4Addr, port: u16) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.set_multicast_if_v4(&local)?;
    socket.set_multicast_ttl_v4(1)?;
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    finish(socket, SocketAddrV4::new(local, port).into())
}

/// The largest packet that the path of a socket that is connected to `peer` takes, headers included: by the interface,
/// by the route, and by what routers have told of it in the last minutes.
#[allow(unsafe_code, reason = "IP_MTU has no safe wrapper in socket2")]
pub fn path_mtu(socket: &UdpSocket, peer: IpAddr) -> io::Result<u16> {
    let (level, name) = match peer {
        IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MTU),
        IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_MTU),
    };
    let mut value: libc::c_int = 0;
    let mut len = libc::socklen_t::try_from(size_of_val(&value)).expect("an int is small");
    // SAFETY: the pointers are to `value` and `len`, which live across the call, and `len` is the size of `value`; the
    // descriptor is open because `socket` is borrowed.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw mut value).cast(),
            &raw mut len,
        )
    };
    if done == 0 {
        Ok(u16::try_from(value).unwrap_or(u16::MAX))
    } else {
        Err(io::Error::last_os_error())
    }
}

fn finish(socket: Socket, local: SocketAddr) -> io::Result<UdpSocket> {
    socket.bind(&local.into())?;
    UdpSocket::from_std(socket.into())
}
