//! Looking for damage: every chunk is read, unpacked and hashed.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{Store, StoreError, Which, blocking};
use crate::chunk::{ChunkId, StoredChunk};
use crate::manifest::{ImageName, Manifest};
use crate::pack::{Location, PackId};

/// Read at once from a pack, to keep disks and buckets busy and memory small.
const READ: u64 = 8 << 20;

/// What to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every chunk, needed or not.
    All,
    Image(ImageName),
    Version(ImageName, u32),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VerifyProgress {
    pub done_bytes: u64,
    pub total_bytes: u64,
}

/// What was found. No damage means that every chunk in scope is what its name says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    pub chunks: u64,
    pub bytes: u64,
    pub damaged: Vec<Damage>,
    /// Manifests that could not be read when the store was opened.
    pub unreadable: Vec<String>,
}

/// A chunk that is missing or damaged, and the versions that need it ("name version 3").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub chunk: ChunkId,
    pub images: Vec<String>,
}

impl Store {
    /// Reads everything in scope. Damaged chunks count as missing from then on, so that the next
    /// capture which has them sends them again.
    pub async fn verify(
        &self,
        scope: &Scope,
        progress: &(dyn Fn(VerifyProgress) + Sync),
    ) -> Result<VerifyReport, StoreError> {
        let (chunks, mut bad) = self.in_scope(scope).await?;
        let total_bytes = chunks.iter().map(|(_, l)| u64::from(l.len)).sum();
        let mut report = VerifyReport {
            unreadable: self.unreadable(),
            ..VerifyReport::default()
        };
        for group in groups(&chunks) {
            bad.extend(self.check_group(group).await?);
            report.chunks += group.len() as u64;
            report.bytes += group.iter().map(|(_, l)| u64::from(l.len)).sum::<u64>();
            progress(VerifyProgress {
                done_bytes: report.bytes,
                total_bytes,
            });
        }
        report.damaged = self.damage(bad).await;
        Ok(report)
    }

    /// Looks again at chunks that a reader found damaged.
    pub async fn recheck(&self, ids: &[ChunkId]) -> Result<Vec<Damage>, StoreError> {
        let mut bad = Vec::new();
        for id in ids {
            match self.chunk(*id).await {
                Ok(_) => {}
                Err(StoreError::Corrupt { .. } | StoreError::NoChunk(_)) => bad.push(*id),
                Err(e) => return Err(e),
            }
        }
        Ok(self.damage(bad).await)
    }

    /// Chunks of `manifest` that the store has lost or knows to be damaged, without reading any.
    pub async fn known_damage(&self, manifest: &Manifest) -> Vec<Damage> {
        let bad: Vec<ChunkId> = {
            let catalog = self.catalog();
            manifest
                .chunk_ids()
                .filter(|id| catalog.is_lacking(id))
                .collect()
        };
        self.damage(bad).await
    }

    async fn damage(&self, bad: Vec<ChunkId>) -> Vec<Damage> {
        if bad.is_empty() {
            return Vec::new();
        }
        let mut images = self.images_with(&bad).await;
        let unique: BTreeSet<ChunkId> = bad.into_iter().collect();
        unique
            .into_iter()
            .map(|chunk| Damage {
                chunk,
                images: images.remove(&chunk).unwrap_or_default(),
            })
            .collect()
    }

    /// Which versions need which of `ids`. Manifests that cannot be read are left out.
    pub(super) async fn images_with(&self, ids: &[ChunkId]) -> HashMap<ChunkId, Vec<String>> {
        let wanted: HashSet<ChunkId> = ids.iter().copied().collect();
        let mut found: HashMap<ChunkId, Vec<String>> = HashMap::new();
        for (image, version) in self.all_versions() {
            let Ok(opened) = self.manifest(&image, Which::Version(version)).await else {
                continue;
            };
            let here: HashSet<ChunkId> = opened
                .manifest
                .chunk_ids()
                .filter(|id| wanted.contains(id))
                .collect();
            for id in here {
                found
                    .entry(id)
                    .or_default()
                    .push(format!("{image} version {version}"));
            }
        }
        found
    }

    fn all_versions(&self) -> Vec<(ImageName, u32)> {
        let catalog = self.catalog();
        let all = catalog
            .images
            .iter()
            .flat_map(|(name, v)| v.live.keys().map(move |n| (name.clone(), *n)));
        all.collect()
    }

    /// Chunks to read in the order of their places, and those that have none.
    async fn in_scope(
        &self,
        scope: &Scope,
    ) -> Result<(Vec<(ChunkId, Location)>, Vec<ChunkId>), StoreError> {
        let versions: Vec<(ImageName, u32)> = match scope {
            Scope::All => self.all_versions(),
            Scope::Image(image) => {
                self.version(image, Which::Latest)?;
                self.all_versions()
                    .into_iter()
                    .filter(|(name, _)| name == image)
                    .collect()
            }
            Scope::Version(image, version) => vec![(image.clone(), *version)],
        };
        let mut wanted = HashSet::new();
        for (image, version) in versions {
            wanted.extend(
                self.manifest(&image, Which::Version(version))
                    .await?
                    .manifest
                    .chunk_ids(),
            );
        }
        let catalog = self.catalog();
        let missing = wanted
            .iter()
            .filter(|id| catalog.locate(id).is_none())
            .copied()
            .collect();
        let mut chunks = catalog.chunks_by_place();
        if *scope != Scope::All {
            chunks.retain(|(id, _)| wanted.contains(id));
        }
        Ok((chunks, missing))
    }

    /// Reads neighbours with one request and returns the bad ones.
    async fn check_group(&self, group: &[(ChunkId, Location)]) -> Result<Vec<ChunkId>, StoreError> {
        let (pack, range) = span(group);
        let bytes = match self.read_pack_range(pack, range.clone()).await {
            Ok(bytes) => bytes,
            // Prune moved them; they were verified then.
            Err(StoreError::NoObject { .. }) => return Ok(self.still_there(group, pack)),
            // A pack that was cut off cannot be read up to where its index says.
            Err(StoreError::Object { .. }) => bytes::Bytes::new(),
            Err(e) => return Err(e),
        };
        let group = group.to_vec();
        let base = range.start;
        let bad: Vec<ChunkId> = blocking(move || {
            let mut plain = Vec::new();
            let mut is_bad = |(id, place): &(ChunkId, Location)| {
                let from = usize::try_from(place.offset - base).unwrap_or(usize::MAX);
                let to = from.saturating_add(place.len as usize);
                if to > bytes.len() {
                    return true;
                }
                StoredChunk {
                    id: *id,
                    frame: bytes.slice(from..to),
                }
                .open(&mut plain)
                .is_err()
            };
            Ok(group
                .iter()
                .filter(|c| is_bad(c))
                .map(|(id, _)| *id)
                .collect())
        })
        .await?;
        bad.iter()
            .for_each(|id| self.catalog().set_damaged(id, true));
        Ok(bad)
    }

    /// Chunks that the index still places in a pack that is gone are lost.
    fn still_there(&self, group: &[(ChunkId, Location)], pack: PackId) -> Vec<ChunkId> {
        let mut catalog = self.catalog();
        let lost: Vec<ChunkId> = group
            .iter()
            .filter(|(id, _)| catalog.locate(id).is_some_and(|place| place.pack == pack))
            .map(|(id, _)| *id)
            .collect();
        lost.iter().for_each(|id| catalog.set_damaged(id, true));
        lost
    }
}

/// Cuts chunks that are sorted by place into runs of one pack and at most [`READ`] bytes.
fn groups(chunks: &[(ChunkId, Location)]) -> Vec<&[(ChunkId, Location)]> {
    let mut found = Vec::new();
    let mut rest = chunks;
    while let Some((_, first)) = rest.first() {
        let joins =
            |(_, l): &&(ChunkId, Location)| l.pack == first.pack && l.offset < first.offset + READ;
        let (group, others) = rest.split_at(rest.iter().take_while(joins).count());
        found.push(group);
        rest = others;
    }
    found
}

fn span(group: &[(ChunkId, Location)]) -> (PackId, std::ops::Range<u64>) {
    let (first, last) = (group[0].1, group[group.len() - 1].1);
    (first.pack, first.offset..last.offset + u64::from(last.len))
}
