//! Reads chunks from the disk and compares them with the manifest.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::{ApplyError, Run, Unit, threads};
use crate::chunk::{ChunkId, is_zero};
use crate::masked::len_of;
use crate::tally::Busy;

/// Chunks a thread takes at a time: 1 MiB, so that threads together read nearly in sequence.
const STRIDE: usize = 4;

/// The outcome, both lists in the order of the disk.
pub(super) struct Scanned {
    pub(super) different: Vec<Unit>,
    pub(super) intact: Vec<Unit>,
}

impl Run<'_> {
    /// Reads and hashes `units`.
    pub(super) fn scan(&self, units: &[Unit]) -> Result<Scanned, ApplyError> {
        let next = AtomicUsize::new(0);
        let results = thread::scope(|scope| {
            let work = || self.noting(self.scan_some(units, &next));
            let workers: Vec<_> = (0..threads()).map(|_| scope.spawn(work)).collect();
            workers
                .into_iter()
                .map(|worker| worker.join())
                .collect::<Vec<_>>()
        });
        let mut wrong = vec![false; units.len()];
        for result in results {
            for index in result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))? {
                wrong[index] = true;
            }
        }
        let mut scanned = Scanned {
            different: vec![],
            intact: vec![],
        };
        for (unit, wrong) in units.iter().zip(wrong) {
            let list = if wrong {
                &mut scanned.different
            } else {
                &mut scanned.intact
            };
            list.push(*unit);
        }
        Ok(scanned)
    }

    /// One thread's part; returns the indices of units that differ.
    fn scan_some(&self, units: &[Unit], next: &AtomicUsize) -> Result<Vec<usize>, ApplyError> {
        let (mut content, mut ranges, mut wrong) = (vec![], vec![], vec![]);
        while self.check()? {
            let first = next.fetch_add(STRIDE, Ordering::Relaxed);
            if first >= units.len() {
                break;
            }
            for (unit, index) in units[first..].iter().take(STRIDE).zip(first..) {
                let unit = *unit;
                self.volumes[unit.volume].used_ranges(unit.chunk, &mut ranges);
                self.read_unit(unit, &ranges, &mut content)?;
                let expected = self.expected(unit);
                if !self.tally.time(Busy::Cpu, || is(&content, expected)) {
                    wrong.push(index);
                }
                self.tally.done(len_of(&ranges));
            }
            self.tally.tell();
        }
        Ok(wrong)
    }

    pub(super) fn expected(&self, unit: Unit) -> Option<ChunkId> {
        self.manifest.volumes[unit.volume].chunks[unit.chunk as usize]
    }

    /// Reads a chunk from the disk, unused parts zeroed.
    pub(super) fn read_unit(
        &self,
        unit: Unit,
        ranges: &[std::ops::Range<usize>],
        content: &mut Vec<u8>,
    ) -> Result<(), ApplyError> {
        let volume = &self.volumes[unit.volume];
        let read = self
            .tally
            .time(Busy::Disk, || {
                volume.read(self.device, unit.chunk, ranges, content)
            })
            .map_err(|source| ApplyError::Read {
                offset: volume.chunk_at(unit.chunk),
                source,
            })?;
        self.tally.read(read);
        Ok(())
    }
}

/// Whether content is the expected chunk; none stands for zeros.
fn is(content: &[u8], expected: Option<ChunkId>) -> bool {
    match expected {
        Some(id) => ChunkId::of(content) == id,
        None => is_zero(content),
    }
}
