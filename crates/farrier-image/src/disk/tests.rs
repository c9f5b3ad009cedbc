use std::path::Path;

use super::layout::TableSectors;
use super::*;
use crate::device::{Access, FileDevice, MemDevice};
use crate::manifest::{DiskShape, FORMAT, Manifest, Run, Volume, VolumeKind};
use crate::testing::{noise, run, run_any, sparse};

const MIB: u64 = 1 << 20;

fn manifest_of(device: &dyn BlockDevice) -> Manifest {
    let layout = read(device).unwrap();
    let volumes = layout.regions.iter().map(|region| Volume {
        kind: if region.role == Role::Gap {
            VolumeKind::Gap
        } else {
            VolumeKind::Raw
        },
        partition: match region.role {
            Role::Partition(number) => Some(number),
            _ => None,
        },
        start_bytes: region.start_bytes,
        len_bytes: region.len_bytes,
        label: String::new(),
        fs_uuid: String::new(),
        block_bytes: 512,
        used: vec![Run { first: 0, count: 1 }],
        chunks: vec![None; region.len_bytes.div_ceil(crate::chunk::CHUNK_SIZE as u64) as usize],
    });
    let volumes = volumes.collect();
    Manifest {
        format: FORMAT,
        image: "disk".parse().unwrap(),
        version: 0,
        created_ms: 0,
        source: String::new(),
        disk: DiskShape {
            size_bytes: device.size(),
            logical_sector: device.logical_sector(),
        },
        table: layout.table,
        volumes,
    }
}

/// Makes a GPT disk with sgdisk: ESP, BIOS boot, root with a name beyond ASCII.
fn gpt_disk(path: &Path, size: u64) -> Option<FileDevice> {
    sparse(path, size);
    let arguments = [
        "-n1:2048:+32M",
        "-t1:ef00",
        "-c1:EFI",
        "-n2:0:+1M",
        "-t2:ef02",
        "-n5:0:+64M",
        "-t5:8300",
        "-c5:Wurzel ü",
        "-A5:set:2",
        path.to_str().unwrap(),
    ];
    run("sgdisk", &arguments)?;
    Some(FileDevice::open(path, Access::ReadWrite).unwrap())
}

fn parts(text: &str) -> Vec<String> {
    let is_row = |line: &&str| line.trim_start().starts_with(|c: char| c.is_ascii_digit());
    text.lines()
        .filter(is_row)
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

#[test]
fn uefi_5_3_gpt_is_placed_on_larger_and_smaller_disks_as_sgdisk_wants_it() {
    let dir = tempfile::tempdir().unwrap();
    let (source_path, target_path) = (dir.path().join("a"), dir.path().join("b"));
    let Some(source) = gpt_disk(&source_path, 200 * MIB) else {
        return;
    };
    let manifest = manifest_of(&source);
    let Table::Gpt { entries, .. } = &manifest.table else {
        panic!("{manifest:?}")
    };
    assert_eq!(
        entries.iter().map(|e| e.slot).collect::<Vec<_>>(),
        [0, 1, 4]
    );
    assert_eq!(String::from_utf16_lossy(&entries[2].name), "Wurzel ü");
    assert_eq!(entries[2].attributes, 4);
    let before = run("sgdisk", &["-p", source_path.to_str().unwrap()]).unwrap();
    for size in [200 * MIB, 333 * MIB + 512, 99 * MIB] {
        sparse(&target_path, size);
        let target = FileDevice::open(&target_path, Access::ReadWrite).unwrap();
        let table = TableSectors::place(&manifest, size, 512).unwrap();
        table.write(&target).unwrap();
        assert!(table.is_on(&target).unwrap());
        let (status, text) = run_any("sgdisk", &["-v", target_path.to_str().unwrap()]).unwrap();
        assert!(
            status == 0 && text.contains("No problems found"),
            "{size}: {text}"
        );
        let after = run("sgdisk", &["-p", target_path.to_str().unwrap()]).unwrap();
        assert_eq!(parts(&before), parts(&after));
        let again = manifest_of(&target);
        assert_eq!(again.volumes, manifest.volumes);
        table.remove(&target).unwrap();
        assert_eq!(
            read(&target).unwrap().table,
            Table::None,
            "nothing is found until the table is written"
        );
    }
    let short = TableSectors::place(&manifest, 98 * MIB, 512).unwrap_err();
    assert!(matches!(short, DiskError::TooSmall { .. }), "{short}");
    let other = TableSectors::place(&manifest, 200 * MIB, 4096).unwrap_err();
    assert!(matches!(
        other,
        DiskError::SectorSize {
            image: 512,
            target: 4096
        }
    ));
}

#[test]
fn uefi_5_3_2_backup_gpt_is_used_when_the_primary_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = gpt_disk(&dir.path().join("a"), 200 * MIB) else {
        return;
    };
    let good = read(&disk).unwrap();
    assert_eq!(good.warnings, Vec::<String>::new());
    disk.write_at(512 + 60, b"x").unwrap();
    let from_backup = read(&disk).unwrap();
    assert_eq!(
        (&from_backup.table, &from_backup.regions),
        (&good.table, &good.regions)
    );
    assert!(
        from_backup.warnings[0].contains("primary GPT is damaged"),
        "{:?}",
        from_backup.warnings
    );
    disk.write_at(200 * MIB - 512 + 60, b"x").unwrap();
    assert!(
        matches!(read(&disk), Err(DiskError::Table { .. })),
        "never taken as a raw disk"
    );
}

#[test]
fn gpt_with_4096_byte_sectors_reads_back() {
    let source = MemDevice::new(64 * MIB).with_sector(4096);
    let dir = tempfile::tempdir().unwrap();
    let Some(template) = gpt_disk(&dir.path().join("a"), 200 * MIB) else {
        return;
    };
    let mut manifest = manifest_of(&template);
    manifest.disk = DiskShape {
        size_bytes: 64 * MIB,
        logical_sector: 4096,
    };
    manifest.volumes.clear();
    if let Table::Gpt {
        entries,
        mbr,
        first_usable,
        ..
    } = &mut manifest.table
    {
        entries.truncate(1);
        (entries[0].first, entries[0].last, *first_usable) = (256, 8191, 6);
        mbr.resize(4096, 0);
    }
    TableSectors::place(&manifest, 64 * MIB, 4096)
        .unwrap()
        .write(&source)
        .unwrap();
    let layout = read(&source).unwrap();
    assert_eq!(layout.regions.last().unwrap().start_bytes, MIB);
    assert_eq!(layout.warnings, Vec::<String>::new());
    let misread = source.with_sector(512);
    assert!(matches!(
        read(&misread),
        Err(DiskError::OtherSectorSize {
            used: 512,
            found: 4096
        })
    ));
}

#[test]
fn hybrid_mbr_is_kept_verbatim_and_a_protective_one_is_stretched() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a");
    let Some(disk) = gpt_disk(&path, 200 * MIB) else {
        return;
    };
    let place = |manifest: &Manifest| {
        let target = MemDevice::new(300 * MIB);
        TableSectors::place(manifest, 300 * MIB, 512)
            .unwrap()
            .write(&target)
            .unwrap();
        read_bytes(&target, 0, 512).unwrap()
    };
    let protective = place(&manifest_of(&disk));
    assert_eq!(
        crate::field::le32(&protective, 446 + 12),
        (300 * MIB / 512 - 1) as u32
    );
    run("sgdisk", &["-h", "1", path.to_str().unwrap()]).unwrap();
    let hybrid = read_bytes(&disk, 0, 512).unwrap();
    assert_eq!(place(&manifest_of(&disk)), hybrid);
}

fn mbr_disk(path: &Path) -> Option<FileDevice> {
    sparse(path, 200 * MIB);
    let script = path.with_extension("sfdisk");
    let text = "label: dos\nstart=2048,size=20480,type=83,bootable\nstart=24576,type=5\n\
                start=26624,size=8192,type=83\nstart=40960,size=8192,type=82\nstart=53248,size=4096,type=c\n";
    std::fs::write(&script, text).unwrap();
    let command = format!(
        "/usr/sbin/sfdisk -q {} < {}",
        path.display(),
        script.display()
    );
    crate::testing::tool("sfdisk")?;
    run("sh", &["-c", &command])?;
    Some(FileDevice::open(path, Access::ReadWrite).unwrap())
}

#[test]
fn mbr_with_logical_partitions_is_copied_as_sfdisk_sees_it() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = mbr_disk(&dir.path().join("a")) else {
        return;
    };
    let manifest = manifest_of(&disk);
    manifest.validate().unwrap();
    let numbers: Vec<_> = manifest
        .volumes
        .iter()
        .map(|v| (v.partition, v.start_bytes / 512))
        .collect();
    let expected = [
        (None, 1),
        (Some(1), 2048),
        (Some(5), 26_624),
        (Some(6), 40_960),
        (Some(7), 53_248),
    ];
    assert_eq!(numbers, expected);
    let target_path = dir.path().join("b");
    sparse(&target_path, 250 * MIB);
    let target = FileDevice::open(&target_path, Access::ReadWrite).unwrap();
    let table = TableSectors::place(&manifest, 250 * MIB, 512).unwrap();
    table.write(&target).unwrap();
    let dump = |path: &Path| {
        let text = run("sfdisk", &["-d", path.to_str().unwrap()]).unwrap();
        let name = format!("{}", path.display());
        text.lines()
            .filter(|l| !l.starts_with("device"))
            .map(|l| l.replace(&name, "disk"))
            .collect::<Vec<_>>()
    };
    assert_eq!(dump(&dir.path().join("a")), dump(&target_path));
    // An older GPT's backup must not come back to life.
    target.write_at(250 * MIB - 512, b"EFI PART").unwrap();
    table.remove(&target).unwrap();
    assert_eq!(read_bytes(&target, 250 * MIB - 512, 8).unwrap(), [0; 8]);
    assert_eq!(read(&target).unwrap().table, Table::None);
}

#[test]
fn mbr_chain_that_loops_or_leaves_the_disk_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = mbr_disk(&dir.path().join("a")) else {
        return;
    };
    let Table::Mbr { sectors } = read(&disk).unwrap().table else {
        panic!()
    };
    let second = sectors[2].0;
    for next in [second - 24_576, 0, 0x7fff_ffff] {
        let at = second * 512 + 446 + 16;
        let mut slot = [0; 16];
        slot[4] = 5;
        slot[8..12].copy_from_slice(&(next as u32).to_le_bytes());
        slot[12..16].copy_from_slice(&100_u32.to_le_bytes());
        disk.write_at(at, &slot).unwrap();
        assert!(
            matches!(read(&disk), Err(DiskError::Table { .. })),
            "{next}"
        );
    }
}

#[test]
fn disks_without_table_are_one_volume() {
    assert_eq!(read(&MemDevice::new(0)).unwrap().regions, []);
    let disk = MemDevice::with_content(&noise(1, 65_536));
    let layout = read(&disk).unwrap();
    assert_eq!(layout.table, Table::None);
    assert_eq!(
        layout.regions,
        [Region {
            role: Role::WholeDisk,
            start_bytes: 0,
            len_bytes: 65_536
        }]
    );
}

/// Whatever is in the table sectors, reading ends, and in regions that lie on the disk.
#[test]
fn t16_hostile_tables_never_panic_and_never_point_outside() {
    let dir = tempfile::tempdir().unwrap();
    let (Some(gpt), Some(mbr)) = (
        gpt_disk(&dir.path().join("a"), 200 * MIB),
        mbr_disk(&dir.path().join("b")),
    ) else {
        return;
    };
    for (source, seeds) in [(&gpt, 0..4000_u64), (&mbr, 4000..8000)] {
        let head = read_bytes(source, 0, 65_536).unwrap();
        let disk = MemDevice::new(200 * MIB);
        for seed in seeds {
            let mut bytes = head.clone();
            let random = noise(seed, 16);
            for hit in random.chunks_exact(4) {
                let at = usize::from(u16::from_le_bytes([hit[0], hit[1]])) % 1400;
                bytes[at] = hit[2];
            }
            fix_checksums(&mut bytes);
            disk.write_at(0, &bytes).unwrap();
            let Ok(layout) = read(&disk) else { continue };
            let mut end = 0;
            for region in layout.regions {
                assert!(region.start_bytes >= end, "seed {seed}");
                end = region.start_bytes + region.len_bytes;
                assert!(end <= disk.size(), "seed {seed}");
            }
        }
    }
}

/// Lets damage get past the checksums.
fn fix_checksums(bytes: &mut [u8]) {
    let array = crc32fast::hash(&bytes[1024..1024 + 128 * 128]);
    bytes[512 + 88..512 + 92].copy_from_slice(&array.to_le_bytes());
    bytes[512 + 16..512 + 20].fill(0);
    let header = crc32fast::hash(&bytes[512..512 + 92]);
    bytes[512 + 16..512 + 20].copy_from_slice(&header.to_le_bytes());
}
