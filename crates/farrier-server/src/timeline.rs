//! Writing the timeline without making anybody wait for it.
//!
//! Entries go through a bounded queue to one task that stores them in batches. When the database is away
//! the newest are kept and what had to be dropped is counted: the boot plane goes on answering.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use farrier_db::Db;
use farrier_engine::timeline::Entry;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The sending side; cheap to clone.
#[derive(Clone, Debug)]
pub struct Recorder {
    queue: mpsc::Sender<Entry>,
    dropped: Arc<AtomicU64>,
}

impl Recorder {
    /// Starts the storing task. It ends when the last recorder is dropped, after storing what is queued.
    #[must_use]
    pub fn start(db: Db) -> (Self, JoinHandle<()>) {
        let (queue, entries) = mpsc::channel(QUEUE);
        let dropped = Arc::<AtomicU64>::default();
        let storing = tokio::spawn(store(db, entries, Arc::clone(&dropped)));
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

async fn store(db: Db, mut entries: mpsc::Receiver<Entry>, dropped: Arc<AtomicU64>) {
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
        batch.clear();
    }
}

/// A boot leaves some twenty entries, so this is a storm of some hundred machines behind a slow disk.
const QUEUE: usize = 4096;
const BATCH: usize = 256;
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);
