//! A transfer's way to its client: a socket of its own, or the port that all share (`tftp.single_port`).

use std::io;
use std::net::SocketAddr;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;

/// Where its packets leave.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outgoing<'a> {
    pub(super) socket: &'a UdpSocket,
    /// Its client, where the socket has many.
    pub(super) to: Option<SocketAddr>,
}

/// Where its client's packets come in.
#[derive(Debug)]
pub(super) enum Incoming<'a> {
    Own(&'a UdpSocket),
    /// What the shared port heard from this client's port.
    Shared(mpsc::Receiver<Vec<u8>>),
}

impl Outgoing<'_> {
    pub(super) async fn send(self, packet: &[u8]) -> io::Result<()> {
        match self.to {
            None => self.socket.send(packet).await,
            Some(to) => self.socket.send_to(packet, to).await,
        }
        .map(drop)
    }

    /// Whether the socket's settings are this transfer's to change.
    pub(super) fn is_own(self) -> bool {
        self.to.is_none()
    }
}

impl Incoming<'_> {
    /// The next packet. May be given up and called again.
    pub(super) async fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Own(socket) => socket.recv(buffer).await,
            Self::Shared(mail) => {
                let Some(packet) = mail.recv().await else {
                    return Err(io::ErrorKind::ConnectionAborted.into());
                };
                let len = packet.len().min(buffer.len());
                buffer[..len].copy_from_slice(&packet[..len]);
                Ok(len)
            }
        }
    }
}
