//! Writing: a chunk is proven, then put into all its places.

use std::io;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::sync::{Mutex, PoisonError};

use super::Pipe;
use crate::apply::{ApplyError, Unit};
use crate::chunk::ChunkError;
use crate::masked::len_of;
use crate::patch::{Changed, ChunkPatch};
use crate::tally::Busy;
use crate::transport::TransportError;

/// Repairs write whole pages: a smaller write makes the disk read, change and write one anyway.
const PAGE: usize = 4096;

impl Pipe<'_> {
    /// One writing thread: first what needs no fetching, then chunks as they come, to the end of the
    /// channel even after a failure.
    pub(super) fn write(&self, chunks: &Mutex<Receiver<Changed>>) -> Result<(), ApplyError> {
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
pub(super) struct Buffers {
    pub(super) content: Vec<u8>,
    pub(super) present: Vec<u8>,
    pub(super) ranges: Vec<Range<usize>>,
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
