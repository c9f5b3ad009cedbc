//! The clients of one stream on their socket: what they may be sent, and what becomes of them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;

use farrier_proto::Instant;
use farrier_proto::session::multicast::{Event, Joined, MulticastStream, Transmit};
use farrier_proto::session::tftp_transfer::{Event as Ended, Phase};
use farrier_proto::wire::tftp::{TransferOptions, data_header};
use tokio::net::UdpSocket;

use super::super::allowance::Tab;
use super::super::places::{Place, Taken, Transfers};
use super::super::wire::was_emptied;
use crate::boot_tree::{Asker, BootTree, Served};

/// A stream with its content and its clients.
#[derive(Debug)]
pub(super) struct Cast {
    pub(super) session: MulticastStream,
    pub(super) served: Served,
    /// How it is called on the timeline.
    by: &'static str,
    clients: HashMap<SocketAddrV4, Client>,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Client {
    tab: Tab,
    asker: Asker,
    _place: Place,
}

/// A client that asks.
#[derive(Debug)]
pub(in crate::transfer) struct Asking {
    pub(in crate::transfer) peer: SocketAddrV4,
    pub(in crate::transfer) asker: Asker,
    pub(in crate::transfer) options: TransferOptions,
    /// Bytes of the request.
    pub(in crate::transfer) len: usize,
}

/// Whether a client may be one of a stream.
pub(super) enum Admitted {
    Yes,
    /// It is served by itself at this moment.
    Elsewhere,
    Full,
}

impl Cast {
    pub(super) fn new(session: MulticastStream, served: Served, by: &'static str) -> Self {
        Self {
            session,
            served,
            by,
            clients: HashMap::new(),
            buffer: Vec::new(),
        }
    }

    /// Hands on the request of a client that may be one of the stream.
    pub(super) fn request(
        &mut self,
        now: Instant,
        asking: &Asking,
        transfers: &Arc<Transfers>,
    ) -> Admitted {
        let admitted = self.admit(asking, transfers);
        if matches!(admitted, Admitted::Yes)
            && self.session.request(now, asking.peer, &asking.options) == Joined::No
        {
            self.clients.remove(&asking.peer);
            return Admitted::Full;
        }
        admitted
    }

    /// Notes how much was asked, and who by unless that is known.
    fn admit(&mut self, asking: &Asking, transfers: &Arc<Transfers>) -> Admitted {
        let &Asking {
            peer, asker, len, ..
        } = asking;
        let client = match self.clients.entry(peer) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(free) => {
                let place = match transfers.take(SocketAddr::V4(peer)) {
                    Taken::Place(place) => place,
                    Taken::Running(_) => return Admitted::Elsewhere,
                    Taken::Full => return Admitted::Full,
                };
                free.insert(Client {
                    tab: Tab::open(&transfers.allowance, asker.ip, true),
                    asker,
                    _place: place,
                })
            }
        };
        client.tab.heard(len);
        Admitted::Yes
    }

    /// A client has answered: nothing of what it was sent was unwanted.
    pub(super) fn answered(&mut self, peer: SocketAddrV4) {
        if let Some(client) = self.clients.get_mut(&peer) {
            client.tab.settle();
        }
    }

    /// Sends what is due and tells what has happened.
    pub(super) async fn deliver(&mut self, socket: &UdpSocket, tree: &BootTree) {
        while let Some(transmit) = self.session.poll_transmit() {
            self.send(transmit, socket, tree).await;
        }
        while let Some(event) = self.session.poll_event() {
            self.tell(&event, tree);
        }
    }

    async fn send(&mut self, transmit: Transmit, socket: &UdpSocket, tree: &BootTree) {
        let (to, packet) = match &transmit {
            Transmit::Packet { to, bytes } => (*to, bytes),
            Transmit::Block {
                to,
                block,
                offset,
                len,
            } => {
                let start = usize::try_from(*offset).unwrap_or(usize::MAX);
                let end = start.saturating_add(usize::from(*len));
                let Some(data) = self.served.content.get(start..end) else {
                    return;
                };
                self.buffer.clear();
                self.buffer.extend_from_slice(&data_header(*block));
                self.buffer.extend_from_slice(data);
                (*to, &self.buffer)
            }
        };
        // What goes to the group follows an ACK, or block 1 to a client.
        if let Some(client) = self.clients.get_mut(&to)
            && !client.tab.covers(packet.len())
        {
            return tree.withheld(client.asker.ip);
        }
        if to == self.session.group() {
            // Whose turn it is says nothing before it has this; what others say is read with that.
            was_emptied(socket);
        }
        if let Err(error) = socket.send_to(packet, to).await {
            tracing::debug!(%error, %to, "a packet of a multicast stream could not be sent");
        }
    }

    fn tell(&mut self, event: &Event, tree: &BootTree) {
        let (peer, ended) = match event {
            Event::Over { blocks } => {
                let name = &self.served.name;
                return tracing::debug!(name, blocks, "a multicast stream has ended");
            }
            Event::Done { peer, duration } => {
                let done = Ended::Done {
                    bytes: self.served.content.len() as u64,
                    duration: *duration,
                    retransmits: 0,
                };
                (*peer, Some(done))
            }
            Event::ClientError { peer, code, text } => {
                let (code, text) = (*code, text.clone());
                (*peer, Some(Ended::ClientError { code, text }))
            }
            // Who heard the whole stream without its turn coming has gone on, and MTFTP has no word for that.
            Event::TimedOut {
                peer,
                phase: Phase::Opening,
            } => (*peer, None),
            Event::TimedOut { peer, phase } => (*peer, Some(Ended::TimedOut { phase: *phase })),
        };
        if let Some(client) = self.clients.remove(&peer)
            && let Some(ended) = ended
        {
            tree.transferred_by(self.by, &self.served, client.asker, &ended);
        }
    }
}
