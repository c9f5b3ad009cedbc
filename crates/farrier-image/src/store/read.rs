//! Reading: packs, chunks and manifests, from the object store or from what is still in the journal.

use std::fs::File;
use std::ops::Range;

use bytes::Bytes;
use object_store::path::Path;

use super::{OpenedManifest, Store, StoreError, Which, blocking, manifest_path, medium};
use crate::chunk::{ChunkId, StoredChunk};
use crate::manifest::{ImageName, SignedManifest};
use crate::pack::PackId;

impl Store {
    pub async fn manifest(
        &self,
        image: &ImageName,
        which: Which,
    ) -> Result<OpenedManifest, StoreError> {
        let version = self.version(image, which)?.version;
        self.read_manifest(&manifest_path(image, version)).await
    }

    /// Bytes of a pack as they are kept: frames at their locations and what lies between. Nothing is
    /// verified; the reader does that by [`StoredChunk::open`].
    pub async fn read_pack_range(
        &self,
        pack: PackId,
        range: Range<u64>,
    ) -> Result<Bytes, StoreError> {
        let sealed = self.catalog().pack(pack).map(|p| p.sealed);
        match sealed {
            None => Err(StoreError::NoObject {
                object: pack.to_string(),
            }),
            Some(true) => {
                self.inner
                    .medium
                    .get_range(&medium::pack_path(pack), range)
                    .await
            }
            Some(false) => match self.read_spool(pack, range.clone()).await {
                // It was sealed just now.
                Err(StoreError::NoObject { .. }) => {
                    self.inner
                        .medium
                        .get_range(&medium::pack_path(pack), range)
                        .await
                }
                other => other,
            },
        }
    }

    /// One chunk, proven to be what its name says. A damaged one is never returned: the error names the
    /// images that need it, and the next capture that has it may send it again.
    pub async fn chunk(&self, id: ChunkId) -> Result<StoredChunk, StoreError> {
        let chunk = match self.read_chunk(id).await {
            // Prune moved it between the look-up and the read.
            Err(StoreError::NoObject { .. }) => self.read_chunk(id).await?,
            other => other?,
        };
        let proven = chunk.clone();
        let checked = blocking(move || Ok(proven.open(&mut Vec::new()).is_ok())).await?;
        self.catalog().set_damaged(&id, !checked);
        if checked {
            return Ok(chunk);
        }
        Err(StoreError::Corrupt {
            chunk: id,
            images: self
                .images_with(&[id])
                .await
                .remove(&id)
                .unwrap_or_default(),
        })
    }

    /// A manifest by the name of its object, as [`Store::unreadable`] lists them.
    pub async fn open_object(&self, object: &str) -> Result<OpenedManifest, StoreError> {
        self.read_manifest(&Path::from(object)).await
    }

    async fn read_chunk(&self, id: ChunkId) -> Result<StoredChunk, StoreError> {
        let place = self.catalog().locate(&id).ok_or(StoreError::NoChunk(id))?;
        let range = place.offset..place.offset + u64::from(place.len);
        Ok(StoredChunk {
            id,
            frame: self.read_pack_range(place.pack, range).await?,
        })
    }

    async fn read_spool(&self, pack: PackId, range: Range<u64>) -> Result<Bytes, StoreError> {
        let path = self.inner.medium.spool_path(pack);
        blocking(move || {
            use std::os::unix::fs::FileExt;
            let file = match File::open(&path) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                    return Err(StoreError::NoObject {
                        object: pack.to_string(),
                    });
                }
                other => other.map_err(StoreError::io("reading its journal"))?,
            };
            let len = file
                .metadata()
                .map_err(StoreError::io("reading its journal"))?
                .len();
            let end = range.end.min(len);
            let want = usize::try_from(end.saturating_sub(range.start)).unwrap_or(0);
            let mut bytes = vec![0; want];
            file.read_exact_at(&mut bytes, range.start)
                .map_err(StoreError::io("reading its journal"))?;
            Ok(bytes.into())
        })
        .await
    }

    pub(super) async fn read_manifest(&self, path: &Path) -> Result<OpenedManifest, StoreError> {
        let signed = SignedManifest {
            bytes: self.inner.medium.get(path).await?.into(),
        };
        let (trusted, object) = (self.trusted(), path.to_string());
        blocking(move || match signed.open(&trusted) {
            Ok((manifest, root)) => Ok(OpenedManifest {
                manifest,
                root,
                signed,
            }),
            Err(source) => Err(StoreError::Manifest { object, source }),
        })
        .await
    }
}
