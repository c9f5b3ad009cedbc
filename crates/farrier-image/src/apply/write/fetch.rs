//! Fetching: which chunks come whole, and of which only what differs from the disk.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;

use super::Pipe;
use crate::apply::{ApplyError, Unit};
use crate::chunk::{ChunkId, is_zero};
use crate::patch::{Changed, Held};
use crate::retry::persist;
use crate::tally::Busy;
use crate::transport::TransportError;

/// Ids per call of the source: some 25 MiB as stored, a good part of a pack.
const FETCH_BATCH: usize = 256;

/// After a batch of which hardly any chunk could be patched, as between two versions of a system, so many
/// are fetched whole before the next try: telling what the disk holds costs a read of it.
const REST: usize = 3;

impl Pipe<'_> {
    /// One fetching thread.
    pub(super) fn fetch(&self, out: &SyncSender<Changed>) -> Result<(), ApplyError> {
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

    pub(super) fn first_place(&self, id: ChunkId) -> Option<Unit> {
        self.sorted.places.get(&id)?.first().copied()
    }
}
