//! What a manifest must obey before anybody plans with it. A signature says who wrote it, not that it
//! makes sense; and one to be committed comes from an agent that may be hostile.

use super::{FORMAT, GptEntry, Manifest, Run, Table, Volume};
use crate::chunk::CHUNK_SIZE;

/// A GPT has 128 slots almost everywhere; this is far more than any tool makes.
const MAX_SLOTS: u32 = 4096;
/// Partitions and the gaps between them.
const MAX_VOLUMES: usize = 2 * MAX_SLOTS as usize + 1;
/// A chain of extended boot records longer than this is a loop.
const MAX_MBR_SECTORS: usize = 1024;
const MAX_TEXT: usize = 1024;

/// Which rule of `docs/formats/image.md` a manifest breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidManifest {
    #[error("it has format {0}, and this program knows format {FORMAT}; upgrade Farrier to use it")]
    Format(u16),
    #[error("its disk shape is impossible")]
    Disk,
    #[error("its text fields are too long")]
    Text,
    #[error("its partition table is impossible: {0}")]
    Table(&'static str),
    #[error("it has too many volumes")]
    TooManyVolumes,
    #[error("volume {volume} is impossible: {cause}")]
    Volume { volume: usize, cause: &'static str },
}

impl Manifest {
    /// Checks every rule that does not need the store.
    pub fn validate(&self) -> Result<(), InvalidManifest> {
        if self.format != FORMAT {
            return Err(InvalidManifest::Format(self.format));
        }
        let sector = u64::from(self.disk.logical_sector);
        if !matches!(sector, 512 | 4096)
            || self.disk.size_bytes == 0
            || !self.disk.size_bytes.is_multiple_of(sector)
        {
            return Err(InvalidManifest::Disk);
        }
        if self.source.len() > MAX_TEXT {
            return Err(InvalidManifest::Text);
        }
        check_table(
            &self.table,
            self.disk.size_bytes / sector,
            self.disk.logical_sector,
        )
        .map_err(InvalidManifest::Table)?;
        if self.volumes.len() > MAX_VOLUMES {
            return Err(InvalidManifest::TooManyVolumes);
        }
        let mut free_from = 0;
        for (volume, v) in self.volumes.iter().enumerate() {
            free_from = check_volume(v, free_from, self.disk.size_bytes)
                .map_err(|cause| InvalidManifest::Volume { volume, cause })?;
        }
        Ok(())
    }
}

/// Returns where the volume ends.
fn check_volume(v: &Volume, free_from: u64, disk: u64) -> Result<u64, &'static str> {
    if v.label.len() > MAX_TEXT || v.fs_uuid.len() > MAX_TEXT {
        return Err("its label is too long");
    }
    if v.len_bytes == 0 {
        return Err("it is empty");
    }
    if v.start_bytes < free_from {
        return Err("it overlaps the volume before it");
    }
    let end = v
        .start_bytes
        .checked_add(v.len_bytes)
        .filter(|&end| end <= disk);
    let end = end.ok_or("it ends outside the disk")?;
    if !v.block_bytes.is_power_of_two() || !(512..=1 << 20).contains(&v.block_bytes) {
        return Err("its block size is not a power of two from 512 to 1 MiB");
    }
    if v.chunks.len() as u64 != v.len_bytes.div_ceil(CHUNK_SIZE as u64) {
        return Err("its number of chunks does not fit its length");
    }
    check_runs(&v.used, v.len_bytes.div_ceil(u64::from(v.block_bytes)))?;
    Ok(end)
}

fn check_runs(runs: &[Run], blocks: u64) -> Result<(), &'static str> {
    let mut last_end = None;
    for run in runs {
        if run.count == 0 {
            return Err("a used run is empty");
        }
        if last_end.is_some_and(|end| run.first <= end) {
            return Err("its used runs touch or do not ascend");
        }
        let end = run
            .first
            .checked_add(run.count)
            .filter(|&end| end <= blocks);
        last_end = Some(end.ok_or("a used run ends outside the volume")?);
    }
    Ok(())
}

fn check_table(table: &Table, sectors: u64, sector: u32) -> Result<(), &'static str> {
    match table {
        Table::None => Ok(()),
        Table::Gpt {
            mbr,
            entries,
            entry_slots,
            entry_size,
            first_usable,
            ..
        } => {
            if mbr.len() != sector as usize && mbr.len() != 512 {
                return Err("the protective MBR does not have the size of a sector");
            }
            if *entry_slots > MAX_SLOTS || entries.len() > *entry_slots as usize {
                return Err("too many partitions");
            }
            if !entry_size.is_power_of_two() || !(128..=4096).contains(entry_size) {
                return Err("its entry size is not a power of two from 128 to 4096");
            }
            if *first_usable >= sectors {
                return Err("its first usable sector is outside the disk");
            }
            check_gpt_entries(entries, sectors, *entry_slots, *entry_size)
        }
        Table::Mbr { sectors: kept } => check_mbr(kept, sectors, sector),
    }
}

fn check_gpt_entries(
    entries: &[GptEntry],
    sectors: u64,
    slots: u32,
    size: u32,
) -> Result<(), &'static str> {
    let mut taken = vec![false; slots as usize];
    for entry in entries {
        let slot = taken
            .get_mut(entry.slot as usize)
            .ok_or("a partition's slot is outside the table")?;
        if std::mem::replace(slot, true) {
            return Err("two partitions have one slot");
        }
        if entry.first > entry.last || entry.last >= sectors {
            return Err("a partition is outside the disk");
        }
        // UEFI 5.3.3: the name begins at byte 56 of an entry.
        if entry.name.len() > (size as usize - 56) / 2 {
            return Err("a partition's name is too long");
        }
    }
    Ok(())
}

fn check_mbr(kept: &[(u64, Vec<u8>)], sectors: u64, sector: u32) -> Result<(), &'static str> {
    if kept.is_empty() || kept.len() > MAX_MBR_SECTORS {
        return Err("it has no boot record or too many");
    }
    if kept[0].0 != 0 {
        return Err("its first boot record is not at the start of the disk");
    }
    for (at, bytes) in kept {
        if *at >= sectors || (bytes.len() != sector as usize && bytes.len() != 512) {
            return Err("a boot record is outside the disk or not a sector long");
        }
    }
    let mut places: Vec<u64> = kept.iter().map(|(at, _)| *at).collect();
    places.sort_unstable();
    if places.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err("two boot records have one place");
    }
    Ok(())
}
