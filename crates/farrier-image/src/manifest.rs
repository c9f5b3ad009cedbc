//! Which chunks make a disk. `docs/formats/image.md` has the words, the invariants and the bytes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::chunk::ChunkId;

mod check;
mod signed;
#[cfg(test)]
mod tests;

pub use check::InvalidManifest;
pub use signed::{MAX_PLAIN, ManifestError, plain_limit};

/// The version of the format this code writes.
pub const FORMAT: u16 = 1;

/// An image's name: 1-64 of `a-z 0-9 . _ -`, starting with a letter or digit. It is part of object
/// names and URLs, so nothing else is allowed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageName(String);

/// The text is not an image name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an image name: use 1 to 64 of a-z 0-9 . _ - and start with a letter or digit")]
pub struct ImageNameError;

impl ImageName {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ImageName {
    type Error = ImageNameError;

    fn try_from(text: String) -> Result<Self, ImageNameError> {
        let allowed =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
        let good_start = text
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if good_start && text.len() <= 64 && text.bytes().all(allowed) {
            Ok(Self(text))
        } else {
            Err(ImageNameError)
        }
    }
}

impl FromStr for ImageName {
    type Err = ImageNameError;

    fn from_str(text: &str) -> Result<Self, ImageNameError> {
        text.to_owned().try_into()
    }
}

impl From<ImageName> for String {
    fn from(name: ImageName) -> Self {
        name.0
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One version of an image: a whole disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u16,
    pub image: ImageName,
    /// Numbered by the store at commit, from 1; 0 before.
    pub version: u32,
    /// Milliseconds since 1970 UTC, set by the store at commit.
    pub created_ms: i64,
    /// Where it came from, for people: machine and disk, or the imported file.
    pub source: String,
    pub disk: DiskShape,
    pub table: Table,
    /// Regions of the disk in ascending order, not overlapping. What no region covers is not kept.
    pub volumes: Vec<Volume>,
}

impl Manifest {
    /// Every stored chunk it names, in the order of the disk; one that is used twice comes twice.
    pub fn chunk_ids(&self) -> impl Iterator<Item = ChunkId> + '_ {
        self.volumes
            .iter()
            .flat_map(|v| v.chunks.iter().copied().flatten())
    }

    /// Bytes that matter on the disk: what its volumes use.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.volumes
            .iter()
            .map(Volume::used_bytes)
            .fold(0, u64::saturating_add)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskShape {
    pub size_bytes: u64,
    pub logical_sector: u32,
}

/// How the disk is divided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Table {
    /// No table: one raw volume covers the disk.
    None,
    Gpt {
        disk_guid: Uuid,
        /// The protective (or hybrid) MBR, verbatim.
        mbr: Vec<u8>,
        entries: Vec<GptEntry>,
        /// Slots in the entry array and bytes per slot, as found.
        entry_slots: u32,
        entry_size: u32,
        first_usable: u64,
    },
    /// The MBR and every extended boot record, verbatim, each with its first sector.
    Mbr { sectors: Vec<(u64, Vec<u8>)> },
}

/// One GPT entry, verbatim fields. Sectors are logical.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GptEntry {
    /// Position in the entry array, from 0.
    pub slot: u32,
    pub type_guid: Uuid,
    pub guid: Uuid,
    pub first: u64,
    pub last: u64,
    pub attributes: u64,
    /// UTF-16 code units, without trailing zeros.
    pub name: Vec<u16>,
}

/// A region of the disk: a partition, or the gap that holds boot code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    pub kind: VolumeKind,
    /// The partition's number as people and kernels count (from 1); none for gaps.
    pub partition: Option<u32>,
    pub start_bytes: u64,
    pub len_bytes: u64,
    pub label: String,
    pub fs_uuid: String,
    /// Which bytes matter, as runs in units of `block_bytes` from the volume's start, ascending and
    /// not touching. Bytes outside are "do not care": zero in chunks, left alone on disks.
    pub block_bytes: u32,
    pub used: Vec<Run>,
    /// One per [`CHUNK_SIZE`](crate::chunk::CHUNK_SIZE) of the volume, from its start; none stands for
    /// a chunk of zeros.
    pub chunks: Vec<Option<ChunkId>>,
}

impl Volume {
    /// Bytes that matter in it.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        let blocks = self
            .used
            .iter()
            .map(|r| r.count)
            .fold(0, u64::saturating_add);
        blocks
            .saturating_mul(u64::from(self.block_bytes))
            .min(self.len_bytes)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub first: u64,
    pub count: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum VolumeKind {
    /// Space outside partitions that boot code lives in.
    Gap,
    /// Every byte kept; file system unknown or not understood well enough.
    Raw,
    Ext,
    Fat,
    /// Linux swap: only the header is kept.
    Swap,
}

/// BLAKE3 of a manifest's canonical bytes: the image's proven identity.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RootHash(pub [u8; 32]);

impl fmt::Display for RootHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for RootHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A manifest as it is kept and sent: bytes and signature. Only
/// [`SignedManifest::open`] turns it into a [`Manifest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedManifest {
    /// The whole file, as in `docs/formats/image.md`.
    pub bytes: Vec<u8>,
}
