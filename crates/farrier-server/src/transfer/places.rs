//! Transfers under way: bounded in all and per client (`T9`).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::allowance::Allowance;

/// Every transfer of the server, on all its interfaces.
#[derive(Debug, Default)]
pub struct Transfers {
    running: Mutex<Running>,
    pub(super) allowance: Arc<Allowance>,
}

#[derive(Debug, Default)]
struct Running {
    /// Each hears there that its request came again.
    peers: HashMap<SocketAddr, Arc<Notify>>,
    per_client: HashMap<IpAddr, usize>,
}

pub(super) enum Taken {
    Place(Place),
    /// A transfer to this client's port is under way.
    Running(Arc<Notify>),
    Full,
}

#[derive(Debug)]
pub(super) struct Place {
    transfers: Arc<Transfers>,
    peer: SocketAddr,
    pub(super) repeated: Arc<Notify>,
}

impl Transfers {
    #[must_use]
    pub fn running(&self) -> usize {
        self.lock().peers.len()
    }

    pub(super) fn take(self: &Arc<Self>, peer: SocketAddr) -> Taken {
        let mut running = self.lock();
        if let Some(repeated) = running.peers.get(&peer) {
            return Taken::Running(Arc::clone(repeated));
        }
        let own = running.per_client.get(&peer.ip()).copied().unwrap_or(0);
        if running.peers.len() >= MAX_TRANSFERS || own >= MAX_PER_CLIENT {
            return Taken::Full;
        }
        let repeated = Arc::<Notify>::default();
        running.peers.insert(peer, Arc::clone(&repeated));
        running.per_client.insert(peer.ip(), own + 1);
        Taken::Place(Place {
            transfers: Arc::clone(self),
            peer,
            repeated,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut running = self.transfers.lock();
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

    use super::{MAX_PER_CLIENT, Taken, Transfers};

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
