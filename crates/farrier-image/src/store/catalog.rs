//! What the store knows without reading: where each chunk is, who needs it, which versions there are.
//! Rebuilt from pack footers and manifests whenever a store is opened.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use super::{ImageSummary, StoreError, VersionSummary, Which};
use crate::chunk::ChunkId;
use crate::manifest::{ImageName, Manifest};
use crate::pack::{Location, PackEntry, PackId};

/// Where a chunk is and why it must stay.
#[derive(Clone, Copy, Debug)]
struct Slot {
    /// Index into [`Catalog::packs`].
    pack: u32,
    offset: u32,
    len: u32,
    /// How many versions name it.
    refs: u32,
    /// Seconds after the store was opened at which somebody last relied on it.
    touched: u32,
    damaged: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct PackState {
    pub(super) id: PackId,
    pub(super) frame_bytes: u64,
    pub(super) chunks: u32,
    /// False while it is a spool.
    pub(super) sealed: bool,
    /// True once its object is deleted.
    pub(super) gone: bool,
}

#[derive(Debug, Default)]
pub(super) struct Versions {
    pub(super) live: BTreeMap<u32, VersionSummary>,
    /// The highest number ever given.
    pub(super) highest: u32,
}

#[derive(Debug)]
pub(super) struct Catalog {
    opened: Instant,
    slots: HashMap<ChunkId, Slot>,
    pub(super) packs: Vec<PackState>,
    by_id: HashMap<PackId, u32>,
    pub(super) images: BTreeMap<ImageName, Versions>,
    /// Manifests that could not be read. While there are any, nothing may be pruned.
    pub(super) unreadable: Vec<String>,
    writers: BTreeMap<u64, u32>,
    next_writer: u64,
}

/// A chunk that no version names, as prune sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Some version needs it, or a running capture may.
    Needed {
        referenced: bool,
    },
    Dead,
}

impl Catalog {
    pub(super) fn new() -> Self {
        Self {
            opened: Instant::now(),
            slots: HashMap::new(),
            packs: Vec::new(),
            by_id: HashMap::new(),
            images: BTreeMap::new(),
            unreadable: Vec::new(),
            writers: BTreeMap::new(),
            next_writer: 0,
        }
    }

    /// For each id, whether the store lacks it. What is present counts as relied upon from now on.
    pub(super) fn missing(&mut self, ids: &[ChunkId]) -> Vec<bool> {
        let now = self.now();
        let mut lacks = |id| match self.slots.get_mut(id) {
            Some(slot) if !slot.damaged => {
                slot.touched = now;
                false
            }
            _ => true,
        };
        ids.iter().map(&mut lacks).collect()
    }

    /// Whether a chunk that arrives is one more copy; then the one here is relied upon.
    pub(super) fn holds(&mut self, id: &ChunkId) -> bool {
        !self.missing(std::slice::from_ref(id))[0]
    }

    pub(super) fn locate(&self, id: &ChunkId) -> Option<Location> {
        let slot = self.slots.get(id)?;
        let pack = self.packs[slot.pack as usize].id;
        Some(Location {
            pack,
            offset: u64::from(slot.offset),
            len: slot.len,
        })
    }

    pub(super) fn set_damaged(&mut self, id: &ChunkId, damaged: bool) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.damaged = damaged;
        }
    }

    pub(super) fn pack(&self, id: PackId) -> Option<&PackState> {
        self.by_id
            .get(&id)
            .map(|&at| &self.packs[at as usize])
            .filter(|pack| !pack.gone)
    }

    /// Adds entries to a pack, which need not be known. They replace older places of the same chunks
    /// and keep who needs them.
    pub(super) fn insert(&mut self, pack: PackId, entries: &[PackEntry], sealed: bool) {
        let now = self.now();
        let at = self.pack_index(pack, sealed);
        for entry in entries {
            self.packs[at as usize].frame_bytes += u64::from(entry.len);
            self.packs[at as usize].chunks += 1;
            let slot = self.slots.entry(entry.id).or_insert(Slot {
                pack: at,
                offset: 0,
                len: 0,
                refs: 0,
                touched: now,
                damaged: false,
            });
            *slot = Slot {
                pack: at,
                offset: entry.offset,
                len: entry.len,
                touched: now,
                damaged: false,
                ..*slot
            };
        }
    }

    pub(super) fn set_sealed(&mut self, pack: PackId) {
        let at = self.pack_index(pack, true);
        self.packs[at as usize].sealed = true;
    }

    /// Whether a chunk is not there, or known not to be what its name says.
    pub(super) fn is_lacking(&self, id: &ChunkId) -> bool {
        self.slots.get(id).is_none_or(|slot| slot.damaged)
    }

    /// Counts a version as needing its chunks, or says which are missing and counts nothing.
    pub(super) fn reference(&mut self, manifest: &Manifest) -> Result<(), StoreError> {
        let mut missing = manifest.chunk_ids().filter(|id| self.is_lacking(id));
        if let Some(first) = missing.next() {
            return Err(StoreError::MissingChunks {
                count: 1 + missing.count(),
                first,
            });
        }
        self.reference_present(manifest);
        Ok(())
    }

    /// The same for a version that is published already, whatever is missing.
    pub(super) fn reference_present(&mut self, manifest: &Manifest) {
        for id in manifest.chunk_ids() {
            if let Some(slot) = self.slots.get_mut(&id) {
                slot.refs = slot.refs.saturating_add(1);
            }
        }
    }

    pub(super) fn dereference(&mut self, manifest: &Manifest) {
        for id in manifest.chunk_ids() {
            if let Some(slot) = self.slots.get_mut(&id) {
                slot.refs = slot.refs.saturating_sub(1);
            }
        }
    }

    pub(super) fn version(
        &self,
        image: &ImageName,
        which: Which,
    ) -> Result<&VersionSummary, StoreError> {
        let versions = self.images.get(image).filter(|v| !v.live.is_empty());
        let versions = versions.ok_or_else(|| StoreError::NoImage(image.clone()))?;
        match which {
            Which::Latest => Ok(versions
                .live
                .values()
                .next_back()
                .expect("it was checked not to be empty")),
            Which::Version(version) => {
                let found = versions.live.get(&version);
                found.ok_or_else(|| StoreError::NoVersion {
                    image: image.clone(),
                    version,
                })
            }
        }
    }

    pub(super) fn summaries(&self) -> Vec<ImageSummary> {
        let summary = |(name, versions): (&ImageName, &Versions)| {
            let latest = versions.live.values().next_back()?.clone();
            Some(ImageSummary {
                name: name.clone(),
                versions: versions.live.len(),
                latest,
            })
        };
        self.images.iter().filter_map(summary).collect()
    }

    /// Whether a pack's copy of a chunk may go. A copy that the index does not point to is always dead.
    pub(super) fn standing(&self, pack: PackId, entry: &PackEntry, grace: Duration) -> Standing {
        let Some(slot) = self.slots.get(&entry.id) else {
            return Standing::Dead;
        };
        if self.packs[slot.pack as usize].id != pack || slot.offset != entry.offset {
            return Standing::Dead;
        }
        if slot.refs > 0 {
            return Standing::Needed { referenced: true };
        }
        let idle = u64::from(self.now() - slot.touched.min(self.now()));
        let writing = self
            .writers
            .values()
            .min()
            .is_some_and(|&began| slot.touched >= began);
        if writing || idle < grace.as_secs() {
            return Standing::Needed { referenced: false };
        }
        Standing::Dead
    }

    /// Forgets chunks of `pack`, which were just found dead.
    pub(super) fn forget(&mut self, pack: PackId, entries: &[PackEntry]) {
        for entry in entries {
            let here = self
                .locate(&entry.id)
                .is_some_and(|l| l.pack == pack && l.offset == u64::from(entry.offset));
            if here {
                self.slots.remove(&entry.id);
            }
        }
    }

    pub(super) fn set_gone(&mut self, pack: PackId) {
        if let Some(&at) = self.by_id.get(&pack) {
            self.packs[at as usize].gone = true;
        }
    }

    /// Points chunks at their new places, if they are still where they were copied from.
    pub(super) fn move_chunks(&mut self, from: PackId, to: PackId, entries: &[PackEntry]) {
        let at = self.pack_index(to, true);
        for entry in entries {
            self.packs[at as usize].frame_bytes += u64::from(entry.len);
            self.packs[at as usize].chunks += 1;
            if self.locate(&entry.id).is_none_or(|l| l.pack != from) {
                continue;
            }
            if let Some(slot) = self.slots.get_mut(&entry.id) {
                *slot = Slot {
                    pack: at,
                    offset: entry.offset,
                    len: entry.len,
                    ..*slot
                };
            }
        }
    }

    pub(super) fn chunks_by_place(&self) -> Vec<(ChunkId, Location)> {
        let mut all: Vec<_> = self
            .slots
            .keys()
            .filter_map(|id| Some((*id, self.locate(id)?)))
            .collect();
        all.sort_unstable_by_key(|(_, l)| (l.pack, l.offset));
        all
    }

    /// Chunks, their stored bytes, and the stored bytes that some version needs.
    pub(super) fn totals(&self) -> (u64, u64, u64) {
        let bytes = |slot: &Slot| u64::from(slot.len);
        let needed = self.slots.values().filter(|s| s.refs > 0).map(bytes).sum();
        (
            self.slots.len() as u64,
            self.slots.values().map(bytes).sum(),
            needed,
        )
    }

    /// Stored bytes that only one version needs: what its deletion would let prune free.
    pub(super) fn own_bytes(&self, manifest: &Manifest) -> u64 {
        let mut times: HashMap<ChunkId, u32> = HashMap::new();
        for id in manifest.chunk_ids() {
            *times.entry(id).or_default() += 1;
        }
        let own = |(id, times): (&ChunkId, &u32)| {
            self.slots
                .get(id)
                .filter(|s| s.refs <= *times)
                .map(|s| u64::from(s.len))
        };
        times.iter().filter_map(own).sum()
    }

    pub(super) fn begin_writer(&mut self) -> u64 {
        let now = self.now();
        self.next_writer += 1;
        self.writers.insert(self.next_writer, now);
        self.next_writer
    }

    pub(super) fn end_writer(&mut self, writer: u64) {
        self.writers.remove(&writer);
    }

    fn pack_index(&mut self, id: PackId, sealed: bool) -> u32 {
        if let Some(&at) = self.by_id.get(&id) {
            return at;
        }
        let at = u32::try_from(self.packs.len()).expect("a store of 2^32 packs has 200 PB");
        self.packs.push(PackState {
            id,
            frame_bytes: 0,
            chunks: 0,
            sealed,
            gone: false,
        });
        self.by_id.insert(id, at);
        at
    }

    fn now(&self) -> u32 {
        u32::try_from(self.opened.elapsed().as_secs()).unwrap_or(u32::MAX)
    }
}
