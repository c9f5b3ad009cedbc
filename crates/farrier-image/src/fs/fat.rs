//! FAT12, FAT16 and FAT32: boot area, tables, root directory, and every cluster with an entry.

use super::runs::Bits;
use super::{FsError, FsMap, Verdict, Window, text};
use crate::field::{le16, le32};
use crate::manifest::VolumeKind;

/// The table is read in pieces of this size (a multiple of every entry and sector size).
const PIECE: u64 = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    Fat12,
    Fat16,
    Fat32,
}

/// The checked BIOS parameter block. Positions and sizes are in sectors of `sector` bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bpb {
    width: Width,
    sector: u64,
    per_cluster: u64,
    reserved: u64,
    fats: u64,
    fat_len: u64,
    root_len: u64,
    total: u64,
    clusters: u64,
    /// With mirroring off (FAT32 only), the one table that counts.
    active_fat: Option<u64>,
    root_cluster: u64,
    dirty: bool,
    serial: u32,
    label: String,
}

/// Whether a first sector is a FAT boot sector, rather than an MBR.
pub(crate) fn is_boot_sector(sector: &[u8]) -> bool {
    Bpb::parse(sector).is_some()
}

pub(super) fn read(window: Window<'_>) -> Result<Verdict, FsError> {
    if window.len < 4096 {
        return Ok(Verdict::Other);
    }
    let Some(bpb) = Bpb::parse(&window.read(0, 512)?) else {
        return Ok(Verdict::Other);
    };
    if bpb.total * bpb.sector > window.len {
        return Ok(Verdict::Unsure(
            "a FAT volume is larger than its partition".to_owned(),
        ));
    }
    if bpb.dirty {
        return Ok(Verdict::Unsure(
            "a FAT volume was not unmounted cleanly".to_owned(),
        ));
    }
    let mut bits = Bits::new(bpb.total);
    let boot_area = bpb.data_start();
    if !bits.mark(0, boot_area) {
        return Ok(Verdict::Other);
    }
    match mark_clusters(window, &bpb, &mut bits)? {
        Ok(()) => {}
        Err(why) => return Ok(Verdict::Unsure(format!("a FAT volume {why}"))),
    }
    let Some(used) = bits.runs() else {
        return Ok(Verdict::Unsure(
            "a FAT volume is too fragmented for a map".to_owned(),
        ));
    };
    Ok(Verdict::Known(FsMap {
        kind: VolumeKind::Fat,
        label: label(window, &bpb)?,
        fs_uuid: format!("{:04X}-{:04X}", bpb.serial >> 16, bpb.serial & 0xffff),
        block_bytes: bpb.sector as u32,
        used,
        note: None,
    }))
}

impl Bpb {
    fn parse(raw: &[u8]) -> Option<Self> {
        if raw.len() < 512 || le16(raw, 510) != 0xaa55 || !matches!(raw[0], 0xeb | 0xe9) {
            return None;
        }
        let sector = u64::from(le16(raw, 11));
        let per_cluster = u64::from(raw[13]);
        let (reserved, fats) = (u64::from(le16(raw, 14)), u64::from(raw[16]));
        let media_known = raw[21] == 0xf0 || raw[21] >= 0xf8;
        if !matches!(sector, 512 | 1024 | 2048 | 4096)
            || !per_cluster.is_power_of_two()
            || !media_known
        {
            return None;
        }
        let root_entries = u64::from(le16(raw, 17));
        let fat_len_16 = u64::from(le16(raw, 22));
        let is_32 = fat_len_16 == 0;
        let fat_len = if is_32 {
            u64::from(le32(raw, 36))
        } else {
            fat_len_16
        };
        let total = match le16(raw, 19) {
            0 => u64::from(le32(raw, 32)),
            small => u64::from(small),
        };
        if reserved == 0 || !(1..=4).contains(&fats) || fat_len == 0 || is_32 != (root_entries == 0)
        {
            return None;
        }
        let root_len = (root_entries * 32).div_ceil(sector);
        let clusters = total.checked_sub(reserved + fats * fat_len + root_len)? / per_cluster;
        // As Linux does: the length field tells FAT32, the cluster count the other two.
        let width = match clusters {
            _ if is_32 => Width::Fat32,
            0..4085 => Width::Fat12,
            _ => Width::Fat16,
        };
        let tail = if is_32 { 64 } else { 36 };
        let mirror_off = is_32 && raw[40] & 0x80 != 0;
        let bpb = Self {
            width,
            sector,
            per_cluster,
            reserved,
            fats,
            fat_len,
            root_len,
            total,
            clusters,
            active_fat: mirror_off.then(|| u64::from(raw[40] & 0x0f)),
            root_cluster: if is_32 { u64::from(le32(raw, 44)) } else { 0 },
            dirty: raw[tail + 1] & 1 != 0,
            serial: le32(raw, tail + 3),
            label: text(&raw[tail + 7..tail + 18]),
        };
        bpb.is_sound().then_some(bpb)
    }

    fn is_sound(&self) -> bool {
        let most = match self.width {
            Width::Fat12 => 4084,
            Width::Fat16 => 65_524,
            Width::Fat32 => 0x0fff_fff5,
        };
        let room = self.fat_len * self.sector * 8 / self.entry_bits();
        let fat_exists = self.active_fat.is_none_or(|fat| fat < self.fats);
        self.clusters >= 1 && self.clusters <= most && room >= self.clusters + 2 && fat_exists
    }

    fn entry_bits(&self) -> u64 {
        match self.width {
            Width::Fat12 => 12,
            Width::Fat16 => 16,
            Width::Fat32 => 32,
        }
    }

    fn data_start(&self) -> u64 {
        self.reserved + self.fats * self.fat_len + self.root_len
    }

    fn cluster_start(&self, cluster: u64) -> u64 {
        self.data_start() + (cluster - 2) * self.per_cluster
    }

    /// Byte offset of one table.
    fn fat_at(&self, fat: u64) -> u64 {
        (self.reserved + fat * self.fat_len) * self.sector
    }
}

/// Marks every cluster whose entry is neither free nor bad, checking each entry and the second table.
fn mark_clusters(
    window: Window<'_>,
    bpb: &Bpb,
    bits: &mut Bits,
) -> Result<Result<(), String>, FsError> {
    let main = bpb.active_fat.unwrap_or(0);
    let table_len = ((bpb.clusters + 2) * bpb.entry_bits()).div_ceil(8);
    // A 12-bit entry may span pieces, and all of them fit in one.
    let mut offset = 0;
    while offset < table_len {
        let len = PIECE.min(table_len - offset) as usize;
        let piece = window.read(bpb.fat_at(main) + offset, len)?;
        if bpb.fats > 1
            && bpb.active_fat.is_none()
            && window.read(bpb.fat_at(1) + offset, len)? != piece
        {
            return Ok(Err("has two tables that differ".to_owned()));
        }
        let first = offset * 8 / bpb.entry_bits();
        let end = ((offset + len as u64) * 8 / bpb.entry_bits()).min(bpb.clusters + 2);
        for cluster in first.max(2)..end {
            match entry(bpb, &piece, (cluster - first) as usize) {
                Entry::Free | Entry::Bad => {}
                Entry::Next(next) if !(2..bpb.clusters + 2).contains(&next) => {
                    return Ok(Err(format!(
                        "has a chain that leaves it at cluster {cluster}"
                    )));
                }
                Entry::Next(_) | Entry::End => {
                    if !bits.mark(bpb.cluster_start(cluster), bpb.per_cluster) {
                        return Ok(Err("has clusters outside of itself".to_owned()));
                    }
                }
            }
        }
        if offset == 0 && says_dirty(bpb, &piece) {
            return Ok(Err("was not unmounted cleanly".to_owned()));
        }
        offset += len as u64;
    }
    Ok(Ok(()))
}

enum Entry {
    Free,
    Next(u64),
    Bad,
    End,
}

fn entry(bpb: &Bpb, piece: &[u8], index: usize) -> Entry {
    let (value, bad) = match bpb.width {
        Width::Fat12 => {
            let pair = u32::from(le16(piece, index * 3 / 2));
            (
                if index.is_multiple_of(2) {
                    pair & 0xfff
                } else {
                    pair >> 4
                },
                0xff7,
            )
        }
        Width::Fat16 => (u32::from(le16(piece, index * 2)), 0xfff7),
        Width::Fat32 => (le32(piece, index * 4) & 0x0fff_ffff, 0x0fff_fff7),
    };
    match value {
        0 => Entry::Free,
        value if value == bad => Entry::Bad,
        value if value > bad => Entry::End,
        value => Entry::Next(u64::from(value)),
    }
}

/// Windows clears a bit of the second entry while the volume is in use.
fn says_dirty(bpb: &Bpb, piece: &[u8]) -> bool {
    match bpb.width {
        Width::Fat12 => false,
        Width::Fat16 => le16(piece, 2) & 0x8000 == 0,
        Width::Fat32 => le32(piece, 4) & 0x0800_0000 == 0,
    }
}

/// The label in the root directory counts; the boot sector's copy is often stale.
fn label(window: Window<'_>, bpb: &Bpb) -> Result<String, FsError> {
    let (at, len) = match bpb.width {
        Width::Fat32 if (2..bpb.clusters + 2).contains(&bpb.root_cluster) => {
            (bpb.cluster_start(bpb.root_cluster), bpb.per_cluster)
        }
        Width::Fat32 => (0, 0),
        _ => (bpb.data_start() - bpb.root_len, bpb.root_len),
    };
    let root = window.read(at * bpb.sector, (len * bpb.sector).min(PIECE) as usize)?;
    let is_label =
        |entry: &&[u8]| entry[0] != 0xe5 && entry[11] & 0x08 != 0 && entry[11] & 0x3f != 0x0f;
    let entries = root.chunks_exact(32).take_while(|entry| entry[0] != 0);
    match entries.into_iter().find(|entry| is_label(entry)) {
        Some(entry) => Ok(text(&entry[..11])),
        None if bpb.label == "NO NAME" => Ok(String::new()),
        None => Ok(bpb.label.clone()),
    }
}
