//! ICMPv6 router solicitations and advertisements on one interface.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::AsRawFd;

use farrier_proto::wire::ndp::{self, Discovery};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

/// Where advertisements to everybody go.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// RFC 4861 section 6.1: anything less has crossed a router and is dropped by whoever gets it.
const HOP_LIMIT: u32 = 255;
/// Longer than any solicitation; of advertisements only the beginning is looked at.
const MESSAGE: usize = 1280;

/// A raw ICMPv6 socket. Opening one needs CAP_NET_RAW.
#[derive(Debug)]
pub struct RouterSocket {
    /// Not UDP: the type is taken for its sending and receiving, which are the same for every datagram.
    socket: UdpSocket,
    index: u32,
}

impl RouterSocket {
    /// Opens it on the interface of this name and index.
    pub fn open(name: &str, index: u32) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
        hear_discovery_only(&socket)?;
        socket.set_nonblocking(true)?;
        socket.bind_device(Some(name.as_bytes()))?;
        socket.join_multicast_v6(&ALL_ROUTERS, index)?;
        socket.set_multicast_if_v6(index)?;
        socket.set_multicast_hops_v6(HOP_LIMIT)?;
        socket.set_unicast_hops_v6(HOP_LIMIT)?;
        socket.set_multicast_loop_v6(false)?;
        let socket = UdpSocket::from_std(socket.into())?;
        Ok(Self { socket, index })
    }

    /// Waits for a message and returns it with its sender. Safe to give up at any time.
    ///
    /// Whether it crossed a router (RFC 4861 section 6.1) is not looked at: no router forwards what comes from a
    /// link-local address, so that is what a solicitation has to come from to be answered.
    pub async fn receive(&self) -> io::Result<(Ipv6Addr, Discovery)> {
        let mut buffer = [0; MESSAGE];
        loop {
            let (received, from) = self.socket.recv_from(&mut buffer).await?;
            if let SocketAddr::V6(from) = from
                && let Ok(Some(heard)) = Discovery::decode(&buffer[..received])
            {
                return Ok((*from.ip(), heard));
            }
        }
    }

    /// Sends an advertisement to one host of the link, or to [`ALL_NODES`].
    pub async fn advertise(&self, message: &[u8], to: Ipv6Addr) -> io::Result<()> {
        let to = SocketAddrV6::new(to, 0, 0, self.index);
        self.socket.send_to(message, to).await.map(drop)
    }

    /// Asks the routers of the link to advertise themselves.
    pub async fn solicit(&self) -> io::Result<()> {
        let to = SocketAddrV6::new(ALL_ROUTERS, 0, 0, self.index);
        self.socket.send_to(&ndp::SOLICITATION, to).await.map(drop)
    }
}

/// Pings and neighbours are the kernel's: the socket hears nothing of them.
#[allow(unsafe_code, reason = "ICMPV6_FILTER has no safe wrapper in socket2")]
fn hear_discovery_only(socket: &Socket) -> io::Result<()> {
    // One bit for each type, set for what is kept away (RFC 3542 section 3.2).
    let mut filter = [u32::MAX; 8];
    for kind in ndp::TYPES {
        filter[usize::from(kind / 32)] &= !(1 << (kind % 32));
    }
    let len = libc::socklen_t::try_from(size_of_val(&filter)).expect("32 bytes");
    // SAFETY: the pointer and length describe `filter`, which lives across the call and has the size of
    // icmp6_filter; the descriptor is open because `socket` is borrowed.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_ICMPV6,
            ICMPV6_FILTER,
            (&raw const filter).cast(),
            len,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// `linux/icmpv6.h`; the libc crate does not have it.
const ICMPV6_FILTER: libc::c_int = 1;
