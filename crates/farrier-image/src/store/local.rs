//! The store of this process as one end of a capture or deployment. Both block, so they are called from
//! threads of the image engine and never from within the runtime.

use std::collections::HashMap;
use std::fmt;

use tokio::runtime::Handle;

use super::{Store, StoreError};
use crate::chunk::{ChunkId, StoredChunk};
use crate::manifest::{Manifest, SignedManifest};
use crate::pack::Location;
use crate::patch::{Changed, Held};
use crate::transport::{ChunkSink, ChunkSource, TransportError};

/// Neighbours in a pack are read together up to this many bytes; what lies between may be as large as
/// `GAP` to be read along.
const READ: u64 = 4 << 20;
const GAP: u64 = 256 << 10;

/// Captures into the store. It counts as a running capture for prune until it is dropped.
#[derive(Debug)]
pub struct LocalSink {
    store: Store,
    runtime: Handle,
    now_ms: fn() -> i64,
    _writer: super::WriterGuard,
}

/// Deploys from the store.
#[derive(Clone)]
pub struct LocalSource {
    store: Store,
    runtime: Handle,
}

impl LocalSink {
    /// `now_ms` tells the time of a commit, in milliseconds since 1970 UTC.
    #[must_use]
    pub fn new(store: Store, runtime: Handle, now_ms: fn() -> i64) -> Self {
        let writer = store.register_writer();
        Self {
            store,
            runtime,
            now_ms,
            _writer: writer,
        }
    }
}

impl ChunkSink for LocalSink {
    fn missing(&self, ids: &[ChunkId]) -> Result<Vec<bool>, TransportError> {
        Ok(self.store.missing(ids))
    }

    fn put(&self, chunks: &[StoredChunk]) -> Result<(), TransportError> {
        self.runtime
            .block_on(self.store.put(chunks.to_vec()))
            .map(|_| ())
            .map_err(transport)
    }

    fn commit(&self, manifest: Manifest) -> Result<SignedManifest, TransportError> {
        let committed = self
            .runtime
            .block_on(self.store.commit(manifest, (self.now_ms)()));
        committed.map(|c| c.signed).map_err(transport)
    }
}

impl LocalSource {
    #[must_use]
    pub fn new(store: Store, runtime: Handle) -> Self {
        Self { store, runtime }
    }

    fn fetch_group(
        &self,
        group: &[(ChunkId, Location)],
        deliver: &mut dyn FnMut(StoredChunk) -> bool,
    ) -> Result<bool, TransportError> {
        let (pack, base) = (group[0].1.pack, group[0].1.offset);
        let end = group
            .iter()
            .map(|(_, l)| l.offset + u64::from(l.len))
            .max()
            .unwrap_or(base);
        let bytes = match self
            .runtime
            .block_on(self.store.read_pack_range(pack, base..end))
        {
            // Prune moved them in between, or the pack is cut off: one by one tells which are bad.
            Err(StoreError::NoObject { .. } | StoreError::Object { .. }) => bytes::Bytes::new(),
            other => other.map_err(transport)?,
        };
        for (id, place) in group {
            let from = usize::try_from(place.offset - base).unwrap_or(usize::MAX);
            let to = from.saturating_add(place.len as usize);
            let chunk = if to <= bytes.len() {
                StoredChunk {
                    id: *id,
                    frame: bytes.slice(from..to),
                }
            } else {
                self.runtime
                    .block_on(self.store.chunk(*id))
                    .map_err(transport)?
            };
            if !deliver(chunk) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl ChunkSource for LocalSource {
    fn fetch(
        &self,
        ids: &[ChunkId],
        deliver: &mut dyn FnMut(StoredChunk) -> bool,
    ) -> Result<(), TransportError> {
        let mut wanted = Vec::with_capacity(ids.len());
        for (id, place) in ids.iter().zip(self.store.locate(ids)) {
            wanted.push((
                *id,
                place.ok_or_else(|| transport(StoreError::NoChunk(*id)))?,
            ));
        }
        let mut rest = &wanted[..];
        while !rest.is_empty() {
            let (group, others) = rest.split_at(neighbours(rest));
            if !self.fetch_group(group, deliver)? {
                return Ok(());
            }
            rest = others;
        }
        Ok(())
    }

    fn patches(&self) -> bool {
        true
    }

    fn fetch_changed(
        &self,
        held: &[Held],
        deliver: &mut dyn FnMut(Changed) -> bool,
    ) -> Result<(), TransportError> {
        let ids: Vec<ChunkId> = held.iter().map(|held| held.id).collect();
        let by_id: HashMap<ChunkId, &Held> = held.iter().map(|held| (held.id, held)).collect();
        self.fetch(&ids, &mut |chunk| match by_id.get(&chunk.id) {
            Some(held) => deliver(Changed::between(held, chunk)),
            None => true,
        })
    }
}

impl fmt::Debug for LocalSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalSource").finish_non_exhaustive()
    }
}

/// How many of the first places lie close behind each other in one pack. At least one.
fn neighbours(places: &[(ChunkId, Location)]) -> usize {
    let first = places[0].1;
    let mut end = first.offset + u64::from(first.len);
    let follows = |(_, l): &&(ChunkId, Location)| {
        let near = l.pack == first.pack
            && l.offset >= end
            && l.offset - end <= GAP
            && l.offset - first.offset < READ;
        end = l.offset + u64::from(l.len);
        near
    };
    1 + places[1..].iter().take_while(follows).count()
}

fn transport(error: StoreError) -> TransportError {
    let text = error.to_string();
    match error {
        StoreError::Full { .. } => TransportError::StoreFull(text),
        StoreError::Corrupt { chunk, .. } | StoreError::NoChunk(chunk) => {
            TransportError::BadChunk {
                id: chunk,
                cause: text,
            }
        }
        other if other.may_retry() => TransportError::Unavailable(text),
        _ => TransportError::Refused(text),
    }
}
