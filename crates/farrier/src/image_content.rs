//! The server's store as the image engine sees it: blocking, with its own repeats; a call is one request.

use bytes::Bytes;
use farrier_api::client::{AdminClient, AdminClientError};
use farrier_image::chunk::{ChunkId, MAX_STORED_CHUNK, StoredChunk};
use farrier_image::manifest::{MAX_PLAIN, Manifest, SignedManifest};
use farrier_image::transport::{ChunkSink, ChunkSource, Phase, Progress, TransportError, Watch};
use indicatif::ProgressBar;
use tokio::runtime::Handle;

/// Made inside the runtime, used from threads outside of it.
#[derive(Debug)]
pub(crate) struct ServerStore {
    client: AdminClient,
    handle: Handle,
}

impl ServerStore {
    pub(crate) fn new(client: AdminClient) -> Self {
        Self {
            client,
            handle: Handle::current(),
        }
    }
}

impl ChunkSink for ServerStore {
    fn missing(&self, ids: &[ChunkId]) -> Result<Vec<bool>, TransportError> {
        let mut missing = Vec::with_capacity(ids.len());
        for question in ids.chunks(IDS_PER_QUESTION) {
            missing.extend(
                self.handle
                    .block_on(self.client.missing(&raw(question)))
                    .map_err(translated)?,
            );
        }
        Ok(missing)
    }

    fn put(&self, chunks: &[StoredChunk]) -> Result<(), TransportError> {
        for batch in batches(chunks) {
            self.handle
                .block_on(self.client.put_chunks(&batch))
                .map_err(translated)?;
        }
        Ok(())
    }

    fn commit(&self, manifest: Manifest) -> Result<SignedManifest, TransportError> {
        let body = manifest
            .encode()
            .map_err(|error| TransportError::Refused(error.to_string()))?;
        let bytes = self
            .handle
            .block_on(self.client.commit(body, MAX_PLAIN))
            .map_err(translated)?;
        Ok(SignedManifest { bytes })
    }
}

impl ChunkSource for ServerStore {
    fn fetch(
        &self,
        ids: &[ChunkId],
        deliver: &mut dyn FnMut(StoredChunk) -> bool,
    ) -> Result<(), TransportError> {
        for question in ids.chunks(IDS_PER_FETCH) {
            let wanted = raw(question);
            let asked = self.client.fetch_chunks(&wanted, MAX_STORED_CHUNK);
            for (id, frame) in self.handle.block_on(asked).map_err(translated)? {
                if !deliver(StoredChunk {
                    id: ChunkId(id),
                    frame,
                }) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

fn raw(ids: &[ChunkId]) -> Vec<[u8; 32]> {
    ids.iter().map(|id| id.0).collect()
}

/// Cuts `chunks` where a body would grow too large.
fn batches(chunks: &[StoredChunk]) -> Vec<Vec<([u8; 32], Bytes)>> {
    let mut batches = Vec::new();
    let mut batch = Vec::new();
    let mut size = 0;
    for chunk in chunks {
        if size + chunk.frame.len() > BYTES_PER_PUT && !batch.is_empty() {
            batches.push(std::mem::take(&mut batch));
            size = 0;
        }
        size += chunk.frame.len();
        batch.push((chunk.id.0, chunk.frame.clone()));
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    batches
}

fn translated(error: AdminClientError) -> TransportError {
    let may_retry = error.may_retry();
    match error {
        AdminClientError::Refused { status: 507, body } => TransportError::StoreFull(body.message),
        AdminClientError::Unreachable { cause, .. } => TransportError::Unavailable(cause),
        other if may_retry => TransportError::Unavailable(other.to_string()),
        other => TransportError::Refused(other.to_string()),
    }
}

/// Shows on a bar how far the engine is.
#[derive(Debug)]
pub(crate) struct Shown(pub(crate) ProgressBar);

impl Watch for Shown {
    fn progress(&self, progress: &Progress) {
        self.0.set_length(progress.total_bytes);
        self.0.set_position(progress.done_bytes);
        self.0.set_message(match progress.phase {
            Phase::Planning => "planning",
            Phase::Reading => "reading",
            Phase::Writing => "writing",
            Phase::Verifying => "verifying",
            Phase::Committing => "publishing",
        });
    }
}

const IDS_PER_QUESTION: usize = 4096;
/// What the server hands out at once.
const IDS_PER_FETCH: usize = 64;
/// Far below what the server takes in one body.
const BYTES_PER_PUT: usize = 8 << 20;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use farrier_api::client::AdminClientError;
    use farrier_api::error::ErrorBody;
    use farrier_image::chunk::{ChunkId, StoredChunk};
    use farrier_image::transport::TransportError;

    use super::{BYTES_PER_PUT, batches, translated};

    fn chunk(id: u8, len: usize) -> StoredChunk {
        StoredChunk {
            id: ChunkId([id; 32]),
            frame: Bytes::from(vec![0; len]),
        }
    }

    #[test]
    fn no_body_is_empty_or_too_large_and_no_chunk_is_lost() {
        assert!(batches(&[]).is_empty());
        let third = BYTES_PER_PUT / 3;
        let chunks: Vec<_> = (0..8).map(|id| chunk(id, third)).collect();
        let cut = batches(&chunks);
        let sizes: Vec<_> = cut.iter().map(Vec::len).collect();
        assert_eq!(sizes, [3, 3, 2]);
        let ids: Vec<_> = cut.iter().flatten().map(|(id, _)| id[0]).collect();
        assert_eq!(ids, [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(batches(&[chunk(1, BYTES_PER_PUT + 1)]).len(), 1);
    }

    #[test]
    fn r13_a_full_store_and_an_absent_server_are_waited_for() {
        let refused = |status, retry| AdminClientError::Refused {
            status,
            body: ErrorBody {
                code: String::new(),
                message: "no".to_owned(),
                hint: None,
                retry,
                request: String::new(),
                plan: None,
            },
        };
        assert!(matches!(
            translated(refused(507, true)),
            TransportError::StoreFull(_)
        ));
        assert!(matches!(
            translated(refused(503, true)),
            TransportError::Unavailable(_)
        ));
        assert!(matches!(
            translated(refused(403, false)),
            TransportError::Refused(_)
        ));
    }
}
