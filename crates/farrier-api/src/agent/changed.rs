//! The wire form of `store/changed`: what a disk holds in the place of chunks, and what of them differs.
//!
//! Asked, per chunk: its id (32 bytes), the number of 4 KiB blocks (1 byte, at most 64), 8 bytes per block: the
//! start of its BLAKE3. Answered, in any order: the id, a kind (1 byte: 0 whole, 1 patch), for a patch the bitmap of
//! changed blocks (big-endian u64), the frame's length (big-endian u32), the frame.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// A chunk that is wanted, and what is in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldChunk {
    pub id: [u8; 32],
    pub blocks: Vec<u64>,
}

/// How a chunk comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangedChunk {
    /// As the store keeps it.
    Whole { id: [u8; 32], frame: Bytes },
    /// The content of the blocks whose bits are set.
    Patch {
        id: [u8; 32],
        changed: u64,
        frame: Bytes,
    },
}

/// What was asked or answered is not of this form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangedError {
    #[error("a chunk of {0} blocks was asked for, more than a chunk has")]
    TooManyBlocks(u8),
    #[error("the last chunk asked for is cut short")]
    CutShort,
    #[error("{0} is no kind of answer to a held chunk")]
    UnknownKind(u8),
    #[error("a frame of {0} bytes was announced, more than a chunk may have")]
    FrameTooLarge(usize),
}

/// A chunk of 256 KiB has so many blocks.
const MAX_BLOCKS: u8 = 64;

const WHOLE: u8 = 0;
const PATCH: u8 = 1;

/// Appends one chunk to a question. It has at most 64 blocks; what is more could not be asked.
pub fn write_held(out: &mut BytesMut, held: &HeldChunk) {
    let count = u8::try_from(held.blocks.len())
        .unwrap_or(MAX_BLOCKS)
        .min(MAX_BLOCKS);
    out.put_slice(&held.id);
    out.put_u8(count);
    for block in &held.blocks[..usize::from(count)] {
        out.put_u64(*block);
    }
}

/// Takes a whole question apart.
pub fn read_held(mut body: &[u8]) -> Result<Vec<HeldChunk>, ChangedError> {
    let mut all = Vec::new();
    while !body.is_empty() {
        let (id, rest) = body
            .split_first_chunk::<32>()
            .ok_or(ChangedError::CutShort)?;
        let (count, rest) = rest.split_first().ok_or(ChangedError::CutShort)?;
        if *count > MAX_BLOCKS {
            return Err(ChangedError::TooManyBlocks(*count));
        }
        let (blocks, rest) = rest
            .split_at_checked(8 * usize::from(*count))
            .ok_or(ChangedError::CutShort)?;
        let blocks = blocks.as_chunks::<8>().0.iter();
        all.push(HeldChunk {
            id: *id,
            blocks: blocks.map(|block| u64::from_be_bytes(*block)).collect(),
        });
        body = rest;
    }
    Ok(all)
}

/// Appends one chunk to an answer.
pub fn write_changed(out: &mut BytesMut, chunk: &ChangedChunk) {
    let frame = match chunk {
        ChangedChunk::Whole { id, frame } => {
            out.put_slice(id);
            out.put_u8(WHOLE);
            frame
        }
        ChangedChunk::Patch { id, changed, frame } => {
            out.put_slice(id);
            out.put_u8(PATCH);
            out.put_u64(*changed);
            frame
        }
    };
    out.put_u32(u32::try_from(frame.len()).unwrap_or(u32::MAX));
    out.put_slice(frame);
}

/// Takes the next whole chunk off the front of `buffer`, or nothing until more bytes came.
pub fn read_changed(
    buffer: &mut BytesMut,
    max: usize,
) -> Result<Option<ChangedChunk>, ChangedError> {
    let mut head = &buffer[..];
    let Some((id, rest)) = head.split_first_chunk::<32>() else {
        return Ok(None);
    };
    let id = *id;
    head = rest;
    let Ok(kind) = head.try_get_u8() else {
        return Ok(None);
    };
    let changed = match kind {
        WHOLE => None,
        PATCH => match head.try_get_u64() {
            Ok(changed) => Some(changed),
            Err(_) => return Ok(None),
        },
        other => return Err(ChangedError::UnknownKind(other)),
    };
    let Ok(len) = head.try_get_u32() else {
        return Ok(None);
    };
    let len = len as usize;
    if len > max {
        return Err(ChangedError::FrameTooLarge(len));
    }
    if head.len() < len {
        return Ok(None);
    }
    let start = buffer.len() - head.len();
    let frame = buffer.split_to(start + len).split_off(start).freeze();
    Ok(Some(match changed {
        None => ChangedChunk::Whole { id, frame },
        Some(changed) => ChangedChunk::Patch { id, changed, frame },
    }))
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, Bytes, BytesMut};

    use super::*;

    fn held(id: u8, blocks: Vec<u64>) -> HeldChunk {
        HeldChunk {
            id: [id; 32],
            blocks,
        }
    }

    #[test]
    fn questions_come_back_as_they_were() {
        let all = [
            held(1, vec![1, u64::MAX]),
            held(2, vec![]),
            held(3, (0..64).collect()),
        ];
        let mut body = BytesMut::new();
        all.iter().for_each(|held| write_held(&mut body, held));
        assert_eq!(body.len(), 3 * 33 + 66 * 8);
        assert_eq!(read_held(&body).unwrap(), all);
        for end in 1..body.len() {
            let whole = [0, 33 + 16, 66 + 16].contains(&end);
            let error = read_held(&body[..end]).err();
            assert_eq!(error, (!whole).then_some(ChangedError::CutShort), "{end}");
        }
    }

    #[test]
    fn a_question_with_more_blocks_than_a_chunk_has_is_refused() {
        let mut body = vec![0; 33 + 255 * 8];
        for count in [65, 255] {
            body[32] = count;
            assert_eq!(read_held(&body), Err(ChangedError::TooManyBlocks(count)));
        }
    }

    #[test]
    fn answers_come_back_whole_whatever_the_pieces() {
        let all = [
            ChangedChunk::Whole {
                id: [1; 32],
                frame: Bytes::from_static(b"one"),
            },
            ChangedChunk::Patch {
                id: [2; 32],
                changed: 1 << 63 | 5,
                frame: Bytes::from_static(b"patches"),
            },
            ChangedChunk::Whole {
                id: [3; 32],
                frame: Bytes::new(),
            },
        ];
        let mut wire = BytesMut::new();
        all.iter().for_each(|chunk| write_changed(&mut wire, chunk));
        let (mut buffer, mut seen) = (BytesMut::new(), vec![]);
        for byte in wire {
            buffer.put_u8(byte);
            seen.extend(read_changed(&mut buffer, 7).unwrap());
        }
        assert_eq!(seen, all);
        assert!(buffer.is_empty());
    }

    #[test]
    fn lying_lengths_and_unknown_kinds_are_refused_before_anything_is_kept() {
        let head =
            |kind: u8, rest: &[u8]| BytesMut::from(&[&[0; 32], &[kind][..], rest].concat()[..]);
        let huge = u32::MAX as usize;
        for (mut wire, error) in [
            (head(0, &[255; 4]), ChangedError::FrameTooLarge(huge)),
            (head(1, &[255; 12]), ChangedError::FrameTooLarge(huge)),
            (head(0, &[0, 0, 1, 1]), ChangedError::FrameTooLarge(257)),
            (head(2, &[]), ChangedError::UnknownKind(2)),
        ] {
            assert_eq!(read_changed(&mut wire, 256), Err(error));
        }
    }
}
