//! TFTP: request -> name -> file or page -> stream. One task and one socket a transfer; the protocol itself
//! is [`TftpTransfer`].

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use farrier_net::{datagram, offload};
use farrier_proto::Instant;
use farrier_proto::session::tftp_transfer::{Event, Limits, TftpTransfer, Transmit};
use farrier_proto::wire::tftp::{ErrorCode, Packet, ReadRequest, clean_name, data_header};
use tokio::net::UdpSocket;
use tokio::sync::watch;

use crate::boot_tree::{Asker, BootTree, Served};

/// The TFTP server of one interface.
#[derive(Debug)]
pub struct TftpServer {
    pub socket: UdpSocket,
    pub interface: String,
    pub address: Ipv4Addr,
    pub tree: Arc<BootTree>,
    pub transfers: Arc<Transfers>,
}

impl TftpServer {
    /// Serves until `stop` changes; transfers under way end with the process.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let server = Arc::new(self);
        let mut buffer = [0; MAX_REQUEST];
        loop {
            let received = tokio::select! {
                received = server.socket.recv_from(&mut buffer) => received,
                _ = stop.changed() => return,
            };
            match received {
                Ok((len, SocketAddr::V4(peer))) => server.handle(&buffer[..len], peer).await,
                Ok(_) => {}
                // An ICMP error of an earlier answer: that client is gone.
                Err(error) => tracing::debug!(%error, "TFTP socket"),
            }
        }
    }

    async fn handle(self: &Arc<Self>, packet: &[u8], peer: SocketAddrV4) {
        if !self.tree.may_ask(*peer.ip()) {
            return self.tree.ignored_stranger(*peer.ip());
        }
        let request = match Packet::decode(packet) {
            Ok(Packet::ReadRequest(request)) => request,
            Ok(Packet::WriteRequest(_)) => {
                let refusal = "Nothing can be written here: images are captured by the agent.";
                return self
                    .refuse(peer, ErrorCode::ACCESS_VIOLATION, refusal)
                    .await;
            }
            // Stray ACKs of transfers that are over, and noise.
            Ok(_) | Err(_) => return,
        };
        let name = match clean_name(&request.name) {
            Ok(name) => name,
            Err(error) => {
                return self
                    .refuse(peer, ErrorCode::FILE_NOT_FOUND, &error.to_string())
                    .await;
            }
        };
        let asker = Asker {
            ip: *peer.ip(),
            server: self.address,
        };
        match self.tree.resolve(&name, asker).await {
            Ok(served) => self.start(request, served, peer).await,
            Err(missing) => {
                self.tree.missed(&name, asker, &missing);
                self.refuse(peer, ErrorCode::FILE_NOT_FOUND, &missing.to_string())
                    .await;
            }
        }
    }

    async fn start(self: &Arc<Self>, request: ReadRequest, served: Served, peer: SocketAddrV4) {
        let place = match self.transfers.take(peer) {
            Taken::Place(place) => place,
            // The request came twice (PXELINUX does that, `firmware.md` T14); the first is being served.
            Taken::Running => return,
            Taken::Full => {
                let refusal = "The server is busy: too many transfers at once. Try again.";
                return self.refuse(peer, ErrorCode::NOT_DEFINED, refusal).await;
            }
        };
        let socket = match datagram::connected(&self.interface, self.address, peer) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(%error, %peer, "no socket for a TFTP transfer");
                return;
            }
        };
        let server = Arc::clone(self);
        tokio::spawn(async move {
            let _place = place;
            let asker = Asker {
                ip: *peer.ip(),
                server: server.address,
            };
            let ended = stream(&socket, &request, &served.content, place_clock()).await;
            match ended {
                Ok(event) => server.tree.transferred(&served, asker, &event),
                Err(error) => {
                    tracing::debug!(%error, %peer, "the client's port closed during a TFTP transfer")
                }
            }
        });
    }

    async fn refuse(&self, peer: SocketAddrV4, code: ErrorCode, text: &str) {
        let packet = Packet::Error {
            code,
            text: text.as_bytes(),
        }
        .encode();
        // The client asks again when this is lost.
        let _ = self.socket.send_to(&packet, peer).await;
    }
}

/// Runs one transfer to its end. An error means that the client's host said its port is closed.
async fn stream(
    socket: &UdpSocket,
    request: &ReadRequest,
    content: &Bytes,
    clock: impl Fn() -> Instant,
) -> io::Result<Event> {
    let mut transfer = TftpTransfer::new(clock(), request, content.len() as u64, Limits::default());
    let mut sender = Sender::new(socket, content, &transfer);
    let mut buffer = [0; MAX_ANSWER];
    loop {
        while let Some(transmit) = transfer.poll_transmit() {
            sender.send(transmit).await?;
        }
        if let Some(event) = transfer.poll_event() {
            return Ok(event);
        }
        let wait = transfer.poll_timeout().map_or(IDLE, |at| at.since(clock()));
        match tokio::time::timeout(wait, socket.recv(&mut buffer)).await {
            // A packet that cannot be read is noise; the timer goes on.
            Ok(received) => drop(transfer.handle(clock(), &buffer[..received?])),
            Err(_) => transfer.handle_timeout(clock()),
        }
    }
}

/// Turns block numbers into datagrams.
struct Sender<'a> {
    socket: &'a UdpSocket,
    content: &'a Bytes,
    buffer: Vec<u8>,
    /// Whether the kernel cuts one send into datagrams.
    offload: bool,
}

impl<'a> Sender<'a> {
    fn new(socket: &'a UdpSocket, content: &'a Bytes, transfer: &TftpTransfer) -> Self {
        let options = transfer.options();
        let segment = options.blksize.unwrap_or(DEFAULT_BLKSIZE) + HEADER;
        let windowed = options.windowsize.is_some_and(|w| w > 1);
        let offload = windowed && offload::cut_sends(socket, segment).is_ok();
        Self {
            socket,
            content,
            buffer: Vec::new(),
            offload,
        }
    }

    async fn send(&mut self, transmit: Transmit) -> io::Result<()> {
        match transmit {
            Transmit::Oack(packet) | Transmit::Error(packet) => {
                self.socket.send(&packet).await.map(drop)
            }
            Transmit::Blocks {
                first_block,
                offset,
                blksize,
                count,
                last_len,
            } => {
                let per_send = if self.offload { burst(blksize) } else { 1 };
                let mut done = 0;
                while done < count {
                    let run = per_send.min(count - done);
                    self.fill(
                        first_block + done,
                        offset + u64::from(done) * u64::from(blksize),
                        blksize,
                        run,
                        {
                            if done + run == count {
                                last_len
                            } else {
                                blksize
                            }
                        },
                    );
                    self.send_run(blksize).await?;
                    done += run;
                }
                Ok(())
            }
        }
    }

    fn fill(&mut self, first_block: u16, offset: u64, blksize: u16, count: u16, last_len: u16) {
        self.buffer.clear();
        for i in 0..count {
            let len = usize::from(if i + 1 == count { last_len } else { blksize });
            let start = usize::try_from(offset).unwrap_or(usize::MAX)
                + usize::from(i) * usize::from(blksize);
            self.buffer.extend_from_slice(&data_header(first_block + i));
            self.buffer
                .extend_from_slice(&self.content[start..start + len]);
        }
    }

    /// Sends what is in the buffer; without offload where the path does not take it.
    async fn send_run(&mut self, blksize: u16) -> io::Result<()> {
        match self.socket.send(&self.buffer).await {
            Err(error) if self.offload && error.kind() != io::ErrorKind::ConnectionRefused => {
                tracing::debug!(%error, "segmentation offload refused, sending plainly");
                self.offload = false;
                for packet in self.buffer.chunks(usize::from(blksize + HEADER)) {
                    self.socket.send(packet).await?;
                }
                Ok(())
            }
            sent => sent.map(drop),
        }
    }
}

/// How many blocks one send may carry: the kernel's limit of segments and of one UDP datagram.
fn burst(blksize: u16) -> u16 {
    let by_size = MAX_DATAGRAM / usize::from(blksize + HEADER);
    u16::try_from(by_size.clamp(1, offload::MAX_SEGMENTS)).unwrap_or(1)
}

fn place_clock() -> impl Fn() -> Instant {
    let start = tokio::time::Instant::now();
    move || Instant(u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX))
}

/// Transfers under way: bounded in all and per client (`T9`).
#[derive(Debug, Default)]
pub struct Transfers {
    running: Mutex<Running>,
}

#[derive(Debug, Default)]
struct Running {
    peers: std::collections::HashSet<SocketAddrV4>,
    per_client: HashMap<Ipv4Addr, usize>,
}

enum Taken {
    Place(Place),
    Running,
    Full,
}

#[derive(Debug)]
struct Place {
    transfers: Arc<Transfers>,
    peer: SocketAddrV4,
}

impl Transfers {
    #[must_use]
    pub fn running(&self) -> usize {
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .peers
            .len()
    }

    fn take(self: &Arc<Self>, peer: SocketAddrV4) -> Taken {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.peers.contains(&peer) {
            return Taken::Running;
        }
        let own = running.per_client.get(peer.ip()).copied().unwrap_or(0);
        if running.peers.len() >= MAX_TRANSFERS || own >= MAX_PER_CLIENT {
            return Taken::Full;
        }
        running.peers.insert(peer);
        running.per_client.insert(*peer.ip(), own + 1);
        Taken::Place(Place {
            transfers: Arc::clone(self),
            peer,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut running = self
            .transfers
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        running.peers.remove(&self.peer);
        if let Some(own) = running.per_client.get_mut(self.peer.ip()) {
            *own -= 1;
            if *own == 0 {
                running.per_client.remove(self.peer.ip());
            }
        }
    }
}

/// Requests hold a name and options; longer ones are cut and then fail to decode.
const MAX_REQUEST: usize = 2048;
const MAX_ANSWER: usize = 1024;
const MAX_DATAGRAM: usize = 65_507;
const DEFAULT_BLKSIZE: u16 = 512;
const HEADER: u16 = 4;
/// A transfer without a timer does not exist; this only bounds a mistake of ours.
const IDLE: Duration = Duration::from_secs(30);
/// Each costs a socket and a few hundred bytes.
const MAX_TRANSFERS: usize = 4096;
/// Loaders fetch one file at a time, sometimes two; many clients may sit behind one address, though.
const MAX_PER_CLIENT: usize = 64;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{MAX_PER_CLIENT, Taken, Transfers, burst};

    #[test]
    fn t9_a_client_cannot_take_every_transfer_and_a_repeated_request_is_one() {
        let transfers = Arc::new(Transfers::default());
        let peer = |port: u16| std::net::SocketAddrV4::new([10, 0, 0, 1].into(), port);
        let first = transfers.take(peer(1));
        assert!(matches!(first, Taken::Place(_)));
        assert!(matches!(transfers.take(peer(1)), Taken::Running));
        let held: Vec<_> = (2..=u16::try_from(MAX_PER_CLIENT).unwrap())
            .map(|p| transfers.take(peer(p)))
            .collect();
        assert!(held.iter().all(|t| matches!(t, Taken::Place(_))));
        assert!(matches!(transfers.take(peer(9999)), Taken::Full));
        drop(held);
        assert!(matches!(transfers.take(peer(9999)), Taken::Place(_)));
        drop(first);
        assert_eq!(transfers.running(), 0);
    }

    #[test]
    fn a_burst_fits_one_datagram_and_the_kernels_limit() {
        for (blksize, expected) in [(8, 64), (512, 64), (1428, 45), (1468, 44), (65464, 1)] {
            assert_eq!(burst(blksize), expected, "{blksize}");
        }
    }
}
