//! Numbers about the store, for people and metrics.

use std::collections::HashSet;

use super::{Store, StoreError, Which};
use crate::manifest::ImageName;

/// The whole store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    pub images: u64,
    pub versions: u64,
    pub packs: u64,
    pub chunks: u64,
    /// Frames that the index points to.
    pub stored_bytes: u64,
    /// Of these, what some version needs.
    pub needed_bytes: u64,
    /// All frames in packs, with copies that nothing points to any more.
    pub pack_bytes: u64,
    /// Bytes that matter on the disks of all versions.
    pub used_bytes: u64,
    /// Manifests that cannot be read.
    pub unreadable: u64,
}

/// One version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VersionStats {
    pub disk_bytes: u64,
    pub used_bytes: u64,
    pub chunks: u64,
    pub unique_chunks: u64,
    /// What its chunks take in the store, each counted once.
    pub stored_bytes: u64,
    /// What of that no other version needs.
    pub own_bytes: u64,
}

impl StoreStats {
    /// How many times smaller the store is than what its versions hold.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        ratio(self.used_bytes, self.needed_bytes)
    }
}

impl VersionStats {
    /// How many times smaller the version's chunks are than what it holds.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        ratio(self.used_bytes, self.stored_bytes)
    }
}

impl Store {
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        let catalog = self.catalog();
        let (chunks, stored_bytes, needed_bytes) = catalog.totals();
        let packs = || catalog.packs.iter().filter(|p| !p.gone);
        let versions = || catalog.images.values().flat_map(|v| v.live.values());
        StoreStats {
            images: catalog
                .images
                .values()
                .filter(|v| !v.live.is_empty())
                .count() as u64,
            versions: versions().count() as u64,
            packs: packs().count() as u64,
            chunks,
            stored_bytes,
            needed_bytes,
            pack_bytes: packs().map(|p| p.frame_bytes).sum(),
            used_bytes: versions().map(|v| v.used_bytes).sum(),
            unreadable: catalog.unreadable.len() as u64,
        }
    }

    pub async fn version_stats(
        &self,
        image: &ImageName,
        which: Which,
    ) -> Result<VersionStats, StoreError> {
        let manifest = self.manifest(image, which).await?.manifest;
        let unique: HashSet<_> = manifest.chunk_ids().collect();
        let catalog = self.catalog();
        Ok(VersionStats {
            disk_bytes: manifest.disk.size_bytes,
            used_bytes: manifest.used_bytes(),
            chunks: manifest.chunk_ids().count() as u64,
            unique_chunks: unique.len() as u64,
            stored_bytes: unique
                .iter()
                .filter_map(|id| catalog.locate(id))
                .map(|l| u64::from(l.len))
                .sum(),
            own_bytes: catalog.own_bytes(&manifest),
        })
    }
}

fn ratio(plain: u64, stored: u64) -> f64 {
    if stored == 0 {
        1.0
    } else {
        plain as f64 / stored as f64
    }
}
