//! Taking chunks in. Nobody's hashes are believed: every chunk is unpacked and hashed here.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::writer::lock;
use super::{Store, StoreError, blocking};
use crate::chunk::StoredChunk;

/// Proven chunks on their way into the journal, and who waits for them.
pub(super) struct Job {
    chunks: Vec<StoredChunk>,
    done: oneshot::Sender<Result<PutReport, StoreError>>,
}

type Waiting = (usize, oneshot::Sender<Result<PutReport, StoreError>>);

/// What became of the chunks of a put.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PutReport {
    pub new_chunks: u64,
    pub new_bytes: u64,
    /// Chunks that were here already.
    pub known_chunks: u64,
}

impl Store {
    /// Stores chunks. When this returns they survive a crash. One wrong chunk refuses all; chunks that
    /// are here already are fine. May be called by many at once, who then share the disk's syncs.
    pub async fn put(&self, chunks: Vec<StoredChunk>) -> Result<PutReport, StoreError> {
        self.must_write()?;
        let (fresh, known) = self.without_known(chunks);
        let mut report = PutReport {
            known_chunks: known,
            ..PutReport::default()
        };
        if fresh.is_empty() {
            return Ok(report);
        }
        let fresh = prove(fresh).await?;
        let (done, outcome) = oneshot::channel();
        lock(&self.inner.queue).push(Job {
            chunks: fresh,
            done,
        });
        self.drain_queue();
        let stored = outcome.await.map_err(|_| StoreError::Stopped)??;
        report.new_chunks = stored.new_chunks;
        report.new_bytes = stored.new_bytes;
        report.known_chunks += stored.known_chunks;
        Ok(report)
    }

    /// Moves what is in the journal into packs. Commit does it when needed.
    pub async fn seal(&self) -> Result<(), StoreError> {
        self.with_writer(super::Writer::seal_all).await
    }

    fn without_known(&self, mut chunks: Vec<StoredChunk>) -> (Vec<StoredChunk>, u64) {
        let before = chunks.len();
        let mut catalog = self.catalog();
        chunks.retain(|chunk| !catalog.holds(&chunk.id));
        let known = (before - chunks.len()) as u64;
        (chunks, known)
    }

    /// Whoever gets the journal first writes for all who wait, with one sync.
    fn drain_queue(&self) {
        let inner = Arc::clone(&self.inner);
        tokio::task::spawn_blocking(move || {
            let (mut chunks, mut waiting) = (Vec::new(), Vec::new());
            let mut writer = lock(&inner.writer);
            for job in std::mem::take(&mut *lock(&inner.queue)) {
                waiting.push((job.chunks.len(), job.done));
                chunks.extend(job.chunks);
            }
            let outcome = writer.store(&chunks);
            drop(writer);
            // Who has the answer may close the store and open it again.
            drop(inner);
            settle(&chunks, outcome, waiting);
        });
    }
}

fn settle(chunks: &[StoredChunk], outcome: Result<Vec<bool>, StoreError>, waiting: Vec<Waiting>) {
    let mut at = 0;
    for (count, done) in waiting {
        let own = at..at + count;
        at = own.end;
        let report = match &outcome {
            Ok(new) => Ok(PutReport::count(&chunks[own.clone()], &new[own])),
            Err(e) => Err(e.again()),
        };
        // A caller that went away does not mind.
        let _ = done.send(report);
    }
}

impl PutReport {
    fn count(chunks: &[StoredChunk], new: &[bool]) -> Self {
        let mut report = Self::default();
        for (chunk, new) in chunks.iter().zip(new) {
            if *new {
                report.new_chunks += 1;
                report.new_bytes += chunk.frame.len() as u64;
            } else {
                report.known_chunks += 1;
            }
        }
        report
    }
}

/// Unpacks and hashes on as many threads as there are, which is what makes a put cost time.
async fn prove(chunks: Vec<StoredChunk>) -> Result<Vec<StoredChunk>, StoreError> {
    let threads = std::thread::available_parallelism()
        .map_or(1, std::num::NonZero::get)
        .min(8);
    let share = chunks.len().div_ceil(threads).max(4);
    let parts: Vec<Vec<StoredChunk>> = chunks.chunks(share).map(<[_]>::to_vec).collect();
    let work = parts.into_iter().map(|part| {
        blocking(move || {
            let mut plain = Vec::new();
            part.iter()
                .try_for_each(|chunk| chunk.open(&mut plain))
                .map_err(StoreError::Refused)?;
            Ok(part)
        })
    });
    Ok(futures::future::try_join_all(work).await?.concat())
}
