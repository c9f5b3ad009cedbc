//! Writing the timeline without making anybody wait for it.
//!
//! Entries go through a bounded queue to one task that stores them in batches. When the database is away
//! the newest are kept and what had to be dropped is counted: the boot plane goes on answering.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use farrier_db::Db;
use farrier_engine::model::MachineId;
use farrier_engine::timeline::Entry;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;

use crate::fleet::Change;

/// The sending side; cheap to clone.
#[derive(Clone, Debug)]
pub struct Recorder {
    queue: mpsc::Sender<Entry>,
    dropped: Arc<AtomicU64>,
}

impl Recorder {
    /// Starts the storing task. It ends when the last recorder is dropped, after storing what is queued.
    #[must_use]
    pub fn start(db: Db, changes: broadcast::Sender<Change>) -> (Self, JoinHandle<()>) {
        let (queue, entries) = mpsc::channel(QUEUE);
        let dropped = Arc::<AtomicU64>::default();
        let storing = tokio::spawn(store(db, entries, Arc::clone(&dropped), changes));
        (Self { queue, dropped }, storing)
    }

    /// Queues an entry. Never waits.
    pub fn note(&self, entry: Entry) {
        tracing::debug!(machine = %entry.machine, kind = ?entry.kind, "{}", entry.text);
        if self.queue.try_send(entry).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many entries were lost because the database could not keep up.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

async fn store(
    db: Db,
    mut entries: mpsc::Receiver<Entry>,
    dropped: Arc<AtomicU64>,
    changes: broadcast::Sender<Change>,
) {
    let mut batch = Vec::new();
    while entries.recv_many(&mut batch, BATCH).await > 0 {
        let mut tries = 0;
        while let Err(error) = db.append_timeline(&batch).await {
            tries += 1;
            if !error.retry_helps() || tries == TRIES {
                tracing::warn!(%error, entries = batch.len(), "timeline entries could not be stored and are lost");
                dropped.fetch_add(batch.len() as u64, Ordering::Relaxed);
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        tell(&changes, &batch);
        let (crowded, waiting) = (batch.len() >= CROWD, entries.len());
        batch.clear();
        if crowded && waiting < BATCH && !entries.is_closed() {
            tokio::time::sleep(GATHER).await;
        }
    }
}

/// Each machine once. Said after the entries are stored, so that whoever asks at once finds them.
fn tell(changes: &broadcast::Sender<Change>, batch: &[Entry]) {
    let machines: HashSet<MachineId> = batch.iter().map(|entry| entry.machine).collect();
    for machine in machines {
        // Nobody may be listening; that is no fault.
        let _ = changes.send(Change::Timeline(machine));
    }
}

/// A boot leaves some twenty entries, so this is a storm of some hundred machines behind a slow disk.
const QUEUE: usize = 16_384;
/// More would keep leases waiting, which go through the same door to the disk.
const BATCH: usize = 512;
/// So many at once come from more than a few machines. Then entries gather for a moment: neighbours in the database
/// are written by one flush instead of ten, and nobody reads a thousand timelines at once.
const CROWD: usize = 16;
const GATHER: Duration = Duration::from_millis(100);
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);
