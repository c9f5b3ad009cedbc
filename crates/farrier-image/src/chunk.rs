//! The unit of an image: up to 256 KiB of a volume, named by the hash of its content.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Plain size of every chunk but a volume's last. Chunks are aligned to the start of their volume, so
/// that equal volumes at different places on a disk share them.
pub const CHUNK_SIZE: usize = 256 * 1024;

/// The largest a stored chunk may be: a frame that zstd could not shrink.
pub const MAX_STORED_CHUNK: usize = CHUNK_SIZE + 1024;

/// BLAKE3-256 of a chunk's plain content, after unused blocks were zeroed in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChunkId(pub [u8; 32]);

impl ChunkId {
    /// Names `content`.
    #[must_use]
    pub fn of(content: &[u8]) -> Self {
        Self(*blake3::hash(content).as_bytes())
    }
}

impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", &blake3::Hash::from_bytes(self.0).to_hex()[..12])
    }
}

impl FromStr for ChunkId {
    type Err = blake3::HexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        blake3::Hash::from_hex(text).map(|h| Self(*h.as_bytes()))
    }
}

/// A chunk as it is kept and sent: one zstd frame. Nobody trusts `id` before [`StoredChunk::open`].
#[derive(Clone, Debug)]
pub struct StoredChunk {
    pub id: ChunkId,
    pub frame: Bytes,
}

/// The bytes are not the chunk they were said to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    #[error("chunk {id} cannot be unpacked: {cause}")]
    Unpack { id: ChunkId, cause: String },
    #[error("chunk {id} holds other content than its name says (found {found})")]
    WrongContent { id: ChunkId, found: ChunkId },
    #[error("chunk {id} is larger than a chunk may be")]
    TooLarge { id: ChunkId },
}
