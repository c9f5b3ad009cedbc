//! The GUID partition table (UEFI 5.3).

use uuid::Uuid;

use super::mbr::{self, Primary};
use super::{DiskError, Layout, Region, Role, bad, read_bytes, regions};
use crate::device::BlockDevice;
use crate::field::{le32, le64};
use crate::manifest::{GptEntry, Table};

const SIGNATURE: &[u8; 8] = b"EFI PART";
/// Bytes of the header that UEFI defines; the checksum covers this many when we write.
const HEADER_LEN: usize = 92;
/// UEFI asks for at least 16 KiB of entries; nobody has been seen with more than a few times that.
const MAX_ARRAY: u64 = 4 << 20;
const ENTRY_LEN: u32 = 128;

/// One checked copy of header and entries.
struct Copy {
    disk_guid: Uuid,
    entries: Vec<GptEntry>,
    entry_slots: u32,
    entry_size: u32,
    array_lba: u64,
    first_usable: u64,
    alternate: u64,
}

/// Reads the GPT; none when the disk does not have one.
pub(super) fn read(
    device: &dyn BlockDevice,
    first: &[u8],
    primary: Option<&Primary>,
) -> Result<Option<Layout>, DiskError> {
    let sector = u64::from(device.logical_sector());
    let protected = primary.is_some_and(Primary::has_protective);
    if !protected && primary.is_some() {
        // Firmware and kernels believe an MBR that does not point to a GPT, stale GPT or not.
        return Ok(None);
    }
    let last = device.size() / sector - 1;
    let mut warnings = vec![];
    let copy = match read_copy(device, 1) {
        Ok(copy) => copy,
        Err(_) if !protected => return refuse_other_sector_size(device).map(|()| None),
        Err(why) => {
            refuse_other_sector_size(device)?;
            warnings.push(format!(
                "the primary GPT is damaged ({}); its backup is used",
                reason(&why)
            ));
            read_copy(device, last).map_err(|_| bad("both copies of the GPT are damaged"))?
        }
    };
    if !protected {
        warnings.push("the GPT has no protective MBR; some firmware will not see it".to_owned());
    }
    if warnings.is_empty() && copy.alternate != last {
        warnings.push(
            "the backup GPT is not at the end of the disk; a deployed disk has it there".to_owned(),
        );
    }
    if copy.array_lba != 2 && copy.alternate == last {
        warnings
            .push("the GPT entries are not at sector 2; a deployed disk has them there".to_owned());
    }
    layout(device, first, copy, warnings).map(Some)
}

fn reason(error: &DiskError) -> String {
    match error {
        DiskError::Table { what } => what.clone(),
        other => other.to_string(),
    }
}

/// A header one "other sector" in means that the file is of a disk with other sectors.
fn refuse_other_sector_size(device: &dyn BlockDevice) -> Result<(), DiskError> {
    let used = device.logical_sector();
    let found = if used == 512 { 4096 } else { 512 };
    if device.size() < 8192 || read_bytes(device, u64::from(found), 8)? != SIGNATURE {
        return Ok(());
    }
    Err(DiskError::OtherSectorSize { used, found })
}

fn layout(
    device: &dyn BlockDevice,
    first: &[u8],
    copy: Copy,
    warnings: Vec<String>,
) -> Result<Layout, DiskError> {
    let sector = u64::from(device.logical_sector());
    let array_end = 2 + array_sectors(copy.entry_slots, copy.entry_size, sector);
    let mut partitions = vec![];
    for entry in &copy.entries {
        let number = entry.slot + 1;
        if entry.first > entry.last || entry.first < array_end {
            return Err(bad(format!(
                "partition {number} is empty or covers the table"
            )));
        }
        if entry.last >= device.size() / sector {
            return Err(bad(format!(
                "partition {number} reaches beyond the end of the disk"
            )));
        }
        partitions.push(Region {
            role: Role::Partition(number),
            start_bytes: entry.first * sector,
            len_bytes: (entry.last - entry.first + 1) * sector,
        });
    }
    let regions = regions(partitions, array_end * sector, u64::MAX)?;
    let table = Table::Gpt {
        disk_guid: copy.disk_guid,
        mbr: first.to_vec(),
        entries: copy.entries,
        entry_slots: copy.entry_slots,
        entry_size: copy.entry_size,
        first_usable: copy.first_usable,
    };
    Ok(Layout {
        table,
        regions,
        warnings,
    })
}

fn read_copy(device: &dyn BlockDevice, lba: u64) -> Result<Copy, DiskError> {
    let sector = u64::from(device.logical_sector());
    let mut header = read_bytes(device, lba * sector, sector as usize)?;
    if &header[..8] != SIGNATURE {
        return Err(bad("there is no GPT header"));
    }
    let header_len = le32(&header, 12) as usize;
    if !(HEADER_LEN..=header.len()).contains(&header_len) {
        return Err(bad("the GPT header has an impossible length"));
    }
    let checksum = le32(&header, 16);
    header[16..20].fill(0);
    if crc32fast::hash(&header[..header_len]) != checksum {
        return Err(bad("the GPT header's checksum is wrong"));
    }
    if le64(&header, 24) != lba {
        return Err(bad("the GPT header belongs to another place"));
    }
    let entry_slots = le32(&header, 80);
    let entry_size = le32(&header, 84);
    let array_len = u64::from(entry_slots) * u64::from(entry_size);
    if entry_size < ENTRY_LEN
        || !entry_size.is_power_of_two()
        || array_len == 0
        || array_len > MAX_ARRAY
    {
        return Err(bad("the GPT's entry array has an impossible size"));
    }
    let array_lba = le64(&header, 72);
    let on_disk = array_lba
        .checked_mul(sector)
        .and_then(|at| at.checked_add(array_len));
    if array_lba < 2 || on_disk.is_none_or(|end| end > device.size()) {
        return Err(bad("the GPT's entry array is not on the disk"));
    }
    let array = read_bytes(device, array_lba * sector, array_len as usize)?;
    if crc32fast::hash(&array) != le32(&header, 88) {
        return Err(bad("the checksum of the GPT's entries is wrong"));
    }
    Ok(Copy {
        disk_guid: guid(&header, 56),
        entries: parse_entries(&array, entry_size),
        entry_slots,
        entry_size,
        array_lba,
        first_usable: le64(&header, 40),
        alternate: le64(&header, 32),
    })
}

fn parse_entries(array: &[u8], entry_size: u32) -> Vec<GptEntry> {
    let mut entries = vec![];
    for (raw, slot) in array.chunks_exact(entry_size as usize).zip(0..) {
        let type_guid = guid(raw, 0);
        if type_guid.is_nil() {
            continue;
        }
        let mut name: Vec<u16> = raw[56..128]
            .chunks_exact(2)
            .map(|b| u16::from_le_bytes([b[0], b[1]]))
            .collect();
        let len = name
            .iter()
            .rposition(|unit| *unit != 0)
            .map_or(0, |last| last + 1);
        name.truncate(len);
        entries.push(GptEntry {
            slot,
            type_guid,
            guid: guid(raw, 16),
            first: le64(raw, 32),
            last: le64(raw, 40),
            attributes: le64(raw, 48),
            name,
        });
    }
    entries
}

/// GUIDs are stored with their first three fields little-endian.
fn guid(bytes: &[u8], at: usize) -> Uuid {
    let mut raw = [0; 16];
    raw.copy_from_slice(&bytes[at..at + 16]);
    Uuid::from_bytes_le(raw)
}

fn array_sectors(slots: u32, entry_size: u32, sector: u64) -> u64 {
    (u64::from(slots) * u64::from(entry_size)).div_ceil(sector)
}

/// What a GPT is made from, borrowed from the manifest.
pub(super) struct Source<'a> {
    pub(super) disk_guid: Uuid,
    pub(super) mbr: &'a [u8],
    pub(super) entries: &'a [GptEntry],
    pub(super) entry_slots: u32,
    pub(super) entry_size: u32,
    pub(super) first_usable: u64,
}

/// The sectors of a GPT on a disk of `size` bytes, in the order of writing: backup, entries, header,
/// and last the MBR that makes firmware look for them.
pub(super) fn render(
    source: &Source<'_>,
    size: u64,
    sector: u32,
) -> Result<Vec<(u64, Vec<u8>)>, DiskError> {
    let bytes = u64::from(sector);
    let sectors = size / bytes;
    let array_len = u64::from(source.entry_slots) * u64::from(source.entry_size);
    if source.entry_size < ENTRY_LEN || array_len == 0 || array_len > MAX_ARRAY {
        return Err(bad("the image's GPT has an impossible entry array"));
    }
    if source.mbr.len() != sector as usize {
        return Err(bad("the image's protective MBR is not one sector"));
    }
    let array_sectors = array_sectors(source.entry_slots, source.entry_size, bytes);
    let last_used = source
        .entries
        .iter()
        .map(|entry| entry.last)
        .max()
        .unwrap_or(0);
    let needed = last_used
        .saturating_add(1)
        .max(source.first_usable)
        .saturating_add(array_sectors + 1);
    if needed > sectors {
        return Err(DiskError::TooSmall {
            needed: needed.saturating_mul(bytes),
            size,
        });
    }
    if source.first_usable < 2 + array_sectors {
        return Err(bad("the image's GPT leaves no room for its entries"));
    }
    let array = render_entries(source)?;
    let backup_array = sectors - 1 - array_sectors;
    let header = |my_lba, alternate, array_lba| {
        let place = Place {
            my_lba,
            alternate,
            array_lba,
            last_usable: backup_array - 1,
        };
        render_header(source, &place, &array, sector)
    };
    let mut mbr = source.mbr.to_vec();
    mbr::stretch_protective(&mut mbr, sectors);
    Ok(vec![
        (backup_array * bytes, array.clone()),
        ((sectors - 1) * bytes, header(sectors - 1, 1, backup_array)),
        (2 * bytes, array.clone()),
        (bytes, header(1, sectors - 1, 2)),
        (0, mbr),
    ])
}

struct Place {
    my_lba: u64,
    alternate: u64,
    array_lba: u64,
    last_usable: u64,
}

fn render_header(source: &Source<'_>, place: &Place, array: &[u8], sector: u32) -> Vec<u8> {
    let mut header = vec![0; sector as usize];
    let mut put = |at: usize, field: &[u8]| header[at..at + field.len()].copy_from_slice(field);
    put(0, SIGNATURE);
    put(8, &0x0001_0000_u32.to_le_bytes());
    put(12, &(HEADER_LEN as u32).to_le_bytes());
    put(24, &place.my_lba.to_le_bytes());
    put(32, &place.alternate.to_le_bytes());
    put(40, &source.first_usable.to_le_bytes());
    put(48, &place.last_usable.to_le_bytes());
    put(56, &source.disk_guid.to_bytes_le());
    put(72, &place.array_lba.to_le_bytes());
    put(80, &source.entry_slots.to_le_bytes());
    put(84, &source.entry_size.to_le_bytes());
    put(88, &crc32fast::hash(array).to_le_bytes());
    let checksum = crc32fast::hash(&header[..HEADER_LEN]);
    header[16..20].copy_from_slice(&checksum.to_le_bytes());
    header
}

fn render_entries(source: &Source<'_>) -> Result<Vec<u8>, DiskError> {
    let mut array = vec![0; (source.entry_slots * source.entry_size) as usize];
    for entry in source.entries {
        let at = u64::from(entry.slot) * u64::from(source.entry_size);
        if entry.slot >= source.entry_slots || entry.name.len() > 36 {
            return Err(bad("an entry of the image's GPT does not fit its array"));
        }
        let raw = &mut array[at as usize..at as usize + ENTRY_LEN as usize];
        raw[..16].copy_from_slice(&entry.type_guid.to_bytes_le());
        raw[16..32].copy_from_slice(&entry.guid.to_bytes_le());
        raw[32..40].copy_from_slice(&entry.first.to_le_bytes());
        raw[40..48].copy_from_slice(&entry.last.to_le_bytes());
        raw[48..56].copy_from_slice(&entry.attributes.to_le_bytes());
        for (unit, slot) in entry.name.iter().zip(raw[56..128].chunks_exact_mut(2)) {
            slot.copy_from_slice(&unit.to_le_bytes());
        }
    }
    Ok(array)
}
