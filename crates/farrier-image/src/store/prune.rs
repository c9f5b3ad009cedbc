//! Freeing the space of chunks that nobody needs. First a plan that people can look at, then its
//! execution, which looks at everything again: what became needed in between stays.

use super::catalog::Standing;
use super::medium::pack_path;
use super::writer::lock;
use super::{Store, StoreError, blocking};
use crate::chunk::StoredChunk;
use crate::pack::{PackEntry, PackId};

/// Read at once while a pack is rewritten.
const READ: u64 = 8 << 20;

/// What prune would do; nothing has happened yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrunePlan {
    /// Packs without a needed chunk, with the bytes of their frames.
    pub drop: Vec<(PackId, u64)>,
    pub rewrite: Vec<RewritePlan>,
    /// Bytes of dead chunks in packs that are not worth a rewrite.
    pub left_bytes: u64,
    /// Bytes that no version needs and that stay for the grace time or a running capture.
    pub waiting_bytes: u64,
}

/// A pack whose needed chunks move to a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RewritePlan {
    pub pack: PackId,
    pub kept_bytes: u64,
    pub freed_bytes: u64,
}

/// What prune did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PruneReport {
    pub dropped: Vec<PackId>,
    pub rewritten: Vec<PackId>,
    pub freed_bytes: u64,
    /// Packs left alone because something in them became needed after the plan.
    pub skipped: Vec<PackId>,
    /// Packs left alone because a needed chunk in them is damaged; `verify` says which.
    pub damaged: Vec<PackId>,
}

/// A pack's entries by their standing.
struct Sorted {
    needed: Vec<PackEntry>,
    dead: Vec<PackEntry>,
    waiting_bytes: u64,
}

impl PrunePlan {
    #[must_use]
    pub fn freed_bytes(&self) -> u64 {
        let dropped: u64 = self.drop.iter().map(|(_, bytes)| bytes).sum();
        dropped + self.rewrite.iter().map(|r| r.freed_bytes).sum::<u64>()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.drop.is_empty() && self.rewrite.is_empty()
    }
}

impl Store {
    /// Refuses while a manifest cannot be read, as nobody knows what it needs.
    pub async fn plan_prune(&self) -> Result<PrunePlan, StoreError> {
        self.all_readable()?;
        let packs: Vec<_> = self
            .catalog()
            .packs
            .iter()
            .filter(|p| p.sealed && !p.gone)
            .copied()
            .collect();
        let mut plan = PrunePlan::default();
        for pack in packs {
            let sorted = self.sort_pack(pack.id).await?;
            let (kept, dead) = (bytes(&sorted.needed), bytes(&sorted.dead));
            plan.waiting_bytes += sorted.waiting_bytes;
            if sorted.needed.is_empty() {
                plan.drop.push((pack.id, dead));
            } else if kept * 100
                < (kept + dead) * u64::from(self.inner.options.rewrite_below_percent)
            {
                plan.rewrite.push(RewritePlan {
                    pack: pack.id,
                    kept_bytes: kept,
                    freed_bytes: dead,
                });
            } else {
                plan.left_bytes += dead;
            }
        }
        Ok(plan)
    }

    /// Does what the plan says, as far as it still holds. May be stopped at any moment by dropping it.
    pub async fn prune(&self, plan: &PrunePlan) -> Result<PruneReport, StoreError> {
        self.must_write()?;
        let mut report = PruneReport::default();
        for (pack, bytes) in &plan.drop {
            self.all_readable()?;
            let sorted = self.sort_pack(*pack).await?;
            if !self.forget_if_dead(*pack, &sorted, None) {
                report.skipped.push(*pack);
                continue;
            }
            self.remove_pack(*pack).await?;
            report.dropped.push(*pack);
            report.freed_bytes += bytes;
        }
        for rewrite in &plan.rewrite {
            self.all_readable()?;
            self.rewrite(rewrite, &mut report).await?;
        }
        Ok(report)
    }

    async fn rewrite(
        &self,
        plan: &RewritePlan,
        report: &mut PruneReport,
    ) -> Result<(), StoreError> {
        let sorted = self.sort_pack(plan.pack).await?;
        let Some(chunks) = self.read_proven(plan.pack, &sorted.needed).await? else {
            report.damaged.push(plan.pack);
            return Ok(());
        };
        let inner = std::sync::Arc::clone(&self.inner);
        let moved = blocking(move || match &chunks[..] {
            [] => Ok(None),
            chunks => lock(&inner.writer).write_pack(chunks).map(Some),
        })
        .await?;
        let moved = moved.as_ref().map(|(pack, entries)| (*pack, &entries[..]));
        if !self.forget_if_dead(plan.pack, &sorted, moved) {
            report.skipped.push(plan.pack);
            return Ok(());
        }
        self.remove_pack(plan.pack).await?;
        report.rewritten.push(plan.pack);
        report.freed_bytes += bytes(&sorted.dead);
        Ok(())
    }

    /// The one moment at which chunks leave the index, under the lock under which commit counts its
    /// needs and captures are told "present". Needed chunks turn to their copies in `moved`. Changes
    /// nothing but that, and returns false, if a chunk is needed that was not.
    fn forget_if_dead(
        &self,
        pack: PackId,
        sorted: &Sorted,
        moved: Option<(PackId, &[PackEntry])>,
    ) -> bool {
        let mut catalog = self.catalog();
        if let Some((to, entries)) = moved {
            catalog.move_chunks(pack, to, entries);
        }
        let grace = self.inner.options.grace;
        let mut all = sorted.dead.iter().chain(&sorted.needed);
        if all.any(|entry| catalog.standing(pack, entry, grace) != Standing::Dead) {
            return false;
        }
        catalog.forget(pack, &sorted.dead);
        true
    }

    async fn remove_pack(&self, pack: PackId) -> Result<(), StoreError> {
        self.inner.medium.delete(&pack_path(pack)).await?;
        self.catalog().set_gone(pack);
        Ok(())
    }

    async fn sort_pack(&self, pack: PackId) -> Result<Sorted, StoreError> {
        let path = pack_path(pack);
        let entries = self.pack_entries(&path).await?;
        let grace = self.inner.options.grace;
        let mut sorted = Sorted {
            needed: Vec::new(),
            dead: Vec::new(),
            waiting_bytes: 0,
        };
        let catalog = self.catalog();
        for entry in entries {
            match catalog.standing(pack, &entry, grace) {
                Standing::Dead => sorted.dead.push(entry),
                Standing::Needed { referenced } => {
                    sorted.needed.push(entry);
                    sorted.waiting_bytes += if referenced { 0 } else { u64::from(entry.len) };
                }
            }
        }
        Ok(sorted)
    }

    /// None if one of them is damaged: then the old pack is the only hope of a repair tool.
    async fn read_proven(
        &self,
        pack: PackId,
        entries: &[PackEntry],
    ) -> Result<Option<Vec<StoredChunk>>, StoreError> {
        let mut chunks = Vec::with_capacity(entries.len());
        let mut rest = entries;
        while let Some(first) = rest.first() {
            let near = |e: &&PackEntry| u64::from(e.offset - first.offset) < READ;
            let (group, others) = rest.split_at(rest.iter().take_while(near).count());
            rest = others;
            let base = u64::from(first.offset);
            let end = group
                .last()
                .map_or(base, |e| u64::from(e.offset) + u64::from(e.len));
            let bytes = self.read_pack_range(pack, base..end).await?;
            for entry in group {
                let from = (entry.offset - first.offset) as usize;
                let to = from + entry.len as usize;
                if to > bytes.len() {
                    return Ok(None);
                }
                chunks.push(StoredChunk {
                    id: entry.id,
                    frame: bytes.slice(from..to),
                });
            }
        }
        blocking(move || {
            let mut plain = Vec::new();
            Ok(chunks
                .iter()
                .all(|chunk| chunk.open(&mut plain).is_ok())
                .then_some(chunks))
        })
        .await
    }

    fn all_readable(&self) -> Result<(), StoreError> {
        let objects = self.unreadable();
        if objects.is_empty() {
            Ok(())
        } else {
            Err(StoreError::Unreadable { objects })
        }
    }
}

fn bytes(entries: &[PackEntry]) -> u64 {
    entries.iter().map(|e| u64::from(e.len)).sum()
}
