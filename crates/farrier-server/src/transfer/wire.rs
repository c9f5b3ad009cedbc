//! A transfer's way to its client: a socket of its own, or the port that all share (`tftp.single_port`).

use std::io;
use std::net::SocketAddr;

use tokio::io::Interest;
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

/// Says that nothing more is there, which saves asking the kernel for it: a fifth of the calls of a transfer in lock
/// step. What did come is read with the next packet that comes.
pub(super) fn was_emptied(socket: &UdpSocket) {
    let nothing = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
    let _ = socket.try_io(Interest::READABLE, nothing);
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
    /// [`was_emptied`] of a socket of its own.
    pub(super) fn was_emptied(&self) {
        if let Self::Own(socket) = self {
            was_emptied(socket);
        }
    }

    /// Waits for the next packet and hands it to `handle`. May be given up and called again.
    ///
    /// The packet is read where nothing waits, so that its buffer is no part of what a transfer keeps.
    pub(super) async fn next<T>(&mut self, handle: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
        match self {
            Self::Own(socket) => loop {
                socket.readable().await?;
                let mut buffer = [0; MAX_ANSWER];
                match socket.try_recv(&mut buffer) {
                    Ok(len) => return Ok(handle(&buffer[..len])),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            },
            Self::Shared(mail) => match mail.recv().await {
                Some(packet) => Ok(handle(&packet[..packet.len().min(MAX_ANSWER)])),
                None => Err(io::ErrorKind::ConnectionAborted.into()),
            },
        }
    }
}

/// ACKs have four bytes; an ERROR's text may be longer, and is cut.
const MAX_ANSWER: usize = 1024;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::UdpSocket;
    use tokio::time::timeout;

    use super::Incoming;

    #[tokio::test]
    async fn what_came_all_the_same_is_read_with_the_next_packet() {
        let (own, client) = (
            UdpSocket::bind("127.0.0.1:0").await.unwrap(),
            UdpSocket::bind("127.0.0.1:0").await.unwrap(),
        );
        let at = own.local_addr().unwrap();
        let mut incoming = Incoming::Own(&own);
        for packet in [b"1", b"2"] {
            client.send_to(packet, at).await.unwrap();
        }
        assert_eq!(incoming.next(<[u8]>::to_vec).await.unwrap(), b"1");
        incoming.was_emptied();
        let waiting = timeout(Duration::from_millis(50), incoming.next(<[u8]>::to_vec)).await;
        assert!(waiting.is_err(), "nobody asked the kernel");
        client.send_to(b"3", at).await.unwrap();
        for expected in [b"2", b"3"] {
            let read = timeout(Duration::from_secs(5), incoming.next(<[u8]>::to_vec)).await;
            assert_eq!(read.unwrap().unwrap(), expected);
        }
    }
}
