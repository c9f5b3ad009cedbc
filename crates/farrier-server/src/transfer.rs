//! TFTP: request -> name -> file or page -> stream. One task and one socket a transfer; the protocol itself
//! is [`TftpTransfer`].
//!
//! Requests may be forged, so little leaves before the first ACK: strangers get nothing, a request without
//! options is answered only where its address has proven itself, and [`allowance`] bounds the rest.

mod alarm;
mod allowance;
mod multicast;
mod places;
mod sender;
mod wire;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use farrier_engine::Reason;
use farrier_net::datagram;
use farrier_proto::Instant;
use farrier_proto::session::tftp_transfer::{Event, Limits, Phase, TftpTransfer, Transmit};
use farrier_proto::wire::tftp::{ErrorCode, Multicast, Packet, ReadRequest, clean_name};
use tokio::net::UdpSocket;
use tokio::sync::{Notify, mpsc, watch};

use crate::bind::TFTP_PORT;
use crate::boot_tree::{Asker, BootTree, Channel, Missing, Served};
use alarm::Alarm;
use allowance::Tab;
pub(crate) use allowance::{FACTOR, on_the_wire};
pub use multicast::MtftpGroups;
use multicast::delivery::Asking;
pub use multicast::mtftp::MtftpServer;
pub use multicast::streams::{StreamGroups, Streams};
use places::Taken;
pub use places::Transfers;
use sender::Sender;
use wire::{Incoming, Outgoing};

/// The TFTP server of one interface.
#[derive(Debug)]
pub struct TftpServer {
    pub socket: UdpSocket,
    pub interface: String,
    pub address: IpAddr,
    pub tree: Arc<BootTree>,
    pub transfers: Arc<Transfers>,
    /// RFC 2090, if it is on.
    pub streams: Option<Arc<Streams>>,
    pub habits: Habits,
}

/// What the configuration says of transfers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Habits {
    /// Everything leaves from the port that requests come to.
    pub single_port: bool,
    /// No packet is larger, headers included.
    pub path_mtu: Option<u16>,
}

/// Who asks, how much that took, and what may be answered for it.
struct Client {
    peer: SocketAddr,
    /// Bytes of the request.
    len: usize,
    tab: Tab,
}

impl TftpServer {
    /// Serves until `stop` changes; transfers under way end with the process.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let server = Arc::new(self);
        let mut buffer = [0; MAX_REQUEST];
        let mut stopped = pin!(stop.changed());
        loop {
            let received = tokio::select! {
                received = server.socket.recv_from(&mut buffer) => received,
                _ = &mut stopped => return,
            };
            match received {
                Ok((len, peer)) => server.handle(&buffer[..len], peer).await,
                // An ICMP error of an earlier answer: that client is gone.
                Err(error) => tracing::debug!(%error, "TFTP socket"),
            }
        }
    }

    async fn handle(self: &Arc<Self>, packet: &[u8], peer: SocketAddr) {
        if !self.tree.may_ask(peer.ip()) {
            return self.tree.ignored_stranger(peer.ip());
        }
        let client = |proven| Client {
            peer,
            len: packet.len(),
            tab: Tab::open(&self.transfers.allowance, peer.ip(), proven),
        };
        let request = match Packet::decode(packet) {
            Ok(Packet::ReadRequest(request)) => {
                self.tree.asked(peer, self.own_port(), packet);
                request
            }
            Ok(Packet::WriteRequest(_)) => {
                let refusal = "Nothing can be written here: images are captured by the agent.";
                return self
                    .refuse(client(false), ErrorCode::ACCESS_VIOLATION, refusal)
                    .await;
            }
            Ok(Packet::Ack { .. } | Packet::Error { .. }) if self.habits.single_port => {
                return self.transfers.hand_over(peer, packet);
            }
            // Stray ACKs of transfers that are over, and noise.
            Ok(_) | Err(_) => return,
        };
        let name = match clean_name(&request.name) {
            Ok(name) => name,
            Err(error) => {
                // Garbage may be a shim's.
                if let Some(served) = self.tree.rescue(self.asker(peer)) {
                    let client = client(self.is_proven(peer.ip()));
                    return self.start(request, served, client).await;
                }
                let refusal = error.to_string();
                return self
                    .refuse(client(false), ErrorCode::FILE_NOT_FOUND, &refusal)
                    .await;
            }
        };
        let asker = self.asker(peer);
        if self.tree.reads_the_disk(&name) {
            return self.answer_when_read(request, name, client(false)).await;
        }
        let again = self.tree.instead_of_itself(&name, asker, &request.options);
        let found = match again {
            Some(script) => Ok(script),
            None => self.tree.resolve(&name, asker).await,
        };
        self.answer(request, &name, found, client(false)).await;
    }

    /// Large files take seconds to be read, in which everybody else goes on.
    async fn answer_when_read(
        self: &Arc<Self>,
        request: ReadRequest,
        name: String,
        client: Client,
    ) {
        let place = match self.transfers.wait(client.peer) {
            Taken::Place(place) => place,
            // It asks again while its file is being read.
            Taken::Running(_) => return,
            Taken::Full => return self.refuse(client, ErrorCode::NOT_DEFINED, BUSY).await,
        };
        let server = Arc::clone(self);
        tokio::spawn(async move {
            let found = server.tree.resolve(&name, server.asker(client.peer)).await;
            drop(place);
            server.answer(request, &name, found, client).await;
        });
    }

    async fn answer(
        self: &Arc<Self>,
        request: ReadRequest,
        name: &str,
        found: Result<Served, Missing>,
        client: Client,
    ) {
        let Client { peer, len, .. } = client;
        match found {
            Ok(served) => {
                let proven = self.is_proven(peer.ip());
                let tab = Tab::open(&self.transfers.allowance, peer.ip(), proven);
                self.start(request, served, Client { peer, len, tab }).await;
            }
            Err(missing) => {
                self.tree.missed(name, self.asker(peer), &missing);
                let refusal = match missing {
                    Missing::NoSuchName | Missing::Expected => not_here(name),
                    other => other.to_string(),
                };
                self.refuse(client, ErrorCode::FILE_NOT_FOUND, &refusal)
                    .await;
            }
        }
    }

    /// Whether this address has spoken with us before it asks; what it said then pays for the first blocks.
    fn is_proven(&self, ip: IpAddr) -> bool {
        let proven = self.tree.has_proven_itself(ip);
        if proven {
            self.transfers.pay(ip, self.tree.spend_exchanges(ip));
        }
        proven
    }

    async fn start(self: &Arc<Self>, request: ReadRequest, served: Served, mut client: Client) {
        let peer = client.peer;
        if self.joins_stream(&request, &served, &client) {
            return;
        }
        let (mail, incoming) = if self.habits.single_port {
            let (mail, incoming) = mpsc::channel(MAIL);
            (Some(mail), Some(incoming))
        } else {
            (None, None)
        };
        let place = match self.transfers.take_with(peer, mail) {
            Taken::Place(place) => place,
            // The client asks again, or the request was doubled (PXELINUX does that, `firmware.md` T14).
            Taken::Running(repeated) => return repeated.notify_one(),
            Taken::Full => {
                return self.refuse(client, ErrorCode::NOT_DEFINED, BUSY).await;
            }
        };
        let own = match datagram::connected(&self.interface, self.address, peer) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(%error, %peer, "no socket for a TFTP transfer");
                return;
            }
        };
        let clock = place_clock();
        let length = served.content.len() as u64;
        let limits = self.limits(peer, &own);
        let mut transfer = TftpTransfer::new(clock(), &request, length, limits);
        if transfer.options().is_empty() && !client.tab.is_proven() {
            self.tree
                .refused(self.asker(peer), Reason::AddressNotProven);
            return self
                .refuse(client, ErrorCode::NOT_DEFINED, NOT_PROVEN)
                .await;
        }
        client.tab.heard(client.len);
        let first = transfer.poll_transmit();
        let Some(first) = first.filter(|first| client.tab.covers(size(first))) else {
            return self.tree.withheld(peer.ip());
        };
        let server = Arc::clone(self);
        tokio::spawn(async move {
            let options = transfer.options();
            let (outgoing, incoming) = match incoming {
                Some(incoming) => {
                    let (socket, to) = (&server.socket, Some(peer));
                    (Outgoing { socket, to }, Incoming::Shared(incoming))
                }
                None => {
                    let (socket, to) = (&own, None);
                    (Outgoing { socket, to }, Incoming::Own(&own))
                }
            };
            let stream = Stream {
                outgoing,
                incoming,
                content: &served.content,
                transfer: &mut transfer,
                client: &mut client,
                repeated: &place.repeated,
            };
            let ended = stream.run(first, &server.tree, clock).await;
            drop(place);
            match ended {
                Ok((event, acknowledged)) => {
                    let asker = server.asker(peer);
                    server.tree.transferred(&served, asker, &event);
                    if acknowledged == 0 && stalled(&event) {
                        server.tree.stalled(&served, asker, &options);
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, %peer, "the client's port closed during a TFTP transfer")
                }
            }
        });
    }

    /// Whether a stream answers this request. Forged ones must not make it wait for clients that are not there, so
    /// whoever has not proven itself is served by itself, by the rules for strangers.
    fn joins_stream(&self, request: &ReadRequest, served: &Served, client: &Client) -> bool {
        let (Some(streams), SocketAddr::V4(peer)) = (&self.streams, client.peer) else {
            return false;
        };
        let asked = request.options.multicast == Some(Multicast::Asked);
        if !asked || !client.tab.is_proven() {
            return false;
        }
        let asking = Asking {
            peer,
            asker: self.asker(client.peer),
            options: request.options,
            len: client.len,
        };
        let Ok(own) = datagram::connected(&self.interface, self.address, client.peer) else {
            return false;
        };
        streams.join(asking, served, self.limits(client.peer, &own).max_blksize)
    }

    /// An ERROR packet, short enough to be no more than its request paid for.
    async fn refuse(&self, mut client: Client, code: ErrorCode, text: &str) {
        let end = text.floor_char_boundary(MAX_REFUSAL);
        let packet = Packet::Error {
            code,
            text: &text.as_bytes()[..end],
        }
        .encode();
        client.tab.heard(client.len);
        if !client.tab.covers(packet.len()) {
            return self.tree.withheld(client.peer.ip());
        }
        self.tree.answered(client.peer, self.own_port(), &packet);
        // The client asks again when this is lost.
        let _ = self.socket.send_to(&packet, client.peer).await;
    }

    /// Some devices lose large blocks (`quirk`), or have lost some here; no path takes larger packets than it takes,
    /// and a boot ROM puts no fragments together. What the path takes the kernel has from the interface, the route,
    /// and from routers that had to drop a packet of ours.
    fn limits(&self, peer: SocketAddr, own: &UdpSocket) -> Limits {
        let allowed = self.tree.allows(peer.ip());
        let told = [
            datagram::path_mtu(own, peer.ip()).ok(),
            self.habits.path_mtu,
        ];
        let packets = told.into_iter().flatten();
        let fits = packets.map(|packet| packet.saturating_sub(headers(peer.ip())));
        let takes = self.tree.takes(peer.ip());
        let most = fits.chain(takes.max_blksize).min();
        Limits {
            max_blksize: most.map_or(allowed.max_blksize, |most| most.min(allowed.max_blksize)),
            max_windowsize: takes.max_windowsize.map_or(allowed.max_windowsize, |most| {
                most.min(allowed.max_windowsize)
            }),
            ..allowed
        }
    }

    fn own_port(&self) -> SocketAddr {
        SocketAddr::new(self.address, TFTP_PORT)
    }

    fn asker(&self, peer: SocketAddr) -> Asker {
        Asker {
            ip: peer.ip(),
            server: self.address,
            by: Channel::Tftp,
        }
    }
}

/// One transfer on its socket. What is large stays where it is: a thousand of these may wait.
struct Stream<'a> {
    outgoing: Outgoing<'a>,
    incoming: Incoming<'a>,
    content: &'a Bytes,
    transfer: &'a mut TftpTransfer,
    client: &'a mut Client,
    repeated: &'a Notify,
}

impl Stream<'_> {
    /// Runs it to its end, and tells how many bytes had arrived before that. An error means that the client's host
    /// said its port is closed.
    async fn run(
        self,
        first: Transmit,
        tree: &BootTree,
        clock: impl Fn() -> Instant,
    ) -> io::Result<(Event, u64)> {
        let Self {
            outgoing,
            mut incoming,
            content,
            transfer,
            client,
            repeated,
        } = self;
        let mut sender = Sender::new(outgoing, content, transfer);
        let lock_step = transfer
            .options()
            .windowsize
            .is_none_or(|blocks| blocks == 1);
        let mut acknowledged = 0;
        let mut alarm = Alarm::new();
        let mut again = pin!(repeated.notified());
        sender.send(first).await?;
        loop {
            while let Some(transmit) = transfer.poll_transmit() {
                if lock_step {
                    // The client says nothing before it has this.
                    incoming.was_emptied();
                }
                if transfer.has_answered() || client.tab.covers(size(&transmit)) {
                    sender.send(transmit).await?;
                } else {
                    tree.withheld(client.peer.ip());
                }
            }
            if let Some(event) = transfer.poll_event() {
                return Ok((event, acknowledged));
            }
            acknowledged = transfer.acknowledged_bytes();
            let due = transfer.poll_timeout();
            alarm.set_by(due, clock());
            tokio::select! {
                biased;
                // A packet that cannot be read is noise; the timer goes on.
                handled = incoming.next(|packet| transfer.handle(clock(), packet)) => drop(handled?),
                () = alarm.ring() => {
                    if due.is_none_or(|due| due <= clock()) {
                        transfer.handle_timeout(clock());
                    }
                }
                () = again.as_mut() => {
                    again.set(repeated.notified());
                    client.tab.heard(client.len);
                    transfer.handle_repeated_request();
                }
            }
            if transfer.has_answered() {
                client.tab.settle();
            }
        }
    }
}

/// The payload of what opens a transfer: one packet.
fn size(transmit: &Transmit) -> usize {
    match transmit {
        Transmit::Oack(packet) | Transmit::Error(packet) => packet.len(),
        Transmit::Blocks { last_len, .. } => 4 + usize::from(*last_len),
    }
}

fn place_clock() -> impl Fn() -> Instant {
    let start = tokio::time::Instant::now();
    move || Instant(u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX))
}

/// Which name is not here, and where the right ones are found: people read it on the machine's screen. The end of a
/// long name tells more than its beginning.
fn not_here(name: &str) -> String {
    let start = name.ceil_char_boundary(name.len().saturating_sub(MAX_NAME_SHOWN));
    let name = &name[start..];
    format!("There is no such file: {name}. See farrier loader list.")
}

/// Nothing of what was sent arrived, though the client was there to agree on how.
fn stalled(event: &Event) -> bool {
    let phase = Phase::Sending;
    *event == Event::TimedOut { phase }
}

/// Of IP, UDP and TFTP.
fn headers(ip: IpAddr) -> u16 {
    match ip {
        IpAddr::V4(_) => 20 + 8 + 4,
        IpAddr::V6(_) => 40 + 8 + 4,
    }
}

/// Packets that wait for a transfer at the shared port.
const MAIL: usize = 64;
/// Requests hold a name and options; longer ones are cut and then fail to decode.
const MAX_REQUEST: usize = 2048;
/// With it an ERROR is below five times the shortest request.
const MAX_REFUSAL: usize = 96;
const MAX_NAME_SHOWN: usize = 44;
const BUSY: &str = "The server is busy: too many transfers at once. Try again.";
const NOT_PROVEN: &str =
    "Ask with an option such as blksize, or get a lease or boot answer here first.";
