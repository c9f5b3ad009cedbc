//! Leases on their way to the disk, many in one statement.
//!
//! The boot plane stores one lease for each DHCPACK. Each statement costs a turn to the thread that owns
//! the connection, so those that wait are stored by one, and while many arrive the queue lets them gather
//! for a moment: a flush then serves ten of them instead of one.

use std::time::Duration;

use farrier_engine::lease::Lease;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::DbError;
use crate::lease::insert;
use crate::writer::Writer;

/// Where leases are handed in. The task behind it ends when the last copy is gone.
#[derive(Clone, Debug)]
pub(crate) struct LeaseQueue {
    waiting: mpsc::Sender<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    lease: Lease,
    reply: oneshot::Sender<Result<(), DbError>>,
}

impl LeaseQueue {
    pub(crate) fn start(writer: Writer) -> (Self, JoinHandle<()>) {
        let (waiting, leases) = mpsc::channel(QUEUE);
        (Self { waiting }, tokio::spawn(run(writer, leases)))
    }

    /// Returns when the lease is on the disk.
    pub(crate) async fn store(&self, lease: Lease) -> Result<(), DbError> {
        let (reply, stored) = oneshot::channel();
        self.waiting
            .send(Waiting { lease, reply })
            .await
            .map_err(|_| DbError::Closed)?;
        stored.await.map_err(|_| DbError::Closed)?
    }
}

async fn run(writer: Writer, mut leases: mpsc::Receiver<Waiting>) {
    let mut batch = Vec::new();
    while leases.recv_many(&mut batch, MAX_ROWS).await > 0 {
        let crowded = batch.len() > 1;
        store(&writer, std::mem::take(&mut batch)).await;
        if crowded {
            tokio::time::sleep(GATHER).await;
        }
    }
}

async fn store(writer: &Writer, batch: Vec<Waiting>) {
    let rows: Vec<Lease> = batch.iter().map(|waiting| waiting.lease.clone()).collect();
    let alone = rows.len() == 1;
    match insert(writer, rows).await {
        Err(_) if !alone => {
            // One bad row must not take the others with it.
            for Waiting { lease, reply } in batch {
                let _ = reply.send(insert(writer, vec![lease]).await);
            }
        }
        outcome => {
            for Waiting { reply, .. } in batch {
                // A caller that stopped waiting does not undo what it asked for.
                let _ = reply.send(outcome.clone());
            }
        }
    }
}

/// Bounds memory; callers wait beyond it.
const QUEUE: usize = 1024;
/// Rows of one statement; each number of rows is a statement of its own in the connection's cache.
pub(crate) const MAX_ROWS: usize = 64;
/// Far below what a client waits, and at 4000 leases a second enough for some twenty.
const GATHER: Duration = Duration::from_millis(4);
