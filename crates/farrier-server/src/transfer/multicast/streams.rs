//! RFC 2090: clients that ask for the same file share a stream, which has a task, a socket and a group of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use farrier_net::datagram;
use farrier_proto::session::multicast::{DEFAULT_BLKSIZE, Dialect, MulticastStream, fits};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::super::places::Transfers;
use super::super::{Alarm, place_clock};
use super::delivery::{Asking, Cast};
use super::{FreeGroups, TakenGroup};
use crate::boot_tree::{BootTree, Served};
use crate::config::Groups;

/// The streams of one interface.
#[derive(Debug)]
pub struct Streams {
    interface: String,
    address: Ipv4Addr,
    tree: Arc<BootTree>,
    transfers: Arc<Transfers>,
    free: Arc<FreeGroups>,
    running: Mutex<Vec<Running>>,
}

#[derive(Debug)]
struct Running {
    content: Bytes,
    blksize: u16,
    joins: mpsc::Sender<Asking>,
}

/// Groups that all interfaces share.
#[derive(Debug)]
pub struct StreamGroups(Arc<FreeGroups>);

impl StreamGroups {
    #[must_use]
    pub fn new(groups: &Groups) -> Self {
        Self(Arc::new(FreeGroups::new(groups)))
    }
}

impl Streams {
    #[must_use]
    pub fn new(
        (interface, address): (String, Ipv4Addr),
        tree: Arc<BootTree>,
        transfers: Arc<Transfers>,
        groups: &StreamGroups,
    ) -> Self {
        Self {
            interface,
            address,
            tree,
            transfers,
            free: Arc::clone(&groups.0),
            running: Mutex::default(),
        }
    }

    /// Puts a client into the stream of this file, which begins with it if there is none. False if that cannot be,
    /// so that the client is served by itself.
    pub(in crate::transfer) fn join(
        self: &Arc<Self>,
        join: Asking,
        served: &Served,
        max_blksize: u16,
    ) -> bool {
        let wanted = match join.options.blksize {
            Some(offered) => offered.min(max_blksize),
            None => DEFAULT_BLKSIZE,
        };
        if !fits(served.content.len() as u64, wanted) {
            return false;
        }
        let mut running = self.running();
        let same = |one: &&Running| {
            one.blksize == wanted
                && (one.content.as_ptr() == served.content.as_ptr()
                    || one.content == served.content)
        };
        let join = match running.iter().find(same) {
            Some(one) => match one.joins.try_send(join) {
                Ok(()) => return true,
                // As many wait at once as a stream takes; who asks again is heard then.
                Err(mpsc::error::TrySendError::Full(_)) => return true,
                Err(mpsc::error::TrySendError::Closed(join)) => join,
            },
            None => join,
        };
        let Some(group) = self.free.take() else {
            return false;
        };
        let socket = match datagram::cast(&self.interface, self.address, 0) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(%error, "no socket for a multicast stream: clients are served one by one");
                return false;
            }
        };
        let (joins, asking) = mpsc::channel(WAITING);
        let _ = joins.try_send(join);
        running.push(Running {
            content: served.content.clone(),
            blksize: wanted,
            joins,
        });
        let (streams, served) = (Arc::clone(self), served.clone());
        tokio::spawn(async move {
            streams
                .stream(socket, group, asking, (served, wanted))
                .await;
            streams.running().retain(|one| !one.joins.is_closed());
        });
        true
    }

    /// Runs a stream until nobody is left.
    async fn stream(
        &self,
        socket: UdpSocket,
        group: TakenGroup,
        mut asking: mpsc::Receiver<Asking>,
        (served, blksize): (Served, u16),
    ) {
        let clock = place_clock();
        let fresh = |now| {
            let dialect = Dialect::Rfc2090 { gather: GATHER };
            let geometry = (served.content.len() as u64, blksize);
            MulticastStream::new(now, dialect, group.group, geometry)
        };
        let mut cast = Cast::new(fresh(clock()), served.clone(), "multicast TFTP");
        let mut buffer = [0; 1024];
        let mut alarm = Alarm::new();
        loop {
            cast.deliver(&socket, &self.tree).await;
            if cast.session.is_over() {
                // Whoever came in this very moment is not lost.
                match asking.try_recv() {
                    Ok(join) => {
                        cast.session = fresh(clock());
                        cast.request(clock(), &join, &self.transfers);
                        continue;
                    }
                    Err(_) => {
                        asking.close();
                        if asking.is_empty() {
                            return;
                        }
                    }
                }
                continue;
            }
            let due = cast.session.poll_timeout();
            alarm.set_by(due, clock());
            tokio::select! {
                biased;
                received = socket.recv_from(&mut buffer) => {
                    if let Ok((len, SocketAddr::V4(peer))) = received {
                        cast.answered(peer);
                        // A packet that cannot be read is noise.
                        let _ = cast.session.handle(clock(), peer, &buffer[..len]);
                    }
                }
                join = asking.recv() => match join {
                    // Who cannot join asks again, and is served by itself or refused then.
                    Some(join) => drop(cast.request(clock(), &join, &self.transfers)),
                    None => return,
                },
                () = alarm.ring() => {
                    if due.is_none_or(|due| due <= clock()) {
                        cast.session.handle_timeout(clock());
                    }
                }
            }
        }
    }

    fn running(&self) -> MutexGuard<'_, Vec<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A classroom that is switched on at one switch sends its requests within this.
const GATHER: Duration = Duration::from_millis(500);
const WAITING: usize = 64;
