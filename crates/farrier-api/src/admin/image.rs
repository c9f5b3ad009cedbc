//! Images: what the store holds.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Millis;

/// An image with all its versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImageSummary {
    pub name: String,
    /// The newest first.
    pub versions: Vec<ImageVersion>,
}

/// One version of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImageVersion {
    pub version: u32,
    pub created: Millis,
    /// Where it came from: machine and disk, or the imported file.
    pub source: String,
    /// The root hash, hex: what a disk that holds this image is proven against.
    pub root: String,
    /// Size of the disk it was taken from.
    pub disk_bytes: u64,
    /// How much of that disk is content.
    pub content_bytes: u64,
    /// What its chunks take in the store, each counted once.
    pub stored_bytes: u64,
    /// What of that no other version needs.
    pub own_bytes: u64,
    pub chunks: u64,
    /// Distinct chunks, since equal ones are kept once.
    pub distinct_chunks: u64,
}

/// A version in full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImageDetail {
    pub name: String,
    #[serde(flatten)]
    pub version: ImageVersion,
    /// `gpt`, `mbr` or `none`.
    pub table: String,
    pub volumes: Vec<ImageVolume>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImageVolume {
    /// `ext`, `fat`, `raw`, `swap` or `gap`.
    pub kind: String,
    pub partition: Option<u32>,
    pub start_bytes: u64,
    pub len_bytes: u64,
    pub used_bytes: u64,
    pub label: String,
}

/// What the store as a whole takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StoreStatus {
    pub images: u64,
    pub versions: u64,
    /// Content of all versions, as if each were kept apart.
    pub content_bytes: u64,
    /// What is on the disk.
    pub stored_bytes: u64,
    pub free_bytes: Option<u64>,
}

/// The list of images and what they take together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Images {
    pub images: Vec<ImageSummary>,
    pub store: StoreStatus,
}

/// The outcome of reading every chunk of an image back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Verified {
    pub checked_chunks: u64,
    /// Chunks that are missing or damaged, hex.
    pub bad_chunks: Vec<String>,
}
