//! Fetches chunks and writes them, several at a time.

mod fetch;
mod place;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::{ApplyError, Run, Unit, threads};
use crate::chunk::ChunkId;
use crate::patch::Changed;
use crate::transport::{ChunkSource, TransportError};

/// Calls under way at a time: the next one's first bytes come while the last one's are dealt with.
const FETCHERS: usize = 2;
/// Fetched chunks that wait for a thread; bounds memory to some MiB.
const WAITING: usize = 32;

/// A chunk that comes damaged is fetched again, in case it was the wire, and then whole.
const ATTEMPTS: u32 = 3;

/// What to write, and how.
pub(super) struct Work<'a> {
    pub(super) units: &'a [Unit],
    /// Units known to be right, from which equal chunks are copied.
    pub(super) intact: &'a [Unit],
    /// Compare with what is there and write only pages that differ.
    pub(super) patch: bool,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Written {
    pub(super) fetched_chunks: u64,
    pub(super) patched_chunks: u64,
    pub(super) zeroed_bytes: u64,
}

/// Work sorted by where the content comes from.
struct Sorted {
    /// Chunks to fetch, each once, in the order of the disk.
    fetch: Vec<ChunkId>,
    /// Everywhere a chunk goes.
    places: HashMap<ChunkId, Vec<Unit>>,
    /// Units whose content is elsewhere on this disk, or zeros (no source).
    local: Vec<(Unit, Option<Unit>)>,
}

struct Pipe<'a> {
    run: &'a Run<'a>,
    source: &'a dyn ChunkSource,
    patch: bool,
    sorted: Sorted,
    next_fetch: AtomicUsize,
    next_local: AtomicUsize,
    /// Chunks that came damaged.
    damaged: Mutex<Vec<(ChunkId, String)>>,
    fetched: AtomicU64,
    patched: AtomicU64,
    zeroed: AtomicU64,
    /// Whether to ask for patches at all, and how many batches to let pass before.
    ask: bool,
    resting: AtomicUsize,
}

impl Run<'_> {
    /// Writes all of `work`. Nothing is durable or proven when this returns.
    pub(super) fn write_all(
        &self,
        source: &dyn ChunkSource,
        work: &Work<'_>,
    ) -> Result<Written, ApplyError> {
        let mut pipe = Pipe {
            run: self,
            source,
            patch: work.patch,
            sorted: self.sort(work),
            next_fetch: AtomicUsize::new(0),
            next_local: AtomicUsize::new(0),
            damaged: Mutex::default(),
            fetched: AtomicU64::new(0),
            patched: AtomicU64::new(0),
            zeroed: AtomicU64::new(0),
            ask: work.patch,
            resting: AtomicUsize::new(0),
        };
        for attempt in 1.. {
            pipe.pass()?;
            let damaged = std::mem::take(
                pipe.damaged
                    .get_mut()
                    .unwrap_or_else(PoisonError::into_inner),
            );
            let Some((id, cause)) = damaged.first().cloned() else {
                break;
            };
            if attempt == ATTEMPTS {
                return Err(ApplyError::Fetch(TransportError::BadChunk { id, cause }));
            }
            tracing::warn!(chunks = damaged.len(), %cause, "damaged chunks are fetched again");
            pipe.sorted.fetch = damaged.into_iter().map(|(id, _)| id).collect();
            pipe.next_fetch = AtomicUsize::new(0);
            pipe.ask = false;
        }
        Ok(Written {
            fetched_chunks: pipe.fetched.into_inner(),
            patched_chunks: pipe.patched.into_inner(),
            zeroed_bytes: pipe.zeroed.into_inner(),
        })
    }

    fn sort(&self, work: &Work<'_>) -> Sorted {
        let mut places: HashMap<ChunkId, Vec<Unit>> = HashMap::new();
        let mut fetch = vec![];
        let mut local = vec![];
        for unit in work.units {
            let Some(id) = self.expected(*unit) else {
                local.push((*unit, None));
                continue;
            };
            let units = places.entry(id).or_default();
            if units.is_empty() {
                fetch.push(id);
            }
            units.push(*unit);
        }
        let mut here = HashMap::new();
        for unit in work.intact {
            if let Some(id) = self.expected(*unit).filter(|id| places.contains_key(id)) {
                here.entry(id).or_insert(*unit);
            }
        }
        for (id, seed) in &here {
            let units = places.remove(id).unwrap_or_default();
            local.extend(units.into_iter().map(|unit| (unit, Some(*seed))));
        }
        fetch.retain(|id| !here.contains_key(id));
        Sorted {
            fetch,
            places,
            local,
        }
    }
}

impl Pipe<'_> {
    /// Fetches and writes everything that is left.
    fn pass(&self) -> Result<(), ApplyError> {
        let (sender, receiver) = sync_channel::<Changed>(WAITING);
        let receiver = Mutex::new(receiver);
        let results = thread::scope(|scope| {
            let mut all = vec![];
            for _ in 0..FETCHERS {
                let sender = sender.clone();
                all.push(scope.spawn(move || self.run.noting(self.fetch(&sender))));
            }
            drop(sender);
            for _ in 0..threads() {
                all.push(scope.spawn(|| self.write(&receiver)));
            }
            all.into_iter()
                .map(|worker| worker.join())
                .collect::<Vec<_>>()
        });
        for result in results {
            result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok(())
    }
}
