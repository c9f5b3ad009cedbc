//! A manifest's table on a target disk, which may have another size than the source.
//!
//! Order of a deployment, so that a power cut never leaves a disk that looks whole: [`TableSectors::remove`]
//! first, then the volumes, then [`TableSectors::write`], which ends with sector 0. Until that last
//! sector is on the disk, neither firmware nor kernel finds a partition.

use std::io;

use super::{DiskError, bad, gpt};
use crate::device::BlockDevice;
use crate::manifest::{Manifest, Table};

/// The sectors of a table for one disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSectors {
    /// Byte offset and content, in the order of writing; sector 0 is last.
    writes: Vec<(u64, Vec<u8>)>,
    /// Whether the last sector of the disk belongs to no volume.
    end_is_free: bool,
}

impl TableSectors {
    /// Places the image's table on a disk of `size` bytes; refuses when anything would not fit.
    pub fn place(manifest: &Manifest, size: u64, logical_sector: u32) -> Result<Self, DiskError> {
        let image = manifest.disk.logical_sector;
        if image != logical_sector && manifest.table != Table::None {
            return Err(DiskError::SectorSize {
                image,
                target: logical_sector,
            });
        }
        let needed = content_end(manifest)?;
        if needed > size {
            return Err(DiskError::TooSmall { needed, size });
        }
        let mut writes = render(&manifest.table, size, logical_sector)?;
        if let Some((first, second)) = overlap(manifest, &writes) {
            return Err(bad(format!(
                "the image's table at byte {first} overlaps its volume at {second}"
            )));
        }
        // Sector 0 last: a stable sort keeps the rest as rendered.
        writes.sort_by_key(|(offset, _)| *offset == 0);
        let end_is_free = needed <= size.saturating_sub(u64::from(logical_sector));
        Ok(Self {
            writes,
            end_is_free,
        })
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Bytes that [`write`](Self::write) writes.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.writes
            .iter()
            .map(|(_, bytes)| bytes.len() as u64)
            .sum()
    }

    /// Makes the disk look blank: sector 0, and both GPT headers of this or an older table.
    pub fn remove(&self, device: &dyn BlockDevice) -> io::Result<()> {
        let sector = u64::from(device.logical_sector());
        if !self.is_empty() {
            device.write_zeroes_at(0, sector)?;
        }
        let header = device.logical_sector() as usize;
        for offset in self.header_places(device) {
            let mut found = vec![0; header];
            device.read_at(offset, &mut found)?;
            if found.starts_with(b"EFI PART") {
                device.write_zeroes_at(offset, sector)?;
            }
        }
        device.sync()
    }

    fn header_places(&self, device: &dyn BlockDevice) -> Vec<u64> {
        let sector = u64::from(device.logical_sector());
        let mut places = vec![];
        if !self.is_empty() {
            places.push(sector);
        }
        if self.end_is_free && device.size() >= 2 * sector {
            places.push((device.size() / sector - 1) * sector);
        }
        places
    }

    /// Writes the table, everything durable before sector 0 goes out.
    pub fn write(&self, device: &dyn BlockDevice) -> io::Result<()> {
        for (offset, bytes) in &self.writes {
            if *offset == 0 {
                device.sync()?;
            }
            device.write_at(*offset, bytes)?;
        }
        device.sync()
    }

    /// Whether the disk has exactly this table.
    pub fn is_on(&self, device: &dyn BlockDevice) -> io::Result<bool> {
        for (offset, bytes) in &self.writes {
            let mut found = vec![0; bytes.len()];
            device.read_at(*offset, &mut found)?;
            if &found != bytes {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn render(table: &Table, size: u64, logical_sector: u32) -> Result<Vec<(u64, Vec<u8>)>, DiskError> {
    match table {
        Table::None => Ok(vec![]),
        Table::Gpt {
            disk_guid,
            mbr,
            entries,
            entry_slots,
            entry_size,
            first_usable,
        } => {
            let source = gpt::Source {
                disk_guid: *disk_guid,
                mbr,
                entries,
                entry_slots: *entry_slots,
                entry_size: *entry_size,
                first_usable: *first_usable,
            };
            gpt::render(&source, size, logical_sector)
        }
        Table::Mbr { sectors } => sectors
            .iter()
            .map(|(first, bytes)| {
                let offset = first.checked_mul(u64::from(logical_sector));
                let fits = offset.and_then(|at| at.checked_add(bytes.len() as u64));
                match (offset, fits) {
                    (Some(offset), Some(end)) if end <= size => Ok((offset, bytes.clone())),
                    _ => Err(DiskError::TooSmall {
                        needed: fits.unwrap_or(u64::MAX),
                        size,
                    }),
                }
            })
            .collect(),
    }
}

/// Where the last volume ends.
fn content_end(manifest: &Manifest) -> Result<u64, DiskError> {
    let mut end: u64 = 0;
    for volume in &manifest.volumes {
        let volume_end = volume.start_bytes.checked_add(volume.len_bytes);
        if volume.start_bytes < end {
            return Err(bad("the image's volumes overlap"));
        }
        end = volume_end.ok_or_else(|| bad("a volume of the image has an impossible size"))?;
    }
    Ok(end)
}

/// A table sector inside a volume would destroy it, or be destroyed by it.
fn overlap(manifest: &Manifest, writes: &[(u64, Vec<u8>)]) -> Option<(u64, u64)> {
    for (offset, bytes) in writes {
        let end = offset + bytes.len() as u64;
        let hit = |v: &&crate::manifest::Volume| {
            *offset < v.start_bytes + v.len_bytes && v.start_bytes < end
        };
        if let Some(volume) = manifest.volumes.iter().find(hit) {
            return Some((*offset, volume.start_bytes));
        }
    }
    None
}
