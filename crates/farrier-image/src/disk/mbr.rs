//! The MBR and the chain of extended boot records behind it.

use std::collections::BTreeSet;

use super::{DiskError, Layout, Region, Role, bad, read_bytes, regions};
use crate::device::BlockDevice;
use crate::field::{le16, le32};
use crate::manifest::Table;

/// Logical partitions that are followed; Linux numbers no more than this either.
const MAX_LOGICAL: usize = 124;

const EMPTY: u8 = 0x00;
const PROTECTIVE: u8 = 0xee;

/// One slot of the table. Sectors are logical.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    kind: u8,
    first: u32,
    count: u32,
}

impl Slot {
    fn is_extended(self) -> bool {
        matches!(self.kind, 0x05 | 0x0f | 0x85)
    }
}

/// The four slots of a first sector that looks like an MBR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Primary {
    slots: [Slot; 4],
}

impl Primary {
    /// None when the sector is not an MBR with at least one partition. Boot sectors of file systems
    /// carry the same signature; their code does not look like four slots.
    pub(super) fn parse(sector: &[u8]) -> Option<Self> {
        let slots = slots(sector)?;
        let active_flags = (0..4).all(|i| matches!(sector[446 + i * 16], 0x00 | 0x80));
        let any = slots.iter().any(|slot| slot.kind != EMPTY);
        (active_flags && any).then_some(Self { slots })
    }

    pub(super) fn has_protective(&self) -> bool {
        self.slots.iter().any(|slot| slot.kind == PROTECTIVE)
    }

    /// Whether the protective slot is the only one, as UEFI 5.2.3 wants it.
    pub(super) fn is_only_protective(&self) -> bool {
        self.slots
            .iter()
            .filter(|slot| slot.kind != EMPTY)
            .all(|slot| slot.kind == PROTECTIVE)
    }
}

fn slots(sector: &[u8]) -> Option<[Slot; 4]> {
    if sector.len() < 512 || le16(sector, 510) != 0xaa55 {
        return None;
    }
    Some([0, 1, 2, 3].map(|i| {
        let at = 446 + i * 16;
        Slot {
            kind: sector[at + 4],
            first: le32(sector, at + 8),
            count: le32(sector, at + 12),
        }
    }))
}

/// The protective MBR `mbr` with its slot stretched over a disk of `sectors`; a hybrid one as it is.
pub(super) fn stretch_protective(mbr: &mut [u8], sectors: u64) {
    let Some(primary) = Primary::parse(mbr) else {
        return;
    };
    if !primary.is_only_protective() {
        return;
    }
    let Some(slot) = primary
        .slots
        .iter()
        .position(|slot| slot.kind == PROTECTIVE)
    else {
        return;
    };
    if primary.slots[slot].first != 1 {
        return;
    }
    let count = u32::try_from(sectors - 1).unwrap_or(u32::MAX);
    let at = 446 + slot * 16 + 12;
    mbr[at..at + 4].copy_from_slice(&count.to_le_bytes());
}

/// Reads primary and logical partitions.
pub(super) fn read(
    device: &dyn BlockDevice,
    first: &[u8],
    primary: &Primary,
) -> Result<Layout, DiskError> {
    let mut walk = Walk {
        device,
        sectors: vec![(0, first.to_vec())],
        partitions: vec![],
    };
    let mut next_number = 5;
    for (slot, number) in primary.slots.iter().zip(1..) {
        if slot.kind == EMPTY {
            continue;
        }
        if slot.is_extended() {
            next_number = walk.chain(*slot, next_number)?;
        } else {
            walk.add(number, u64::from(slot.first), u64::from(slot.count))?;
        }
    }
    walk.check_records()?;
    let sector = u64::from(device.logical_sector());
    let first_record = walk
        .sectors
        .iter()
        .map(|(at, _)| *at)
        .filter(|at| *at != 0)
        .min();
    let gap_limit = first_record.map_or(u64::MAX, |at| at * sector);
    let regions = regions(walk.partitions, sector, gap_limit)?;
    Ok(Layout {
        table: Table::Mbr {
            sectors: walk.sectors,
        },
        regions,
        warnings: vec![],
    })
}

struct Walk<'a> {
    device: &'a dyn BlockDevice,
    sectors: Vec<(u64, Vec<u8>)>,
    partitions: Vec<Region>,
}

impl Walk<'_> {
    fn add(&mut self, number: u32, first: u64, count: u64) -> Result<(), DiskError> {
        let sector = u64::from(self.device.logical_sector());
        if first == 0 || count == 0 {
            return Err(bad(format!(
                "partition {number} is empty or covers the table"
            )));
        }
        if first + count > self.device.size() / sector {
            return Err(bad(format!(
                "partition {number} reaches beyond the end of the disk"
            )));
        }
        let role = Role::Partition(number);
        self.partitions.push(Region {
            role,
            start_bytes: first * sector,
            len_bytes: count * sector,
        });
        Ok(())
    }

    /// A record inside a partition would be overwritten by its content.
    fn check_records(&self) -> Result<(), DiskError> {
        let sector = u64::from(self.device.logical_sector());
        for (at, _) in &self.sectors {
            let byte = at * sector;
            let inside = |r: &&Region| r.start_bytes <= byte && byte < r.start_bytes + r.len_bytes;
            if let Some(region) = self.partitions.iter().find(inside) {
                return Err(bad(format!("a boot record lies inside {}", region.role)));
            }
        }
        Ok(())
    }

    /// Follows extended boot records. Each has the logical partition, relative to the record, and the
    /// next record, relative to the extended partition.
    fn chain(&mut self, extended: Slot, mut number: u32) -> Result<u32, DiskError> {
        let sector = u64::from(self.device.logical_sector());
        let base = u64::from(extended.first);
        let mut seen = BTreeSet::from([0]);
        let mut at = base;
        loop {
            if !seen.insert(at) || seen.len() > MAX_LOGICAL {
                return Err(bad("the chain of logical partitions is a loop"));
            }
            if at >= self.device.size() / sector {
                return Err(bad("the chain of logical partitions leaves the disk"));
            }
            let record = read_bytes(self.device, at * sector, sector as usize)?;
            let Some(slots) = slots(&record) else {
                return Err(bad(format!("sector {at} is not an extended boot record")));
            };
            self.sectors.push((at, record));
            if let Some(data) = slots
                .iter()
                .find(|slot| slot.kind != EMPTY && !slot.is_extended())
            {
                self.add(number, at + u64::from(data.first), u64::from(data.count))?;
                number += 1;
            }
            match slots
                .iter()
                .find(|slot| slot.is_extended() && slot.count != 0)
            {
                Some(next) => at = base + u64::from(next.first),
                None => return Ok(number),
            }
        }
    }
}
