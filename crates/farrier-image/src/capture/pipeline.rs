//! The threads of a capture.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use super::{CaptureError, CapturePlan};
use crate::chunk::{CHUNK_SIZE, ChunkId, StoredChunk, is_zero};
use crate::device::BlockDevice;
use crate::masked::{Masked, len_of};
use crate::retry::persist;
use crate::tally::{Busy, Tally};
use crate::transport::ChunkSink;

/// Chunks that one thread reads at a time: 16 MiB, long enough that a turning disk reads in sequence.
const BATCH: usize = 64;
/// A thread sends when it has packed this much.
const SEND_AT: usize = 8 << 20;
/// Threads unless told otherwise: together they pack some 2 GB/s and hold some 150 MiB.
const MOST_THREADS: usize = 6;
/// Higher levels cost more time than they save on the wire (`docs/formats/image.md`).
const LEVEL: i32 = 3;

pub(super) type ChunkList = Vec<Option<ChunkId>>;

/// What the threads found.
pub(super) struct Taken {
    /// Per volume, as the manifest wants it.
    pub(super) chunks: Vec<ChunkList>,
    pub(super) new_chunks: u64,
}

/// One chunk of one volume.
#[derive(Clone, Copy)]
struct Unit {
    volume: usize,
    chunk: u64,
}

struct Shared<'a> {
    device: &'a dyn BlockDevice,
    sink: &'a dyn ChunkSink,
    tally: &'a Tally<'a>,
    volumes: Vec<Masked<'a>>,
    units: Vec<Unit>,
    /// The next unit. Held while reading, so that the disk is read in order by one thread at a time.
    next: Mutex<usize>,
    /// Chunks that some thread has taken care of.
    claimed: Mutex<HashSet<ChunkId>>,
    new_chunks: AtomicU64,
    failed: AtomicBool,
}

/// Reads, hashes and sends everything that is in use.
pub(super) fn run(
    device: &dyn BlockDevice,
    plan: &CapturePlan,
    sink: &dyn ChunkSink,
    tally: &Tally<'_>,
) -> Result<Taken, CaptureError> {
    let volumes: Vec<Masked<'_>> = plan
        .volumes
        .iter()
        .map(super::PlannedVolume::masked)
        .collect();
    let mut chunks: Vec<ChunkList> = volumes
        .iter()
        .map(|v| vec![None; v.chunks() as usize])
        .collect();
    let units = volumes.iter().enumerate().flat_map(|(volume, masked)| {
        masked
            .used_chunks()
            .into_iter()
            .map(move |chunk| Unit { volume, chunk })
    });
    let shared = Shared {
        device,
        sink,
        tally,
        units: units.collect(),
        volumes,
        next: Mutex::new(0),
        claimed: Mutex::default(),
        new_chunks: AtomicU64::new(0),
        failed: AtomicBool::new(false),
    };
    let found = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads(plan))
            .map(|_| scope.spawn(|| shared.work()))
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join())
            .collect::<Vec<_>>()
    });
    let mut failure = None;
    for result in found {
        match result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)) {
            Ok(named) => {
                for (unit, id) in named {
                    chunks[unit.volume][unit.chunk as usize] = Some(id);
                }
            }
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    match failure {
        Some(error) => Err(error),
        None => Ok(Taken {
            chunks,
            new_chunks: shared.new_chunks.into_inner(),
        }),
    }
}

fn threads(plan: &CapturePlan) -> usize {
    match plan.threads {
        0 => thread::available_parallelism().map_or(2, |cores| MOST_THREADS.min(cores.get() + 1)),
        wanted => wanted,
    }
}

/// Contents of the batch a thread works on; buffers are kept from batch to batch.
#[derive(Default)]
struct Batch {
    units: Vec<Unit>,
    contents: Vec<Vec<u8>>,
    ranges: Vec<Range<usize>>,
}

impl Shared<'_> {
    /// One thread's life. Returns the names of the chunks it read.
    fn work(&self) -> Result<Vec<(Unit, ChunkId)>, CaptureError> {
        let result = self.read_and_send();
        if result.is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
        result
    }

    fn read_and_send(&self) -> Result<Vec<(Unit, ChunkId)>, CaptureError> {
        let mut named = vec![];
        let mut batch = Batch::default();
        let mut pending = vec![];
        while self.read_batch(&mut batch)? {
            let first = named.len();
            self.tally.time(Busy::Cpu, || {
                for (unit, content) in batch.units.iter().zip(&batch.contents) {
                    if !is_zero(content) {
                        named.push((*unit, ChunkId::of(content)));
                    }
                }
            });
            let wanted = self.missing(&named[first..])?;
            self.pack_and_send(&batch, &named[first..], &wanted, &mut pending)?;
            self.tally.tell();
        }
        self.send(&mut pending)?;
        Ok(named)
    }

    /// Reads the next units; false when there are none left or another thread failed.
    fn read_batch(&self, batch: &mut Batch) -> Result<bool, CaptureError> {
        let mut next = lock(&self.next);
        if let Some(reason) = self.tally.stop() {
            return Err(CaptureError::Stopped(reason));
        }
        if self.failed.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let end = self.units.len().min(*next + BATCH);
        batch.units.clear();
        batch.units.extend_from_slice(&self.units[*next..end]);
        *next = end;
        batch
            .contents
            .resize_with(BATCH, || Vec::with_capacity(CHUNK_SIZE));
        self.tally.time(Busy::Disk, || {
            for (unit, content) in batch.units.iter().zip(&mut batch.contents) {
                let volume = &self.volumes[unit.volume];
                volume.used_ranges(unit.chunk, &mut batch.ranges);
                let read = volume
                    .read(self.device, unit.chunk, &batch.ranges, content)
                    .map_err(|source| CaptureError::Read {
                        offset: volume.chunk_at(unit.chunk),
                        source,
                    })?;
                self.tally.read(read);
                self.tally.done(len_of(&batch.ranges));
            }
            Ok(!batch.units.is_empty())
        })
    }

    /// The chunks that nobody has sent and the store lacks.
    fn missing(&self, named: &[(Unit, ChunkId)]) -> Result<HashSet<ChunkId>, CaptureError> {
        let mut ids: Vec<ChunkId> = vec![];
        {
            let mut claimed = lock(&self.claimed);
            ids.extend(
                named
                    .iter()
                    .map(|(_, id)| *id)
                    .filter(|id| claimed.insert(*id)),
            );
        }
        if ids.is_empty() {
            return Ok(HashSet::new());
        }
        let lacks = persist(self.tally, &|| self.failed.load(Ordering::Relaxed), || {
            self.sink.missing(&ids)
        })?;
        Ok(ids
            .into_iter()
            .zip(lacks)
            .filter(|(_, lacks)| *lacks)
            .map(|(id, _)| id)
            .collect())
    }

    fn pack_and_send(
        &self,
        batch: &Batch,
        named: &[(Unit, ChunkId)],
        wanted: &HashSet<ChunkId>,
        pending: &mut Vec<StoredChunk>,
    ) -> Result<(), CaptureError> {
        let mut wanted = wanted.clone();
        let mut size: usize = pending.iter().map(|chunk| chunk.frame.len()).sum();
        let mut named = named.iter().peekable();
        for (unit, content) in batch.units.iter().zip(&batch.contents) {
            // Chunks of zeros have no name and were passed over.
            let same = |(known, _): &&(Unit, ChunkId)| {
                known.volume == unit.volume && known.chunk == unit.chunk
            };
            let Some((_, id)) = named.next_if(same) else {
                continue;
            };
            if !wanted.remove(id) {
                continue;
            }
            let chunk = self
                .tally
                .time(Busy::Cpu, || StoredChunk::pack_as(*id, content, LEVEL));
            size += chunk.frame.len();
            pending.push(chunk);
            if size >= SEND_AT {
                self.send(pending)?;
                size = 0;
            }
        }
        Ok(())
    }

    fn send(&self, pending: &mut Vec<StoredChunk>) -> Result<(), CaptureError> {
        if pending.is_empty() {
            return Ok(());
        }
        persist(self.tally, &|| self.failed.load(Ordering::Relaxed), || {
            self.sink.put(pending)
        })?;
        self.new_chunks
            .fetch_add(pending.len() as u64, Ordering::Relaxed);
        self.tally
            .moved(pending.iter().map(|chunk| chunk.frame.len() as u64).sum());
        pending.clear();
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
