//! Images that programs bring and fetch: chunks by their ids, and signed manifests.

use bytes::{Bytes, BytesMut};
use farrier_api::agent::{read_frame, write_frame};
use farrier_image::chunk::{ChunkId, MAX_STORED_CHUNK, StoredChunk};
use farrier_image::manifest::{MAX_PLAIN, Manifest};

use super::images::parse_version;
use super::tasks::parse_image;
use super::{Code, Desk, Refusal};
use crate::auth::Action;
use crate::core::now;
use crate::fleet::Change;

impl Desk {
    /// The way in for image content. Chunks that no version names yet are safe from pruning for the store's
    /// grace time, since an upload is many requests.
    pub fn upload(&self) -> Result<ImageUpload<'_>, Refusal> {
        self.allow(Action::WriteImage)?;
        Ok(ImageUpload { desk: self })
    }

    /// Chunks by id, verified, as frames.
    pub async fn fetch(&self, ids: &[u8]) -> Result<Bytes, Refusal> {
        self.allow(Action::ReadImageContent)?;
        let ids = parse_ids(ids)?;
        if ids.len() > MAX_FETCH {
            return Err(Refusal::new(
                Code::TooLarge,
                format!("ask for at most {MAX_FETCH} chunks at once"),
            ));
        }
        let mut frames = BytesMut::new();
        for id in ids {
            let chunk = self.core.store.chunk(id).await?;
            write_frame(&mut frames, &chunk.id.0, &chunk.frame);
        }
        Ok(frames.freeze())
    }

    /// A signed manifest, its whole file.
    pub async fn signed_manifest(&self, name: &str, version: &str) -> Result<Vec<u8>, Refusal> {
        self.allow(Action::ReadImageContent)?;
        let opened = self
            .core
            .store
            .manifest(&parse_image(name)?, parse_version(version)?)
            .await?;
        Ok(opened.signed.bytes)
    }
}

/// Image content on its way in.
#[derive(Debug)]
pub struct ImageUpload<'a> {
    desk: &'a Desk,
}

impl ImageUpload<'_> {
    /// One byte per id, 1 when the store lacks it.
    pub fn missing(&self, ids: &[u8]) -> Result<Vec<u8>, Refusal> {
        let ids = parse_ids(ids)?;
        Ok(self
            .desk
            .core
            .store
            .missing(&ids)
            .into_iter()
            .map(u8::from)
            .collect())
    }

    /// Takes frames; when this returns they are durable. The store hashes them again.
    pub async fn put(&self, frames: Bytes) -> Result<(), Refusal> {
        let mut buffer = BytesMut::from(frames);
        let mut chunks = Vec::new();
        while let Some((id, frame)) = read_frame(&mut buffer, MAX_STORED_CHUNK)
            .map_err(|e| Refusal::new(Code::TooLarge, e.to_string()))?
        {
            chunks.push(StoredChunk {
                id: ChunkId(id),
                frame,
            });
        }
        if !buffer.is_empty() {
            return Err(Refusal::bad("the last chunk is cut short"));
        }
        self.desk.core.store.put(chunks).await?;
        Ok(())
    }

    /// Publishes a version and returns its signed manifest.
    pub async fn commit(&self, manifest: &[u8]) -> Result<Vec<u8>, Refusal> {
        let manifest =
            Manifest::decode(manifest, MAX_PLAIN).map_err(|e| Refusal::bad(e.to_string()))?;
        let name = manifest.image.clone();
        let committed = self.desk.core.store.commit(manifest, now().0).await?;
        self.desk.core.tell(Change::Images);
        self.desk
            .audit(
                Action::WriteImage,
                format!("{name} version {}", committed.version),
            )
            .await;
        Ok(committed.signed.bytes)
    }
}

fn parse_ids(bytes: &[u8]) -> Result<Vec<ChunkId>, Refusal> {
    let (ids, rest) = bytes.as_chunks::<32>();
    if !rest.is_empty() || ids.len() > MAX_IDS {
        return Err(Refusal::bad(format!(
            "send at most {MAX_IDS} ids of 32 bytes each"
        )));
    }
    Ok(ids.iter().copied().map(ChunkId).collect())
}

/// Ids of a 16 GiB volume in one question.
const MAX_IDS: usize = 65536;
/// At most 16 MiB in one answer.
const MAX_FETCH: usize = 64;
