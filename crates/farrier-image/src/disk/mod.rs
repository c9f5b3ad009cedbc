//! Partition tables: what is read from a disk, and what is written to another one.
//!
//! [`read`] turns a disk into a [`Layout`]: the table for the manifest and the regions worth keeping.
//! [`layout`] turns a manifest's table back into sectors for a disk of equal or another size.
//! Every value on the disk is hostile until checked.

mod gpt;
pub mod layout;
mod mbr;

use std::io;

use crate::device::BlockDevice;
use crate::manifest::Table;

/// A gap before the first partition is kept up to this size. Boot code lives in its first MiB; a disk
/// whose first partition starts far away does not have gigabytes of it.
const MAX_GAP: u64 = 16 << 20;

/// A disk's table and the regions it leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    pub table: Table,
    /// Ascending, not overlapping.
    pub regions: Vec<Region>,
    /// Oddities that a person should see before capturing.
    pub warnings: Vec<String>,
}

/// A part of the disk worth keeping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    pub role: Role,
    pub start_bytes: u64,
    pub len_bytes: u64,
}

/// What a region is to the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Boot code between table and first partition.
    Gap,
    /// A partition with its number, from 1.
    Partition(u32),
    /// The disk has no table.
    WholeDisk,
}

/// Why a table cannot be read or placed.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    #[error(
        "cannot read the partition table at byte {offset}; check the disk's health (smartctl -a)"
    )]
    Read { offset: u64, source: io::Error },
    #[error(
        "the partition table is not usable: {what}; repair it with gdisk or fdisk, then try again"
    )]
    Table { what: String },
    #[error(
        "the disk was partitioned with {found}-byte sectors but is used with {used}-byte sectors; \
         say which sector size the file or disk has"
    )]
    OtherSectorSize { used: u32, found: u32 },
    #[error(
        "the image is of a disk with {image}-byte sectors and the target has {target}-byte sectors; \
         choose a target with the same sector size"
    )]
    SectorSize { image: u32, target: u32 },
    #[error(
        "the target is too small: {needed} bytes are needed and it has {size}; choose a larger disk"
    )]
    TooSmall { needed: u64, size: u64 },
}

impl DiskError {
    /// Whether the same call may work later.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        matches!(self, Self::Read { .. })
    }
}

/// Reads the table of `device`: GPT, else MBR, else none.
pub fn read(device: &dyn BlockDevice) -> Result<Layout, DiskError> {
    let sector = device.logical_sector();
    if !matches!(sector, 512 | 4096) {
        return Err(bad(format!("sectors of {sector} bytes are not supported")));
    }
    if device.size() < u64::from(sector) * 4 {
        return Ok(whole_disk(device));
    }
    let first = read_bytes(device, 0, sector as usize)?;
    let kept = mbr::Primary::parse(&first);
    if let Some(layout) = gpt::read(device, &first, kept.as_ref())? {
        return Ok(layout);
    }
    // A FAT volume over the whole disk also ends its first sector with 55 AA.
    match kept {
        Some(primary) if !crate::fs::is_fat_boot_sector(&first) => {
            mbr::read(device, &first, &primary)
        }
        _ => Ok(whole_disk(device)),
    }
}

fn whole_disk(device: &dyn BlockDevice) -> Layout {
    let region = Region {
        role: Role::WholeDisk,
        start_bytes: 0,
        len_bytes: device.size(),
    };
    let regions = if device.size() == 0 {
        vec![]
    } else {
        vec![region]
    };
    Layout {
        table: Table::None,
        regions,
        warnings: vec![],
    }
}

/// Sorts partitions and puts the gap from `gap_start` in front, which ends at the first of them or at
/// `gap_limit`.
fn regions(
    mut partitions: Vec<Region>,
    gap_start: u64,
    gap_limit: u64,
) -> Result<Vec<Region>, DiskError> {
    partitions.sort_by_key(|region| region.start_bytes);
    for pair in partitions.windows(2) {
        if pair[0].start_bytes + pair[0].len_bytes > pair[1].start_bytes {
            return Err(bad(format!(
                "{} and {} overlap",
                pair[0].role, pair[1].role
            )));
        }
    }
    let Some(first) = partitions.first().map(|region| region.start_bytes) else {
        return Ok(partitions);
    };
    let gap_end = first.min(gap_limit);
    if gap_end > gap_start {
        let len_bytes = (gap_end - gap_start).min(MAX_GAP);
        partitions.insert(
            0,
            Region {
                role: Role::Gap,
                start_bytes: gap_start,
                len_bytes,
            },
        );
    }
    Ok(partitions)
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Gap => f.write_str("the boot gap"),
            Self::Partition(number) => write!(f, "partition {number}"),
            Self::WholeDisk => f.write_str("the whole disk"),
        }
    }
}

fn bad(what: impl Into<String>) -> DiskError {
    DiskError::Table { what: what.into() }
}

fn read_bytes(device: &dyn BlockDevice, offset: u64, len: usize) -> Result<Vec<u8>, DiskError> {
    let mut bytes = vec![0; len];
    device
        .read_at(offset, &mut bytes)
        .map_err(|source| DiskError::Read { offset, source })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
