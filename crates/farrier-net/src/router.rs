//! ICMPv6 router solicitations and advertisements on one interface.

use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};

use farrier_proto::wire::ndp;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// RFC 4861 section 6.1: anything less has crossed a router and is dropped by whoever gets it.
const HOP_LIMIT: u32 = 255;

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
        socket.set_nonblocking(true)?;
        socket.bind_device(Some(name.as_bytes()))?;
        socket.join_multicast_v6(&ALL_ROUTERS, index)?;
        socket.set_multicast_if_v6(index)?;
        socket.set_multicast_hops_v6(HOP_LIMIT)?;
        socket.set_multicast_loop_v6(false)?;
        let socket = UdpSocket::from_std(socket.into())?;
        Ok(Self { socket, index })
    }

    /// Waits until somebody solicits an advertisement. Safe to give up at any time.
    pub async fn solicited(&self) -> io::Result<()> {
        let mut buffer = [0; 8];
        loop {
            let received = self.socket.recv(&mut buffer).await?;
            if ndp::is_solicitation(&buffer[..received]) {
                return Ok(());
            }
        }
    }

    /// Sends an advertisement to every host of the link.
    pub async fn advertise(&self, message: &[u8]) -> io::Result<()> {
        let to = SocketAddrV6::new(ALL_NODES, 0, 0, self.index);
        self.socket.send_to(message, to).await.map(drop)
    }
}
