//! The journal: chunks become durable in a spool, and spools become packs.

use std::collections::HashSet;
use std::fs::{self, File};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::StoreError;
use super::catalog::Catalog;
use super::medium::Medium;
use crate::chunk::StoredChunk;
use crate::pack::{self, HEADER, MAX_ENTRIES, MAX_PACK, PackEntry, PackId, RECORD_HEADER, SEAL_AT};

/// A pack that is being written. `len` and `entries` tell what is durable.
#[derive(Debug)]
pub(super) struct Spool {
    pub(super) id: PackId,
    file: File,
    len: u64,
    pub(super) entries: Vec<PackEntry>,
    /// After a failed write the file may be longer than `len`.
    torn: bool,
    /// It is an object now, and only what belongs to the change of name may be left to do.
    named: bool,
}

pub(super) struct Writer {
    medium: Arc<Medium>,
    catalog: Arc<Mutex<Catalog>>,
    current: Option<Spool>,
    /// Left by an earlier process or a full disk: durable, and to be sealed when that works.
    waiting: Vec<Spool>,
}

impl Writer {
    pub(super) fn new(medium: Arc<Medium>, catalog: Arc<Mutex<Catalog>>) -> Self {
        Self {
            medium,
            catalog,
            current: None,
            waiting: Vec::new(),
        }
    }

    /// Makes proven chunks durable; when it returns they are, and the catalog has them. Tells of each
    /// whether it is new.
    pub(super) fn store(&mut self, chunks: &[StoredChunk]) -> Result<Vec<bool>, StoreError> {
        let mut new = Vec::with_capacity(chunks.len());
        let mut seen = HashSet::new();
        while new.len() < chunks.len() {
            let taken = self.spool()?.room_for(&chunks[new.len()..]);
            let batch = &chunks[new.len()..new.len() + taken];
            let mut fresh = Vec::with_capacity(taken);
            for chunk in batch {
                let is_new = seen.insert(chunk.id) && !lock(&self.catalog).holds(&chunk.id);
                new.push(is_new);
                fresh.extend(is_new.then_some(chunk));
            }
            self.append(&fresh)?;
        }
        Ok(new)
    }

    /// Seals every spool that holds chunks, so that they are in packs.
    pub(super) fn seal_all(&mut self) -> Result<(), StoreError> {
        self.waiting.extend(self.current.take());
        while let Some(mut spool) = self.waiting.pop() {
            if let Err(e) = self.seal(&mut spool) {
                self.waiting.push(spool);
                return Err(e);
            }
        }
        Ok(())
    }

    /// Takes over what an earlier process left in `id`'s spool.
    pub(super) fn recover(&mut self, id: PackId) -> Result<(), StoreError> {
        let doing = "replaying its journal";
        let bytes = fs::read(self.medium.spool_path(id)).map_err(StoreError::io(doing))?;
        let (entries, len) = pack::replay(&bytes).unwrap_or_default();
        if entries.is_empty() {
            return self.medium.remove_spool(id).map_err(StoreError::io(doing));
        }
        let file = self.medium.open_spool(id).map_err(StoreError::io(doing))?;
        lock(&self.catalog).insert(id, &entries, false);
        self.waiting.push(Spool {
            id,
            file,
            len,
            entries,
            torn: bytes.len() as u64 > len,
            named: false,
        });
        Ok(())
    }

    /// Writes chunks into a pack of their own, past the current spool. For prune.
    pub(super) fn write_pack(
        &self,
        chunks: &[StoredChunk],
    ) -> Result<(PackId, Vec<PackEntry>), StoreError> {
        let mut spool = create(&self.medium)?;
        let all: Vec<&StoredChunk> = chunks.iter().collect();
        let result = spool
            .append(&self.medium, &all)
            .and_then(|_| spool.finish(&self.medium));
        if let Err(e) = result {
            // What is left would be replayed on opening as a second copy, which is harmless.
            let _ = self.medium.remove_spool(spool.id);
            return Err(e);
        }
        Ok((spool.id, spool.entries))
    }

    fn append(&mut self, fresh: &[&StoredChunk]) -> Result<(), StoreError> {
        if fresh.is_empty() {
            return Ok(());
        }
        let spool = self.current.as_mut().expect("store() made one");
        let added = spool.append(&self.medium, fresh)?;
        lock(&self.catalog).insert(spool.id, &spool.entries[added..], false);
        if spool.is_full() {
            self.seal_current();
        }
        Ok(())
    }

    /// The chunks are safe in the spool, so a failure here is not the caller's; it is tried again before
    /// the next write.
    fn seal_current(&mut self) {
        let Some(mut spool) = self.current.take() else {
            return;
        };
        if let Err(e) = self.seal(&mut spool) {
            tracing::warn!(pack = %spool.id, error = %e, "a full pack could not be sealed yet");
            self.waiting.push(spool);
        }
    }

    fn spool(&mut self) -> Result<&mut Spool, StoreError> {
        if self.current.as_ref().is_some_and(Spool::is_full) {
            self.seal_current();
        }
        if !self.waiting.is_empty() && self.current.is_none() {
            self.seal_all()?;
        }
        if self.current.is_none() {
            self.current = Some(create(&self.medium)?);
        }
        let spool = self.current.as_mut().expect("it was set above");
        spool.mend(&self.medium)?;
        Ok(spool)
    }

    fn seal(&self, spool: &mut Spool) -> Result<(), StoreError> {
        spool.mend(&self.medium)?;
        if spool.entries.is_empty() {
            return self
                .medium
                .remove_spool(spool.id)
                .map_err(StoreError::io("removing an empty journal"));
        }
        spool.finish(&self.medium)?;
        lock(&self.catalog).set_sealed(spool.id);
        Ok(())
    }
}

impl Spool {
    fn is_full(&self) -> bool {
        self.len >= SEAL_AT || self.entries.len() >= MAX_ENTRIES
    }

    /// How many of `chunks` fit. At least one, as a spool that is not full has room for any chunk.
    fn room_for(&self, chunks: &[StoredChunk]) -> usize {
        let mut len = self.len;
        let fits = |(at, chunk): &(usize, &StoredChunk)| {
            let room = len < SEAL_AT && self.entries.len() + at < MAX_ENTRIES;
            len += (RECORD_HEADER + chunk.frame.len()) as u64;
            room && len <= MAX_PACK
        };
        chunks.iter().enumerate().take_while(fits).count()
    }

    /// Returns the index of the first new entry.
    fn append(&mut self, medium: &Medium, chunks: &[&StoredChunk]) -> Result<usize, StoreError> {
        let mut records =
            Vec::with_capacity(chunks.iter().map(|c| RECORD_HEADER + c.frame.len()).sum());
        let mut entries = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            records.extend_from_slice(&pack::record_header(chunk));
            let offset = u32::try_from(self.len + records.len() as u64)
                .expect("a pack is shorter than 4 GiB");
            let len = u32::try_from(chunk.frame.len()).expect("a chunk is shorter than 4 GiB");
            entries.push(PackEntry {
                id: chunk.id,
                offset,
                len,
            });
            records.extend_from_slice(&chunk.frame);
        }
        self.torn = true;
        medium
            .write_at(&self.file, &records, self.len)
            .map_err(StoreError::io("writing chunks"))?;
        medium
            .sync(&self.file)
            .map_err(StoreError::io("writing chunks"))?;
        self.torn = false;
        self.len += records.len() as u64;
        let first = self.entries.len();
        self.entries.append(&mut entries);
        Ok(first)
    }

    fn finish(&mut self, medium: &Medium) -> Result<(), StoreError> {
        let doing = "sealing a pack";
        if !self.named {
            self.torn = true;
            medium
                .write_at(&self.file, &pack::footer(&self.entries), self.len)
                .map_err(StoreError::io(doing))?;
            medium.sync(&self.file).map_err(StoreError::io(doing))?;
            medium.name_pack(self.id)?;
            self.named = true;
        }
        medium.settle_pack(self.id).map_err(StoreError::io(doing))
    }

    /// Cuts off what a failed write left.
    fn mend(&mut self, medium: &Medium) -> Result<(), StoreError> {
        // A change of name that reported an error may have happened all the same; the file is a pack
        // then, and packs never change.
        self.named |= self.torn && !medium.has_spool(self.id);
        if self.torn && !self.named {
            medium
                .truncate(&self.file, self.len)
                .map_err(StoreError::io("mending its journal"))?;
            self.torn = false;
        }
        Ok(())
    }
}

fn create(medium: &Medium) -> Result<Spool, StoreError> {
    let doing = "starting a pack";
    let mut name = [0; 16];
    aws_lc_rs::rand::fill(&mut name)
        .map_err(|_| StoreError::Key(crate::key::KeyError::Generate))?;
    let id = PackId(name);
    let file = medium.create_spool(id).map_err(StoreError::io(doing))?;
    let mut spool = Spool {
        id,
        file,
        len: HEADER.len() as u64,
        entries: Vec::new(),
        torn: true,
        named: false,
    };
    let begin = || {
        medium
            .write_at(&spool.file, &HEADER, 0)
            .and_then(|()| medium.sync(&spool.file))
    };
    if let Err(e) = begin() {
        let _ = medium.remove_spool(id);
        return Err(StoreError::io(doing)(e));
    }
    spool.torn = false;
    Ok(spool)
}

/// A thread that panicked while it held the lock leaves maps that are whole: every change is one call.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
