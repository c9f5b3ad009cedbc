//! How chunks travel between a disk and a store. Two implementations each: the local store, and the
//! server over HTTP (in the agent).

use std::sync::Arc;

use crate::chunk::{ChunkId, StoredChunk};
use crate::manifest::{Manifest, SignedManifest};
use crate::patch::{Changed, Held};

/// Why a chunk could not be moved.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TransportError {
    /// The other side is away or busy; the same call may work later.
    #[error("the server cannot be reached: {0}")]
    Unavailable(String),
    /// The store has no room; the capture waits and goes on when there is.
    #[error("the image store is full: {0}")]
    StoreFull(String),
    /// The other side said no, and will again.
    #[error("the server refused: {0}")]
    Refused(String),
    /// A chunk that an image needs is missing or damaged in the store.
    #[error("chunk {id} is missing or damaged in the store: {cause}")]
    BadChunk { id: ChunkId, cause: String },
}

impl TransportError {
    /// Whether the same call may work later.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::StoreFull(_))
    }
}

/// Where a capture puts its chunks.
pub trait ChunkSink: Send + Sync {
    /// For each id, whether the store lacks it.
    fn missing(&self, ids: &[ChunkId]) -> Result<Vec<bool>, TransportError>;

    /// Stores chunks. When this returns, they are durable.
    fn put(&self, chunks: &[StoredChunk]) -> Result<(), TransportError>;

    /// Publishes the image; the last step. The store numbers the version and signs.
    fn commit(&self, manifest: Manifest) -> Result<SignedManifest, TransportError>;
}

/// Where a deployment gets its chunks.
pub trait ChunkSource: Send + Sync {
    /// Fetches `ids`, which are in the order the disk wants them, and hands each to `deliver` as it
    /// comes, in any order. `deliver` returns false to stop early.
    fn fetch(
        &self,
        ids: &[ChunkId],
        deliver: &mut dyn FnMut(StoredChunk) -> bool,
    ) -> Result<(), TransportError>;

    /// Whether [`fetch_changed`](Self::fetch_changed) gives less than whole chunks. If not, there is no use
    /// in reading and hashing what the disk holds.
    fn patches(&self) -> bool {
        false
    }

    /// Like [`fetch`](Self::fetch), for a disk that holds something like the wanted chunks.
    fn fetch_changed(
        &self,
        held: &[Held],
        deliver: &mut dyn FnMut(Changed) -> bool,
    ) -> Result<(), TransportError> {
        let ids: Vec<ChunkId> = held.iter().map(|held| held.id).collect();
        self.fetch(&ids, &mut |chunk| deliver(Changed::Whole(chunk)))
    }
}

/// What a capture or deployment tells while it runs; called often, so it must be cheap.
pub trait Watch: Send + Sync {
    fn progress(&self, progress: &Progress);

    /// Asked between chunks: a reason to stop now.
    fn stop(&self) -> Option<String> {
        None
    }
}

/// How far it is, and where the time goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub phase: Phase,
    /// Bytes of disk content dealt with, of `total_bytes`.
    pub done_bytes: u64,
    pub total_bytes: u64,
    /// Bytes that crossed the transport: chunks as stored, and in repairs what was told and patched.
    pub moved_bytes: u64,
    /// Bytes written to the disk.
    pub written_bytes: u64,
    /// Busy time since the start, in milliseconds summed over threads: reading or writing the disk,
    /// hashing and (de)compressing, waiting for the transport. The largest is the bottleneck.
    pub disk_ms: u64,
    pub cpu_ms: u64,
    pub network_ms: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    #[default]
    Planning,
    Reading,
    Writing,
    Verifying,
    Committing,
}

/// Watches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwatched;

impl Watch for Unwatched {
    fn progress(&self, _: &Progress) {}
}

/// A shared watcher.
pub type SharedWatch = Arc<dyn Watch>;
