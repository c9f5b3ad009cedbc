//! ICMP echo to hosts that are not on a link of ours.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use farrier_proto::wire::echo;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

/// A raw ICMP socket. Opening one needs CAP_NET_RAW.
#[derive(Debug)]
pub struct EchoSocket {
    /// Not UDP: the type is taken for its sending and receiving, which are the same for every datagram.
    socket: UdpSocket,
    id: u16,
}

impl EchoSocket {
    /// `id` marks our questions.
    pub fn open(id: u16) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: UdpSocket::from_std(socket.into())?,
            id,
        })
    }

    /// Asks `ip`.
    pub async fn ask(&self, ip: Ipv4Addr) -> io::Result<()> {
        let question = echo::request(self.id);
        self.socket
            .send_to(&question, SocketAddrV4::new(ip, 0))
            .await
            .map(drop)
    }

    /// Waits until somebody answers. Safe to give up at any time.
    pub async fn answered(&self) -> io::Result<Ipv4Addr> {
        let mut buffer = [0; 128];
        loop {
            let len = self.socket.recv(&mut buffer).await?;
            if let Some(ip) = echo::answer(&buffer[..len], self.id) {
                return Ok(ip);
            }
        }
    }
}
