//! Whole disks, and which of them are in use.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use farrier_api::agent::Disk;

use super::{clean, line, names};

/// A disk and whether the running system holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundDisk {
    pub disk: Disk,
    /// A partition of it is mounted or belongs to another device (RAID, LVM).
    pub in_use: bool,
}

/// Block devices that are not disks: they have no medium of their own.
const NOT_DISKS: &[&str] = &["dm-", "fd", "loop", "md", "nbd", "ram", "sr", "zram"];

/// All disks below `root` that have a size.
#[must_use]
pub fn disks(root: &Path) -> Vec<FoundDisk> {
    let class = root.join("sys/block");
    let mounts = fs::read_to_string(root.join("proc/self/mounts")).unwrap_or_default();
    let is_disk = |name: &String| {
        !NOT_DISKS.iter().any(|prefix| name.starts_with(prefix)) && !is_part_of_mmc(name)
    };
    let all = names(&class)
        .into_iter()
        .filter(is_disk)
        .map(|name| disk(root, &class.join(&name), name, &mounts));
    all.filter(|found| found.disk.size_bytes > 0).collect()
}

/// eMMC shows its boot and replay-protected areas as disks of their own.
fn is_part_of_mmc(name: &str) -> bool {
    name.starts_with("mmcblk") && (name.contains("boot") || name.contains("rpmb"))
}

fn disk(root: &Path, path: &Path, name: String, mounts: &str) -> FoundDisk {
    let device = path.join("device");
    let number = |file: &str| line(&path.join(file)).parse::<u64>().ok();
    let sector = |file: &str| {
        number(file)
            .and_then(|size| u32::try_from(size).ok())
            .unwrap_or(512)
    };
    let logical_sector = sector("queue/logical_block_size");
    let bus = bus(path, &name);
    let vendor = line(&device.join("vendor"));
    let model = line(&device.join("model"));
    let disk = Disk {
        // The kernel counts in 512 bytes whatever the sector size.
        size_bytes: number("size").unwrap_or(0).saturating_mul(512),
        logical_sector,
        physical_sector: sector("queue/physical_block_size"),
        model: if bus == "sata" || vendor.is_empty() {
            model
        } else {
            format!("{vendor} {model}").trim().to_owned()
        },
        serial: serial(path, &device),
        wwn: wwn(path, &device),
        rotational: number("queue/rotational") == Some(1),
        removable: number("removable") == Some(1) || bus == "usb" || is_card(&device),
        table: table(&root.join("dev").join(&name), logical_sector),
        bus,
        name,
    };
    let in_use = is_mounted(&disk.name, mounts) || is_held(path);
    FoundDisk { disk, in_use }
}

/// By where the device hangs; a USB bridge may claim to be SCSI.
fn bus(path: &Path, name: &str) -> String {
    let place = fs::canonicalize(path).unwrap_or_default();
    let place = place.to_string_lossy();
    let bus = match name {
        _ if place.contains("/usb") => "usb",
        _ if name.starts_with("nvme") => "nvme",
        _ if name.starts_with("mmcblk") => "mmc",
        _ if name.starts_with("vd") => "virtio",
        _ if place.contains("/ata") => "sata",
        _ => "scsi",
    };
    bus.to_owned()
}

/// An SD card is removable though the kernel says that the slot is not.
fn is_card(device: &Path) -> bool {
    line(&device.join("type")) == "SD"
}

fn serial(path: &Path, device: &Path) -> String {
    let direct = [device.join("serial"), path.join("serial")]
        .iter()
        .map(|file| line(file))
        .find(|text| !text.is_empty());
    direct
        .or_else(|| page80(device))
        .or_else(|| usb_serial(device))
        .unwrap_or_default()
}

/// SCSI vital product data page 0x80 (SPC-4 section 7.8.15): four bytes of header, then text. Through
/// libata it holds an ATA disk's serial number.
fn page80(device: &Path) -> Option<String> {
    let page = fs::read(device.join("vpd_pg80")).ok()?;
    let len = usize::from(u16::from_be_bytes([*page.get(2)?, *page.get(3)?]));
    let text = clean(page.get(4..)?.get(..len).unwrap_or(page.get(4..)?));
    Some(text).filter(|text| !text.is_empty())
}

fn usb_serial(device: &Path) -> Option<String> {
    let real = fs::canonicalize(device).ok()?;
    let usb = real
        .ancestors()
        .find(|folder| folder.join("idVendor").exists())?;
    Some(line(&usb.join("serial"))).filter(|text| !text.is_empty())
}

/// `wwid` of NVMe (`eui.…`, `nvme.…`) and SCSI (`naa.…`, `t10.…`). The `t10` kind only repeats model and
/// serial.
fn wwn(path: &Path, device: &Path) -> String {
    let found = [path.join("wwid"), device.join("wwid")]
        .iter()
        .map(|file| line(file))
        .find(|text| !text.is_empty());
    found
        .filter(|text| !text.starts_with("t10."))
        .unwrap_or_default()
}

fn is_mounted(name: &str, mounts: &str) -> bool {
    let sources = mounts
        .lines()
        .filter_map(|line| line.split(' ').next()?.strip_prefix("/dev/"));
    sources
        .filter_map(|source| source.strip_prefix(name))
        .any(|rest| {
            let digits = rest.strip_prefix('p').unwrap_or(rest);
            digits.bytes().all(|b| b.is_ascii_digit())
        })
}

/// Whether the disk or a partition of it carries another block device.
fn is_held(path: &Path) -> bool {
    let holders = |folder: &Path| !names(&folder.join("holders")).is_empty();
    let partitions = names(path)
        .into_iter()
        .map(|name| path.join(name))
        .filter(|part| part.join("partition").exists());
    holders(path) || partitions.into_iter().any(|part| holders(&part))
}

/// What is on the disk, as far as its edges tell; none where they are empty. What cannot be read may be anything.
fn table(device: &Path, sector: u32) -> Option<String> {
    let kind = match content(device, sector) {
        Ok(kind) => kind,
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(_) => Some("unreadable"),
    };
    kind.map(str::to_owned)
}

/// File systems, LVM, LUKS, RAID and ZFS right on a disk all leave something in its first or last MiB.
fn content(device: &Path, sector: u32) -> io::Result<Option<&'static str>> {
    let mut file = File::open(device)?;
    let size = file.seek(SeekFrom::End(0))?;
    let edge = EDGE.min(size);
    let mut read = |from: u64| -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(from))?;
        file.by_ref().take(edge).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let (first, last) = (read(0)?, read(size - edge)?);
    let header = usize::try_from(sector).unwrap_or(512);
    Ok(
        if first[header.min(first.len())..].starts_with(b"EFI PART") {
            Some("gpt")
        } else if first.get(510..512) == Some(&[0x55, 0xaa]) {
            Some("mbr")
        } else if first.iter().chain(&last).any(|byte| *byte != 0) {
            Some("other")
        } else {
            None
        },
    )
}

const EDGE: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::{is_mounted, table};

    #[test]
    fn z25_only_a_disk_with_empty_edges_is_blank() {
        let kind = |places: &[(usize, &[u8])], sector| {
            let mut disk = vec![0; 4 << 20];
            for (at, bytes) in places {
                disk[*at..at + bytes.len()].copy_from_slice(bytes);
            }
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(&disk).unwrap();
            table(file.path(), sector)
        };
        assert_eq!(kind(&[], 512), None);
        let (mbr, gpt): (&[u8], &[u8]) = (&[0x55, 0xaa], b"EFI PART");
        assert_eq!(kind(&[(510, mbr)], 512).as_deref(), Some("mbr"));
        assert_eq!(kind(&[(510, mbr), (512, gpt)], 512).as_deref(), Some("gpt"));
        assert_eq!(
            kind(&[(510, mbr), (4096, gpt)], 4096).as_deref(),
            Some("gpt")
        );
        let others: [(usize, &[u8]); 5] = [
            (0x438, &[0x53, 0xef]),
            (512, b"LABELONE"),
            (0, b"LUKS"),
            (0x1_0040, b"_BHRfS_M"),
            ((4 << 20) - 0x1_0000, &[0xfc, 0x4e, 0x2b, 0xa9]),
        ];
        for (at, bytes) in others {
            assert_eq!(
                kind(&[(at, bytes)], 512).as_deref(),
                Some("other"),
                "{at:#x}"
            );
        }
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(table(folder.path(), 512).as_deref(), Some("unreadable"));
        assert_eq!(table(&folder.path().join("none"), 512), None);
    }

    #[test]
    fn r18_a_disk_with_a_mounted_partition_is_in_use() {
        let mounts =
            "/dev/sda1 / ext4 rw 0 0\n/dev/nvme0n1p2 /x vfat rw 0 0\nproc /proc proc rw 0 0\n";
        for (name, expected) in [
            ("sda", true),
            ("sdb", false),
            ("nvme0n1", true),
            ("nvme0n2", false),
            ("sd", false),
            ("nvme0n1p2", true),
        ] {
            assert_eq!(is_mounted(name, mounts), expected, "{name}");
        }
    }
}
