//! The unit of an image: up to 256 KiB of a volume, named by the hash of its content.

use std::cell::RefCell;
use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::{self, CParameter};

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

impl StoredChunk {
    /// Names and packs `content`, which is 1 to [`CHUNK_SIZE`] bytes.
    #[must_use]
    pub fn pack(content: &[u8], level: i32) -> Self {
        Self::pack_as(ChunkId::of(content), content, level)
    }

    /// Packs `content`, whose name is known already: a capture hashes first and packs only what the
    /// store lacks.
    #[must_use]
    pub fn pack_as(id: ChunkId, content: &[u8], level: i32) -> Self {
        debug_assert!(!content.is_empty() && content.len() <= CHUNK_SIZE);
        Self {
            id,
            frame: compress(content, level).into(),
        }
    }

    /// Unpacks into `out`, replacing what it holds, and proves that the content has this name. On an
    /// error `out` is empty. Never unpacks more than [`CHUNK_SIZE`], whatever the frame claims.
    pub fn open(&self, out: &mut Vec<u8>) -> Result<(), ChunkError> {
        out.clear();
        let result = self.unpack(out);
        if result.is_err() {
            out.clear();
        }
        result
    }

    /// What the frame says its plain length is; unproven, but never more than [`CHUNK_SIZE`].
    #[must_use]
    pub fn plain_len(&self) -> Option<usize> {
        let claimed = zstd_safe::get_frame_content_size(&self.frame).ok()??;
        usize::try_from(claimed)
            .ok()
            .filter(|&len| (1..=CHUNK_SIZE).contains(&len))
    }

    fn unpack(&self, out: &mut Vec<u8>) -> Result<(), ChunkError> {
        self.inflate(out)?;
        let found = ChunkId::of(out);
        if found == self.id {
            Ok(())
        } else {
            Err(ChunkError::WrongContent { id: self.id, found })
        }
    }

    /// Unpacks within the limits of a chunk and proves nothing.
    pub(crate) fn inflate(&self, out: &mut Vec<u8>) -> Result<(), ChunkError> {
        let id = self.id;
        let unpack = |cause: &str| ChunkError::Unpack {
            id,
            cause: cause.to_owned(),
        };
        if self.frame.len() > MAX_STORED_CHUNK {
            return Err(ChunkError::TooLarge { id });
        }
        let claimed = zstd_safe::get_frame_content_size(&self.frame)
            .map_err(|_| unpack("it is not a zstd frame"))?
            .ok_or_else(|| unpack("the frame does not tell its content's size"))?;
        if claimed > CHUNK_SIZE as u64 {
            return Err(ChunkError::TooLarge { id });
        }
        if claimed == 0 {
            return Err(unpack("it is empty"));
        }
        if zstd_safe::find_frame_compressed_size(&self.frame) != Ok(self.frame.len()) {
            return Err(unpack("it is not exactly one zstd frame"));
        }
        let len = usize::try_from(claimed).map_err(|_| ChunkError::TooLarge { id })?;
        out.reserve_exact(len);
        decompress(&self.frame, out).map_err(|cause| unpack(&cause))?;
        if out.len() != len {
            return Err(unpack("the content is shorter than the frame says"));
        }
        Ok(())
    }
}

/// Whether there is nothing but zeros. Such chunks are never stored.
#[must_use]
pub fn is_zero(content: &[u8]) -> bool {
    // Wide blocks with one branch each, so that the compiler may use vector registers.
    let (blocks, rest) = content.as_chunks::<256>();
    blocks
        .iter()
        .all(|block| block.iter().fold(0, |seen, b| seen | b) == 0)
        && rest.iter().all(|&b| b == 0)
}

// Contexts are some hundred KiB each and costly to set up, so each thread keeps its own.
thread_local! {
    static COMPRESSOR: RefCell<Option<(i32, Compressor<'static>)>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

pub(crate) fn compress(content: &[u8], level: i32) -> Vec<u8> {
    COMPRESSOR.with_borrow_mut(|slot| {
        if slot.as_ref().is_none_or(|(at, _)| *at != level) {
            *slot = Some((level, compressor(level)));
        }
        let (_, compressor) = slot.as_mut().expect("it was set above");
        let mut frame = Vec::with_capacity(zstd_safe::compress_bound(content.len()));
        compressor
            .compress_to_buffer(content, &mut frame)
            .expect("the buffer has the size that zstd promises to be enough");
        frame.shrink_to_fit();
        frame
    })
}

/// Up to 256 KiB, zstd's level 3 looks for matches of four bytes, above for five. Five cost a fifth less time and
/// make a disk's chunks 1 % larger, so chunks are packed as level 3 packs large files, but with a table of long matches
/// that stays in a processor's near memory: of half the size it costs 4 % less time, for 0.1 % more bytes.
fn compressor(level: i32) -> Compressor<'static> {
    let mut compressor = Compressor::new(level).expect("zstd clamps every level to one it has");
    if level == 3 {
        for parameter in [CParameter::MinMatch(5), CParameter::HashLog(16)] {
            compressor
                .set_parameter(parameter)
                .expect("both are within the bounds that zstd.h gives");
        }
    }
    compressor
}

fn decompress(frame: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    DECOMPRESSOR.with_borrow_mut(|slot| {
        if slot.is_none() {
            *slot = Some(Decompressor::new().map_err(|e| e.to_string())?);
        }
        let decompressor = slot.as_mut().expect("it was set above");
        decompressor
            .decompress_to_buffer(frame, out)
            .map(|_| ())
            .map_err(|e| e.to_string())
    })
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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn sample(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * i / 7 % 251) as u8).collect()
    }

    #[test]
    fn opens_what_it_packed() {
        let mut out = vec![9; 3];
        for len in [1, 511, 4096, CHUNK_SIZE - 1, CHUNK_SIZE] {
            for level in [1, 3, 6, 3] {
                let content = sample(len);
                let chunk = StoredChunk::pack(&content, level);
                assert_eq!(chunk.id, ChunkId::of(&content));
                assert_eq!(chunk.plain_len(), Some(len));
                chunk.open(&mut out).unwrap();
                assert_eq!(out, content);
            }
        }
    }

    #[test]
    fn incompressible_content_fits_the_limit() {
        let mut noise = vec![0; CHUNK_SIZE];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        let chunk = StoredChunk::pack(&noise, 3);
        assert!(chunk.frame.len() <= MAX_STORED_CHUNK);
        chunk.open(&mut Vec::new()).unwrap();
    }

    #[test]
    fn t14_every_flipped_bit_is_refused_or_harmless() {
        let content = sample(3000);
        let good = StoredChunk::pack(&content, 3);
        let mut out = Vec::new();
        for bit in 0..good.frame.len() * 8 {
            let mut frame = good.frame.to_vec();
            frame[bit / 8] ^= 1 << (bit % 8);
            match (StoredChunk {
                id: good.id,
                frame: frame.into(),
            })
            .open(&mut out)
            {
                Ok(()) => assert_eq!(out, content),
                Err(_) => assert!(out.is_empty()),
            }
        }
    }

    #[test]
    fn t14_swapped_chunks_are_refused() {
        let (a, b) = (StoredChunk::pack(b"one", 3), StoredChunk::pack(b"two", 3));
        let swapped = StoredChunk {
            id: a.id,
            frame: b.frame.clone(),
        };
        assert_eq!(
            swapped.open(&mut Vec::new()),
            Err(ChunkError::WrongContent {
                id: a.id,
                found: b.id
            })
        );
    }

    #[test]
    fn a_bomb_is_refused_before_it_is_unpacked() {
        let huge = vec![0; 64 << 20];
        let frame: Bytes = zstd::bulk::compress(&huge, 3).unwrap().into();
        let id = ChunkId::of(&huge);
        let mut out = Vec::new();
        assert_eq!(
            StoredChunk { id, frame }.open(&mut out),
            Err(ChunkError::TooLarge { id })
        );
        assert!(out.capacity() <= CHUNK_SIZE);
    }

    #[test]
    fn trailing_bytes_second_frames_and_missing_sizes_are_refused() {
        let good = StoredChunk::pack(b"content", 3);
        let twice = [&good.frame[..], &good.frame[..]].concat();
        let trailing = [&good.frame[..], b"x"].concat();
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
        encoder.write_all(b"con").unwrap();
        encoder.flush().unwrap();
        encoder.write_all(b"tent").unwrap();
        let unsized_frame = encoder.finish().unwrap();
        let empty = zstd::bulk::compress(b"", 3).unwrap();
        for frame in [
            twice,
            trailing,
            unsized_frame,
            empty,
            Vec::new(),
            vec![0x28, 0xb5],
        ] {
            let chunk = StoredChunk {
                id: good.id,
                frame: frame.into(),
            };
            assert!(matches!(
                chunk.open(&mut Vec::new()),
                Err(ChunkError::Unpack { .. })
            ));
        }
    }

    #[test]
    fn zero_is_seen_at_every_place() {
        for len in [0, 1, 255, 256, 257, 4096] {
            let mut content = vec![0; len];
            assert!(is_zero(&content));
            for at in 0..len {
                content[at] = 0x80;
                assert!(!is_zero(&content), "{at} of {len}");
                content[at] = 0;
            }
        }
    }
}
