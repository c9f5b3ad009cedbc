//! Leases on their way to the disk, many in one statement.
//!
//! The boot plane stores one lease for each DHCPACK. Each statement costs a turn to the thread that owns
//! the connection, and each flush some hundred microseconds of CPU. So those that wait are stored by one, and
//! whatever comes soon after the last flush gathers for the rest of a moment: one flush then serves some five of them.
//! A lease that comes alone is stored at once.

use std::time::Duration;

use farrier_engine::lease::Lease;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

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
    /// The queue and its work, which is for the caller to run.
    pub(crate) fn new(writer: Writer) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (waiting, leases) = mpsc::channel(QUEUE);
        (Self { waiting }, run(writer, leases))
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
    let (mut flushed, mut pace) = (Instant::now(), Pace::default());
    while leases.recv_many(&mut batch, MAX_ROWS).await > 0 {
        let gather = pace.gather();
        if batch.len() < MAX_ROWS && flushed.elapsed() < gather {
            tokio::time::sleep_until(flushed + gather).await;
            while batch.len() < MAX_ROWS
                && let Ok(lease) = leases.try_recv()
            {
                batch.push(lease);
            }
        }
        pace.saw(batch.len(), flushed.elapsed());
        store(&writer, std::mem::take(&mut batch)).await;
        flushed = Instant::now();
    }
}

/// How fast leases come.
#[derive(Debug, Default)]
struct Pace {
    /// Between two of them. Where they come faster that counts at once, or the first ones of a storm would wait for
    /// long; where they come more slowly, over a dozen of batches: a moment in which nobody was let run is no new pace.
    between: Duration,
}

impl Pace {
    fn saw(&mut self, leases: usize, within: Duration) {
        let leases = u32::try_from(leases.max(1)).unwrap_or(u32::MAX);
        let between = within.min(LONGEST * ENOUGH) / leases;
        self.between = between.min((self.between * 7 + between) / 8);
    }

    /// As long as it takes for [`ENOUGH`] to come.
    fn gather(&self) -> Duration {
        (self.between * ENOUGH).min(LONGEST)
    }
}

async fn store(writer: &Writer, batch: Vec<Waiting>) {
    let rows: Vec<Lease> = batch.iter().map(|waiting| waiting.lease.clone()).collect();
    let alone = rows.len() == 1;
    match insert(writer, rows).await {
        Err(error) if !alone && !error.is_away() => {
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
/// Leases that are worth a flush. More save little more CPU and keep each of them waiting.
const ENOUGH: u32 = 5;
/// Far below what a client waits.
const LONGEST: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{ENOUGH, LONGEST, MAX_ROWS, Pace};

    #[test]
    fn a_flush_waits_for_five_leases_and_never_long() {
        let mut pace = Pace::default();
        for _ in 0..50 {
            pace.saw(1, Duration::from_secs(1));
        }
        assert_eq!(pace.gather(), LONGEST);
        // 4000 a second.
        pace.saw(MAX_ROWS, Duration::from_millis(16));
        let usual = pace.gather();
        assert!(usual < Duration::from_millis(2), "{usual:?}");
        pace.saw(1, Duration::from_millis(4));
        assert!(pace.gather() < usual * 4, "one stall is no new pace");
        for _ in 0..50 {
            pace.saw(1, Duration::from_secs(3600));
        }
        assert_eq!(pace.gather(), LONGEST);
        assert!(pace.between <= LONGEST * ENOUGH, "it is forgotten soon");
    }
}
