//! A disk, and the image engine over the agent's client: what the agent does, without its screen.

use farrier_api::agent::{ChangedChunk, HeldChunk};
use farrier_api::client::AgentClient;
use farrier_image::chunk::{CHUNK_SIZE, ChunkId, MAX_STORED_CHUNK, StoredChunk};
use farrier_image::device::{BlockDevice, MemDevice};
use farrier_image::manifest::{
    DiskShape, FORMAT, MAX_PLAIN, Manifest, Run, SignedManifest, Table, Volume, VolumeKind,
};
use farrier_image::patch::{Changed, ChunkPatch, Held};
use farrier_image::transport::{ChunkSink, ChunkSource, TransportError};
use tokio::runtime::Handle;
use uuid::Uuid;

/// The image of a disk without partitions that is full of these chunks.
pub fn raw_image(name: &str, chunks: Vec<ChunkId>) -> Manifest {
    let count = chunks.len() as u64;
    let len = count * CHUNK_SIZE as u64;
    let volume = Volume {
        kind: VolumeKind::Raw,
        partition: None,
        start_bytes: 0,
        len_bytes: len,
        label: String::new(),
        fs_uuid: String::new(),
        block_bytes: 4096,
        used: vec![Run {
            first: 0,
            count: len / 4096,
        }],
        chunks: chunks.into_iter().map(Some).collect(),
    };
    Manifest {
        format: FORMAT,
        image: name.parse().unwrap(),
        version: 0,
        created_ms: 0,
        source: String::new(),
        disk: DiskShape {
            size_bytes: len,
            logical_sector: 512,
        },
        table: Table::None,
        volumes: vec![volume],
    }
}

/// The server's store over the network. Made inside the runtime, used outside of it.
#[derive(Debug)]
pub struct Remote {
    pub client: AgentClient,
    pub task: Uuid,
    pub fence: u64,
    pub handle: Handle,
}

fn translated(error: farrier_api::client::AgentClientError) -> TransportError {
    let text = error.to_string();
    match error.status() {
        Some(507) => TransportError::StoreFull(text),
        _ if error.may_retry() => TransportError::Unavailable(text),
        _ => TransportError::Refused(text),
    }
}

fn raw(ids: &[ChunkId]) -> Vec<[u8; 32]> {
    ids.iter().map(|id| id.0).collect()
}

impl ChunkSink for Remote {
    fn missing(&self, ids: &[ChunkId]) -> Result<Vec<bool>, TransportError> {
        self.handle
            .block_on(self.client.missing(&raw(ids)))
            .map_err(translated)
    }

    fn put(&self, chunks: &[StoredChunk]) -> Result<(), TransportError> {
        let chunks: Vec<_> = chunks
            .iter()
            .map(|chunk| (chunk.id.0, chunk.frame.clone()))
            .collect();
        self.handle
            .block_on(self.client.put_chunks(&chunks))
            .map_err(translated)
    }

    fn commit(&self, manifest: Manifest) -> Result<SignedManifest, TransportError> {
        let body = manifest.encode().unwrap();
        let signed = self
            .handle
            .block_on(self.client.commit(self.task, self.fence, body, MAX_PLAIN));
        signed
            .map(|bytes| SignedManifest { bytes })
            .map_err(translated)
    }
}

impl ChunkSource for Remote {
    fn fetch(
        &self,
        ids: &[ChunkId],
        deliver: &mut dyn FnMut(StoredChunk) -> bool,
    ) -> Result<(), TransportError> {
        self.handle
            .block_on(async {
                let mut stream = self
                    .client
                    .fetch_chunks(&raw(ids), MAX_STORED_CHUNK)
                    .await?;
                while let Some((id, frame)) = stream.next().await? {
                    if !deliver(StoredChunk {
                        id: ChunkId(id),
                        frame,
                    }) {
                        break;
                    }
                }
                Ok(())
            })
            .map_err(translated)
    }

    fn patches(&self) -> bool {
        true
    }

    fn fetch_changed(
        &self,
        held: &[Held],
        deliver: &mut dyn FnMut(Changed) -> bool,
    ) -> Result<(), TransportError> {
        let told = held.iter().map(|held| HeldChunk {
            id: held.id.0,
            blocks: held.blocks.clone(),
        });
        let told: Vec<_> = told.collect();
        self.handle
            .block_on(async {
                let mut stream = self.client.fetch_changed(&told, MAX_STORED_CHUNK).await?;
                while let Some(chunk) = stream.next().await? {
                    let changed = match chunk {
                        ChangedChunk::Whole { id, frame } => Changed::Whole(StoredChunk {
                            id: ChunkId(id),
                            frame,
                        }),
                        ChangedChunk::Patch { id, changed, frame } => Changed::Patch(ChunkPatch {
                            id: ChunkId(id),
                            changed,
                            frame,
                        }),
                    };
                    if !deliver(changed) {
                        break;
                    }
                }
                Ok(())
            })
            .map_err(translated)
    }
}

/// `len` bytes that do not compress, the same for the same `seed`.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..len.div_ceil(8))
        .flat_map(|_| next())
        .take(len)
        .collect()
}

/// A disk without partitions: noise, with a hole that reads as zeros.
pub fn disk(seed: u64, mib: usize) -> MemDevice {
    let mut content = noise(seed, mib << 20);
    let hole = content.len() / 4;
    content[hole..hole * 2].fill(0);
    MemDevice::with_content(&content)
}

pub fn content(disk: &MemDevice) -> Vec<u8> {
    let mut content = vec![0; usize::try_from(disk.size()).unwrap()];
    disk.read_at(0, &mut content).unwrap();
    content
}
