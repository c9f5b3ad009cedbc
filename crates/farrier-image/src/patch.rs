//! Repair below the size of a chunk: the disk's side tells what it holds, block by block, and gets only the
//! blocks that differ. Overwriting 5 % of random 4 KiB blocks damages nearly every chunk of 64 of them; whole
//! chunks would move nearly the whole image.
//!
//! Nothing here is trusted: a patch counts only when the chunk it makes has the right [`ChunkId`].

use bytes::Bytes;

use crate::chunk::{CHUNK_SIZE, ChunkError, ChunkId, StoredChunk, compress};

/// What is told apart inside a chunk: the page that file systems and disks write.
pub const BLOCK_SIZE: usize = 4096;

/// Blocks of a full chunk; a patch marks each by one bit.
pub const MAX_BLOCKS: usize = CHUNK_SIZE / BLOCK_SIZE;

/// With more than one block in this many changed, the whole chunk is sent as it is stored: packing the
/// blocks anew costs the server ten times the CPU of sending what it has, and saves little.
const WHOLE_FROM: u32 = 4;

const LEVEL: i32 = 3;

/// What a disk holds in the place of a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The chunk that is wanted there.
    pub id: ChunkId,
    /// The first 8 bytes, big-endian, of the BLAKE3 of each block of the present content, unused bytes zeroed.
    /// Short, because an accident costs no more than a fetch of the whole chunk.
    pub blocks: Vec<u64>,
}

impl Held {
    /// Describes `present`, which is in the place of `id`.
    #[must_use]
    pub fn of(id: ChunkId, present: &[u8]) -> Self {
        Self {
            id,
            blocks: present.chunks(BLOCK_SIZE).map(short_hash).collect(),
        }
    }

    /// What telling it to the other side takes.
    #[must_use]
    pub fn wire_bytes(&self) -> u64 {
        (self.id.0.len() + 8 * self.blocks.len()) as u64
    }
}

/// What turns a held chunk into the wanted one.
#[derive(Clone, Debug)]
pub enum Changed {
    Whole(StoredChunk),
    Patch(ChunkPatch),
}

/// The blocks of a chunk that differ from what was [`Held`].
#[derive(Clone, Debug)]
pub struct ChunkPatch {
    /// The chunk that the patched content must be.
    pub id: ChunkId,
    /// Bit n stands for block n.
    pub changed: u64,
    /// The changed blocks one after another, as one zstd frame.
    pub frame: Bytes,
}

impl Changed {
    /// What somebody who holds `held` needs to have `stored`. A chunk that is damaged in the store goes out
    /// whole: the receiver proves chunks anyway, and is the one to report it.
    #[must_use]
    pub fn between(held: &Held, stored: StoredChunk) -> Self {
        let mut wanted = vec![];
        if held.id != stored.id || stored.open(&mut wanted).is_err() {
            return Self::Whole(stored);
        }
        match ChunkPatch::between(held, &wanted) {
            Some(patch) if patch.wire_bytes() < stored.frame.len() as u64 => Self::Patch(patch),
            _ => Self::Whole(stored),
        }
    }

    #[must_use]
    pub fn id(&self) -> ChunkId {
        match self {
            Self::Whole(chunk) => chunk.id,
            Self::Patch(patch) => patch.id,
        }
    }

    /// What it takes to send, as far as it says something about the content.
    #[must_use]
    pub fn wire_bytes(&self) -> u64 {
        match self {
            Self::Whole(chunk) => chunk.frame.len() as u64,
            Self::Patch(patch) => patch.wire_bytes(),
        }
    }
}

impl ChunkPatch {
    /// Nothing when blocks cannot be told apart, or most changed.
    fn between(held: &Held, wanted: &[u8]) -> Option<Self> {
        let blocks = wanted.chunks(BLOCK_SIZE);
        if blocks.len() != held.blocks.len() || blocks.len() > MAX_BLOCKS {
            return None;
        }
        let (mut changed, mut content) = (0_u64, vec![]);
        for (index, (block, hash)) in blocks.clone().zip(&held.blocks).enumerate() {
            if short_hash(block) != *hash {
                changed |= 1 << index;
                content.extend_from_slice(block);
            }
        }
        let few = (blocks.len() as u32 / WHOLE_FROM).max(1);
        (1..=few).contains(&changed.count_ones()).then(|| Self {
            id: held.id,
            changed,
            frame: compress(&content, LEVEL).into(),
        })
    }

    /// Puts the changed blocks into `content`, which is what was held, and proves that the result is the
    /// chunk. On an error `content` is empty. `unpacked` is memory for the frame's content.
    pub fn apply(&self, content: &mut Vec<u8>, unpacked: &mut Vec<u8>) -> Result<(), ChunkError> {
        let result = self.patch(content, unpacked);
        if result.is_err() {
            content.clear();
        }
        result
    }

    fn patch(&self, content: &mut [u8], unpacked: &mut Vec<u8>) -> Result<(), ChunkError> {
        let unfit = || ChunkError::Unpack {
            id: self.id,
            cause: "the patch does not fit the chunk".to_owned(),
        };
        let frame = StoredChunk {
            id: self.id,
            frame: self.frame.clone(),
        };
        unpacked.clear();
        frame.inflate(unpacked)?;
        let mut rest = &unpacked[..];
        let mut left = self.changed;
        for (index, block) in content.chunks_mut(BLOCK_SIZE).enumerate().take(MAX_BLOCKS) {
            if left & (1 << index) != 0 {
                let (new, after) = rest.split_at_checked(block.len()).ok_or_else(unfit)?;
                block.copy_from_slice(new);
                rest = after;
                left &= !(1 << index);
            }
        }
        if left != 0 || !rest.is_empty() {
            return Err(unfit());
        }
        let found = ChunkId::of(content);
        if found == self.id {
            Ok(())
        } else {
            Err(ChunkError::WrongContent { id: self.id, found })
        }
    }

    fn wire_bytes(&self) -> u64 {
        (self.id.0.len() + size_of_val(&self.changed) + self.frame.len()) as u64
    }
}

fn short_hash(block: &[u8]) -> u64 {
    let hash = blake3::hash(block);
    let (first, _) = hash
        .as_bytes()
        .split_first_chunk()
        .expect("a hash has 32 bytes");
    u64::from_be_bytes(*first)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::noise;

    fn damage(content: &[u8], blocks: &[usize]) -> Vec<u8> {
        let mut damaged = content.to_vec();
        for block in blocks {
            let at = block * BLOCK_SIZE;
            if at < damaged.len() {
                damaged[at] ^= 0x40;
            }
        }
        damaged
    }

    #[test]
    fn few_changes_make_a_patch_and_many_a_whole_chunk() {
        let full = noise(1, CHUNK_SIZE);
        let every = |step: usize| (0..MAX_BLOCKS).step_by(step).collect::<Vec<_>>();
        for (name, content, blocks, patch) in [
            ("first", &full[..], vec![0], true),
            ("last", &full[..], vec![63], true),
            ("last and short", &full[..10_000], vec![2], true),
            ("short of one block", &full[..100], vec![0], false),
            ("a quarter", &full[..], every(4), true),
            ("a third", &full[..], every(3), false),
            ("all", &full[..], every(1), false),
        ] {
            let stored = StoredChunk::pack(content, 3);
            let mut present = damage(content, &blocks);
            let held = Held::of(stored.id, &present);
            let changed = Changed::between(&held, stored.clone());
            assert_eq!(matches!(changed, Changed::Patch(_)), patch, "{name}");
            assert!(changed.wire_bytes() <= stored.frame.len() as u64, "{name}");
            if let Changed::Patch(patch) = changed {
                patch.apply(&mut present, &mut vec![]).unwrap();
                assert!(present == content, "{name}");
            }
        }
    }

    #[test]
    fn compressible_content_is_patched_only_when_that_is_less() {
        let content = vec![7; CHUNK_SIZE];
        let stored = StoredChunk::pack(&content, 3);
        let held = Held::of(stored.id, &damage(&content, &[5]));
        let changed = Changed::between(&held, stored.clone());
        assert!(matches!(changed, Changed::Whole(_)));
    }

    #[test]
    fn t14_what_cannot_be_told_apart_goes_out_whole() {
        let content = noise(2, CHUNK_SIZE);
        let stored = StoredChunk::pack(&content, 3);
        let mut damaged = stored.clone();
        damaged.frame = StoredChunk::pack(&content[1..], 3).frame;
        let held = |blocks| Held {
            id: stored.id,
            blocks,
        };
        let good = Held::of(stored.id, &content).blocks;
        for (name, held, stored) in [
            ("nothing differs", held(good.clone()), &stored),
            ("too few", held(good[1..].to_vec()), &stored),
            ("none", held(vec![]), &stored),
            ("too many", held(vec![0; 1000]), &stored),
            ("damaged in the store", held(good), &damaged),
        ] {
            let changed = Changed::between(&held, stored.clone());
            assert!(matches!(changed, Changed::Whole(_)), "{name}");
        }
    }

    #[test]
    fn t14_a_lying_patch_leaves_nothing() {
        let content = noise(3, CHUNK_SIZE);
        let stored = StoredChunk::pack(&content, 3);
        let present = damage(&content, &[1, 9]);
        let Changed::Patch(good) = Changed::between(&Held::of(stored.id, &present), stored) else {
            panic!("two blocks are few")
        };
        let frame_of = |bytes: &[u8]| Bytes::from(compress(bytes, 3));
        let with_bits = |changed| ChunkPatch {
            changed,
            ..good.clone()
        };
        let with_frame = |frame| ChunkPatch {
            frame,
            ..good.clone()
        };
        for (name, patch) in [
            ("other blocks", with_bits(0b110)),
            ("one block too many", with_bits(good.changed | 1 << 40)),
            ("one block too few", with_bits(0b10)),
            ("no blocks", with_bits(0)),
            (
                "other content",
                with_frame(frame_of(&vec![0; 2 * BLOCK_SIZE])),
            ),
            (
                "a longer frame",
                with_frame(frame_of(&vec![0; 3 * BLOCK_SIZE])),
            ),
            ("a bomb", with_frame(frame_of(&vec![0; 64 << 20]))),
            ("no frame", with_frame(Bytes::new())),
        ] {
            let mut content = present.clone();
            assert!(patch.apply(&mut content, &mut vec![]).is_err(), "{name}");
            assert!(content.is_empty(), "{name}");
        }
        // Bits beyond the last block of a short chunk.
        let mut short = present[..8192].to_vec();
        assert!(with_bits(1 << 63).apply(&mut short, &mut vec![]).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn held_and_patched_is_wanted(
            seed in any::<u64>(),
            len in 1..=CHUNK_SIZE,
            blocks in proptest::collection::vec(0..MAX_BLOCKS, 0..20),
        ) {
            let content = noise(seed, len);
            let stored = StoredChunk::pack(&content, 1);
            let mut present = damage(&content, &blocks);
            match Changed::between(&Held::of(stored.id, &present), stored) {
                Changed::Patch(patch) => patch.apply(&mut present, &mut vec![]).unwrap(),
                Changed::Whole(chunk) => chunk.open(&mut present).unwrap(),
            }
            prop_assert!(present == content);
        }
    }
}
