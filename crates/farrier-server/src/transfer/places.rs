//! Transfers under way: bounded in all and per client (`T9`).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc};

use super::allowance::Allowance;

/// Every transfer of the server, on all its interfaces.
#[derive(Debug, Default)]
pub struct Transfers {
    running: Arc<Table>,
    /// Those whose file is still being read.
    waiting: Arc<Table>,
    pub(super) allowance: Arc<Allowance>,
}

#[derive(Debug, Default)]
struct Table(Mutex<Running>);

#[derive(Debug, Default)]
struct Running {
    peers: HashMap<SocketAddr, Line>,
    per_client: HashMap<IpAddr, usize>,
}

/// How a transfer is reached.
#[derive(Debug)]
struct Line {
    /// It hears there that its request came again.
    repeated: Arc<Notify>,
    /// What its client says, where all transfers share a port.
    mail: Option<mpsc::Sender<Vec<u8>>>,
}

pub(super) enum Taken {
    Place(Place),
    /// A transfer to this client's port is under way.
    Running(Arc<Notify>),
    Full,
}

#[derive(Debug)]
pub(super) struct Place {
    table: Arc<Table>,
    peer: SocketAddr,
    pub(super) repeated: Arc<Notify>,
}

impl Transfers {
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.lock().peers.len()
    }

    /// So many bytes of first blocks may leave for what this address has said elsewhere.
    pub(super) fn pay(&self, ip: IpAddr, bytes: u64) {
        if bytes > 0 {
            self.allowance.earned(ip, bytes);
        }
    }

    pub(super) fn take(&self, peer: SocketAddr) -> Taken {
        self.take_with(peer, None)
    }

    /// A place to wait at until the file is there. It is no transfer yet.
    pub(super) fn wait(&self, peer: SocketAddr) -> Taken {
        self.waiting.take(peer, None)
    }

    /// The same for a transfer that gets its packets handed over.
    pub(super) fn take_with(&self, peer: SocketAddr, mail: Option<mpsc::Sender<Vec<u8>>>) -> Taken {
        self.running.take(peer, mail)
    }

    /// Hands a packet to the transfer it belongs to. What has none, or does not read, loses it like any network.
    pub(super) fn hand_over(&self, peer: SocketAddr, packet: &[u8]) {
        let running = self.running.lock();
        let line = running.peers.get(&peer);
        if let Some(mail) = line.and_then(|line| line.mail.as_ref()) {
            let _ = mail.try_send(packet.to_vec());
        }
    }
}

impl Table {
    fn take(self: &Arc<Self>, peer: SocketAddr, mail: Option<mpsc::Sender<Vec<u8>>>) -> Taken {
        let mut running = self.lock();
        if let Some(line) = running.peers.get(&peer) {
            return Taken::Running(Arc::clone(&line.repeated));
        }
        let own = running.per_client.get(&peer.ip()).copied().unwrap_or(0);
        if running.peers.len() >= MAX_TRANSFERS || own >= MAX_PER_CLIENT {
            return Taken::Full;
        }
        let repeated = Arc::<Notify>::default();
        let line = Line {
            repeated: Arc::clone(&repeated),
            mail,
        };
        running.peers.insert(peer, line);
        running.per_client.insert(peer.ip(), own + 1);
        Taken::Place(Place {
            table: Arc::clone(self),
            peer,
            repeated,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut running = self.table.lock();
        running.peers.remove(&self.peer);
        if let Some(own) = running.per_client.get_mut(&self.peer.ip()) {
            *own -= 1;
            if *own == 0 {
                running.per_client.remove(&self.peer.ip());
            }
        }
    }
}

/// Each costs a socket and a few hundred bytes.
const MAX_TRANSFERS: usize = 4096;
/// Loaders fetch one file at a time, sometimes two; many clients may sit behind one address, though.
const MAX_PER_CLIENT: usize = 64;

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use tokio::sync::mpsc;

    use super::{MAX_PER_CLIENT, Taken, Transfers};

    #[test]
    fn t9_the_shared_port_hands_packets_to_the_transfer_they_belong_to() {
        let transfers = Arc::new(Transfers::default());
        let peer = |port: u16| SocketAddr::new([10, 0, 0, 1].into(), port);
        let (mail, mut incoming) = mpsc::channel(2);
        let place = transfers.take_with(peer(1), Some(mail));
        transfers.hand_over(peer(1), b"one");
        transfers.hand_over(peer(2), b"nobody's");
        for _ in 0..100 {
            transfers.hand_over(peer(1), b"more than it reads");
        }
        let read: Vec<_> = std::iter::from_fn(|| incoming.try_recv().ok()).collect();
        assert_eq!((read.len(), &read[0][..]), (2, &b"one"[..]));
        drop(place);
        transfers.hand_over(peer(1), b"late");
        assert!(incoming.try_recv().is_err());
    }

    #[test]
    fn t9_a_client_cannot_take_every_transfer_and_a_repeated_request_is_one() {
        let transfers = Arc::new(Transfers::default());
        let peer = |port: u16| SocketAddr::new([10, 0, 0, 1].into(), port);
        let first = transfers.take(peer(1));
        assert!(matches!(first, Taken::Place(_)));
        assert!(matches!(transfers.take(peer(1)), Taken::Running(_)));
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
}
