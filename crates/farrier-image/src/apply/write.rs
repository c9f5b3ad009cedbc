//! Fetches chunks and writes them, several at a time.

use std::collections::{HashMap, HashSet};
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::{ApplyError, Run, Unit, threads};
use crate::chunk::{ChunkError, ChunkId, is_zero};
use crate::masked::len_of;
use crate::patch::{Changed, ChunkPatch, Held};
use crate::retry::persist;
use crate::tally::Busy;
use crate::transport::{ChunkSource, TransportError};

/// Ids per call of the source: some 25 MiB as stored, a good part of a pack.
const FETCH_BATCH: usize = 256;
/// Calls under way at a time: the next one's first bytes come while the last one's are dealt with.
const FETCHERS: usize = 2;
/// Fetched chunks that wait for a thread; bounds memory to some MiB.
const WAITING: usize = 32;
/// Repairs write whole pages: a smaller write makes the disk read, change and write one anyway.
const PAGE: usize = 4096;
/// A chunk that comes damaged is fetched again, in case it was the wire, and then whole.
const ATTEMPTS: u32 = 3;
/// After a batch of which hardly any chunk could be patched, as between two versions of a system, so many
/// are fetched whole before the next try: telling what the disk holds costs a read of it.
const REST: usize = 3;

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

    /// One fetching thread.
    fn fetch(&self, out: &SyncSender<Changed>) -> Result<(), ApplyError> {
        while self.run.check()? {
            let first = self.next_fetch.fetch_add(FETCH_BATCH, Ordering::Relaxed);
            let ids = &self.sorted.fetch;
            if first >= ids.len() {
                break;
            }
            self.fetch_batch(&ids[first..ids.len().min(first + FETCH_BATCH)], out)?;
        }
        Ok(())
    }

    /// Fetches `ids`; after a broken connection only what is still missing of them.
    fn fetch_batch(&self, ids: &[ChunkId], out: &SyncSender<Changed>) -> Result<(), ApplyError> {
        let held = if self.asks() { self.held(ids)? } else { vec![] };
        let told: HashSet<ChunkId> = held.iter().map(|held| held.id).collect();
        let mut left: HashSet<ChunkId> = ids.iter().copied().collect();
        let mut patched = 0;
        let aborted = || self.run.failed.load(Ordering::Relaxed);
        let going = || !aborted() && self.run.tally.stop().is_none();
        persist(self.run.tally, &aborted, || {
            let wanted: HashSet<ChunkId> = left.clone();
            let mut accept = |changed: Changed| {
                if left.remove(&changed.id()) {
                    self.run.tally.moved(changed.wire_bytes());
                    self.fetched.fetch_add(1, Ordering::Relaxed);
                    patched += usize::from(matches!(changed, Changed::Patch(_)));
                    // The writers take chunks until every sender is gone, so this cannot hang.
                    let _ = out.send(changed);
                }
                going()
            };
            let whole = ids
                .iter()
                .filter(|id| wanted.contains(id) && !told.contains(id));
            let whole: Vec<ChunkId> = whole.copied().collect();
            if !whole.is_empty() {
                self.source
                    .fetch(&whole, &mut |chunk| accept(Changed::Whole(chunk)))?;
            }
            let held: Vec<Held> = held
                .iter()
                .filter(|held| wanted.contains(&held.id))
                .cloned()
                .collect();
            if !held.is_empty() && going() {
                self.run
                    .tally
                    .moved(held.iter().map(Held::wire_bytes).sum());
                self.source.fetch_changed(&held, &mut accept)?;
            }
            match left.iter().next() {
                Some(id) if going() => {
                    let cause = "the source did not deliver it".to_owned();
                    Err(TransportError::BadChunk { id: *id, cause })
                }
                _ => Ok(()),
            }
        })?;
        self.patched.fetch_add(patched as u64, Ordering::Relaxed);
        if !held.is_empty() && patched * 4 < held.len() {
            self.resting.store(REST, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Whether to tell the source what the disk holds in the places of the next batch.
    fn asks(&self) -> bool {
        let rested = |left: usize| left.checked_sub(1);
        self.ask
            && self.source.patches()
            && self
                .resting
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, rested)
                .is_err()
    }

    /// What the disk holds in the first place of each chunk, if anything. The disk is read once more for it, since
    /// keeping this from the scan would take memory in proportion to the damage.
    fn held(&self, ids: &[ChunkId]) -> Result<Vec<Held>, ApplyError> {
        let (mut ranges, mut present, mut held) = (vec![], vec![], Vec::with_capacity(ids.len()));
        for id in ids {
            if !self.run.check()? {
                return Ok(vec![]);
            }
            let Some(unit) = self.first_place(*id) else {
                continue;
            };
            self.run.volumes[unit.volume].used_ranges(unit.chunk, &mut ranges);
            self.run.read_unit(unit, &ranges, &mut present)?;
            // Blank places, where a new version has put new files, have nothing in common with any chunk.
            if !is_zero(&present) {
                held.push(self.run.tally.time(Busy::Cpu, || Held::of(*id, &present)));
            }
        }
        Ok(held)
    }

    fn first_place(&self, id: ChunkId) -> Option<Unit> {
        self.sorted.places.get(&id)?.first().copied()
    }

    /// One writing thread: first what needs no fetching, then chunks as they come, to the end of the
    /// channel even after a failure.
    fn write(&self, chunks: &Mutex<Receiver<Changed>>) -> Result<(), ApplyError> {
        let mut buffers = Buffers::default();
        let mut result = Ok(());
        loop {
            let received = chunks.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(chunk) = received else { break };
            if result.is_ok() && !self.run.failed.load(Ordering::Relaxed) {
                result = self.run.noting(self.place(&chunk, &mut buffers));
            }
        }
        result?;
        self.run.noting(self.write_local(&mut buffers))
    }

    /// Unpacks and proves a chunk, then writes it to all its places.
    fn place(&self, changed: &Changed, buffers: &mut Buffers) -> Result<(), ApplyError> {
        let id = changed.id();
        let opened = match changed {
            Changed::Whole(chunk) => self
                .run
                .tally
                .time(Busy::Cpu, || chunk.open(&mut buffers.content)),
            Changed::Patch(patch) => self.patched(patch, buffers)?,
        };
        if let Err(error) = opened {
            let mut damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
            damaged.push((id, error.to_string()));
            return Ok(());
        }
        for unit in self.sorted.places.get(&id).into_iter().flatten() {
            if buffers.content.len() != self.run.volumes[unit.volume].chunk_len(unit.chunk) {
                let cause = "it is not as long as the image says".to_owned();
                return Err(ApplyError::Fetch(TransportError::BadChunk { id, cause }));
            }
            self.put(*unit, buffers)?;
        }
        self.run.tally.tell();
        Ok(())
    }

    /// Makes a chunk of what the disk holds in its first place and a patch.
    fn patched(
        &self,
        patch: &ChunkPatch,
        buffers: &mut Buffers,
    ) -> Result<Result<(), ChunkError>, ApplyError> {
        let Some(unit) = self.first_place(patch.id) else {
            buffers.content.clear();
            return Ok(Ok(()));
        };
        self.run.volumes[unit.volume].used_ranges(unit.chunk, &mut buffers.ranges);
        self.run
            .read_unit(unit, &buffers.ranges, &mut buffers.content)?;
        Ok(self.run.tally.time(Busy::Cpu, || {
            patch.apply(&mut buffers.content, &mut buffers.present)
        }))
    }

    /// Zeros, and chunks that are elsewhere on this disk.
    fn write_local(&self, buffers: &mut Buffers) -> Result<(), ApplyError> {
        while self.run.check()? {
            let index = self.next_local.fetch_add(1, Ordering::Relaxed);
            let Some((unit, seed)) = self.sorted.local.get(index) else {
                break;
            };
            let len = self.run.volumes[unit.volume].chunk_len(unit.chunk);
            match seed {
                None if !self.patch => {
                    self.zero(*unit, buffers)?;
                    continue;
                }
                None => {
                    buffers.content.clear();
                    buffers.content.resize(len, 0);
                }
                Some(seed) => {
                    self.run.volumes[seed.volume].used_ranges(seed.chunk, &mut buffers.ranges);
                    self.run
                        .read_unit(*seed, &buffers.ranges, &mut buffers.content)?;
                }
            }
            self.put(*unit, buffers)?;
        }
        Ok(())
    }

    /// Writes the used parts of `buffers.content` to `unit`.
    fn put(&self, unit: Unit, buffers: &mut Buffers) -> Result<(), ApplyError> {
        let volume = &self.run.volumes[unit.volume];
        volume.used_ranges(unit.chunk, &mut buffers.ranges);
        let done = len_of(&buffers.ranges);
        if self.patch {
            self.run
                .read_unit(unit, &buffers.ranges, &mut buffers.present)?;
            differing_pages(&buffers.present, &buffers.content, &mut buffers.ranges);
        }
        let device = self.run.device;
        self.for_ranges(unit, &buffers.ranges, |offset, range| {
            device.write_at(offset, &buffers.content[range.clone()])
        })?;
        self.run.tally.written(len_of(&buffers.ranges));
        self.run.tally.done(done);
        Ok(())
    }

    fn zero(&self, unit: Unit, buffers: &mut Buffers) -> Result<(), ApplyError> {
        let volume = &self.run.volumes[unit.volume];
        volume.used_ranges(unit.chunk, &mut buffers.ranges);
        let device = self.run.device;
        self.for_ranges(unit, &buffers.ranges, |offset, range| {
            device.write_zeroes_at(offset, range.len() as u64)
        })?;
        self.zeroed
            .fetch_add(len_of(&buffers.ranges), Ordering::Relaxed);
        self.run.tally.done(len_of(&buffers.ranges));
        Ok(())
    }

    /// Calls `write` with the disk offset of each range of a unit.
    fn for_ranges(
        &self,
        unit: Unit,
        ranges: &[Range<usize>],
        write: impl Fn(u64, &Range<usize>) -> io::Result<()>,
    ) -> Result<(), ApplyError> {
        let at = self.run.volumes[unit.volume].chunk_at(unit.chunk);
        self.run.tally.time(Busy::Disk, || {
            ranges.iter().try_for_each(|range| {
                let offset = at + range.start as u64;
                write(offset, range).map_err(|source| ApplyError::Write { offset, source })
            })
        })
    }
}

/// A writing thread's memory, kept from chunk to chunk.
#[derive(Default)]
struct Buffers {
    content: Vec<u8>,
    present: Vec<u8>,
    ranges: Vec<Range<usize>>,
}

/// Narrows `ranges` to the pages in which `old` and `new` differ, joining neighbours.
fn differing_pages(old: &[u8], new: &[u8], ranges: &mut Vec<Range<usize>>) {
    let mut pages: Vec<Range<usize>> = vec![];
    for range in ranges.iter() {
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min((at / PAGE + 1) * PAGE);
            if old[at..end] != new[at..end] {
                match pages.last_mut() {
                    Some(last) if last.end == at => last.end = end,
                    _ => pages.push(at..end),
                }
            }
            at = end;
        }
    }
    *ranges = pages;
}
