use std::path::Path;

use super::*;
use crate::device::{Access, FileDevice, MemDevice};
use crate::testing::{noise, run, run_any, sparse, tool, tree};

fn map_file(path: &Path) -> FsMap {
    let device = FileDevice::open(path, Access::ReadOnly).unwrap();
    map(Window::new(&device, 0, device.size()), Unclean::Refuse).unwrap()
}

fn used_blocks(map: &FsMap) -> u64 {
    map.used.iter().map(|run| run.count).sum()
}

/// Copies only what the map says is used to a file that holds something else in many places.
fn copy_used(from: &Path, to: &Path, map: &FsMap) {
    let source = FileDevice::open(from, Access::ReadOnly).unwrap();
    sparse(to, source.size());
    let target = FileDevice::open(to, Access::ReadWrite).unwrap();
    let garbage = noise(99, 1 << 20);
    for offset in (0..source.size()).step_by(8 * garbage.len()) {
        let len = (source.size() - offset).min(garbage.len() as u64) as usize;
        target.write_at(offset, &garbage[..len]).unwrap();
    }
    for run in &map.used {
        let start = run.first * u64::from(map.block_bytes);
        let end = ((run.first + run.count) * u64::from(map.block_bytes)).min(source.size());
        for offset in (start..end).step_by(1 << 20) {
            let mut bytes = vec![0; (end - offset).min(1 << 20) as usize];
            source.read_at(offset, &mut bytes).unwrap();
            target.write_at(offset, &bytes).unwrap();
        }
    }
}

fn dumped(text: &str, field: &str) -> u64 {
    let line = text.lines().find(|line| line.starts_with(field)).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// Makes an ext file system with content, compares with dumpe2fs, and has e2fsck look at a copy of only
/// the used blocks.
fn check_ext(options: &[&str], size_mib: u64) {
    let dir = tempfile::tempdir().unwrap();
    let (image, copy, files) = (
        dir.path().join("fs"),
        dir.path().join("copy"),
        dir.path().join("files"),
    );
    tree(&files, 6);
    sparse(&image, size_mib << 20);
    let (image_text, files_text) = (image.to_str().unwrap(), files.to_str().unwrap());
    let mut arguments = vec!["-q", "-F", "-L", "root", "-d", files_text];
    arguments.extend(options);
    arguments.push(image_text);
    if run("mke2fs", &arguments).is_none() {
        return;
    }
    run("debugfs", &["-w", "-R", "rm /file-1.bin", image_text]);
    run_any("e2fsck", &["-fy", image_text]);
    let map = map_file(&image);
    assert_eq!(
        (map.kind, map.note.clone(), map.label.as_str()),
        (VolumeKind::Ext, None, "root"),
        "{options:?}"
    );
    let dump = run("dumpe2fs", &["-h", image_text]).unwrap();
    assert!(dump.contains(&map.fs_uuid), "{options:?}");
    let boot_block = dumped(&dump, "First block:");
    let expected = dumped(&dump, "Block count:") - dumped(&dump, "Free blocks:");
    // Block 0 of a file system with 1 KiB blocks is counted among the used ones by its tools, too.
    assert_eq!(
        used_blocks(&map),
        expected,
        "{options:?} (first block {boot_block})"
    );
    copy_used(&image, &copy, &map);
    run("e2fsck", &["-fn", copy.to_str().unwrap()]);
    let listed = run(
        "debugfs",
        &["-R", "cat /deep/er/file-0.bin", copy.to_str().unwrap()],
    )
    .unwrap();
    assert!(listed.len() > 1000);
}

#[test]
fn ext_maps_agree_with_dumpe2fs_and_their_copies_pass_e2fsck() {
    for (options, mib) in [
        (vec!["-t", "ext4"], 64),
        (vec!["-t", "ext2"], 64),
        (vec!["-t", "ext3", "-b", "1024"], 64),
        (vec!["-t", "ext4", "-b", "1024", "-O", "64bit"], 80),
        (
            vec!["-t", "ext4", "-b", "2048", "-O", "^64bit,^metadata_csum"],
            64,
        ),
        (
            vec!["-t", "ext4", "-O", "^flex_bg", "-E", "lazy_itable_init=1"],
            270,
        ),
        (vec!["-t", "ext4", "-O", "meta_bg,^resize_inode"], 270),
        (
            vec![
                "-t",
                "ext4",
                "-b",
                "1024",
                "-O",
                "meta_bg,^resize_inode,^flex_bg",
            ],
            290,
        ),
        (vec!["-t", "ext4", "-O", "sparse_super2"], 270),
        (vec!["-t", "ext2", "-O", "^sparse_super,^resize_inode"], 270),
        (vec!["-t", "ext4", "-O", "bigalloc", "-C", "65536"], 270),
        (
            vec![
                "-t",
                "ext4",
                "-O",
                "mmp,project,quota,inline_data,large_dir",
            ],
            128,
        ),
    ] {
        check_ext(&options, mib);
    }
}

/// partclone's own reader is the second opinion on how many blocks matter.
#[test]
fn ext_map_keeps_what_partclone_keeps() {
    if tool("partclone.ext4").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (image, files, log) = (
        dir.path().join("fs"),
        dir.path().join("files"),
        dir.path().join("log"),
    );
    tree(&files, 6);
    sparse(&image, 256 << 20);
    let image_text = image.to_str().unwrap();
    run(
        "mke2fs",
        &[
            "-q",
            "-F",
            "-t",
            "ext4",
            "-d",
            files.to_str().unwrap(),
            image_text,
        ],
    )
    .unwrap();
    let map = map_file(&image);
    let stream = dir.path().join("stream");
    let text = run(
        "partclone.ext4",
        &[
            "-c",
            "-F",
            "-a0",
            "-L",
            log.to_str().unwrap(),
            "-s",
            image_text,
            "-o",
            stream.to_str().unwrap(),
        ],
    );
    let text = text.unwrap();
    let line = text
        .lines()
        .rev()
        .find(|line| line.contains("Space in use:"))
        .unwrap();
    let blocks: u64 = line
        .split_whitespace()
        .rev()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(used_blocks(&map), blocks, "{line}");
}

fn small_ext() -> Option<(tempfile::TempDir, Vec<u8>)> {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("fs");
    sparse(&image, 16 << 20);
    run(
        "mke2fs",
        &["-q", "-F", "-t", "ext4", image.to_str().unwrap()],
    )?;
    let bytes = std::fs::read(&image).unwrap();
    Some((dir, bytes))
}

fn map_bytes(bytes: &[u8], unclean: Unclean) -> Result<FsMap, FsError> {
    let device = MemDevice::with_content(bytes);
    map(Window::new(&device, 0, device.size()), unclean)
}

#[test]
fn ext_with_unknown_feature_wrong_count_or_impossible_value_is_taken_raw() {
    let Some((_dir, good)) = small_ext() else {
        return;
    };
    assert_eq!(
        map_bytes(&good, Unclean::Refuse).unwrap().kind,
        VolumeKind::Ext
    );
    // (name, position in the superblock, value)
    let rows: [(&str, usize, &[u8]); 8] = [
        ("unknown incompat bit", 98, &[0x80]),
        ("compression", 96, &[0xc3]),
        ("unknown ro_compat bit", 103, &[0x80]),
        ("wrong free count", 12, &[1, 0]),
        ("larger than its partition", 4, &[0xff, 0xff, 0xff, 0x7f]),
        ("no blocks per group", 32, &[0, 0, 0, 0]),
        ("block size 2^60", 24, &[50]),
        ("descriptor size 0", 254, &[0, 0]),
    ];
    for (name, at, value) in rows {
        let mut bytes = good.clone();
        bytes[1024 + at..1024 + at + value.len()].copy_from_slice(value);
        let map = map_bytes(&bytes, Unclean::Refuse).unwrap();
        assert_eq!(map.kind, VolumeKind::Raw, "{name}");
        assert_eq!(used_blocks(&map) * 512, bytes.len() as u64, "{name}");
        assert!(map.note.is_some(), "{name}");
    }
}

#[test]
fn ext_with_unreplayed_journal_is_refused_unless_raw_is_asked_for() {
    let Some((_dir, mut bytes)) = small_ext() else {
        return;
    };
    bytes[1024 + 96] |= 0x4;
    let error = map_bytes(&bytes, Unclean::Refuse).unwrap_err();
    assert!(matches!(error, FsError::Unclean { .. }));
    assert!(
        error
            .to_string()
            .contains("has a journal that was not replayed; start the machine and shut it down")
    );
    assert_eq!(
        map_bytes(&bytes, Unclean::TakeRaw).unwrap().kind,
        VolumeKind::Raw
    );
}

/// No value of a superblock or descriptor may panic or hang the reader.
#[test]
fn t16_hostile_ext_never_panics() {
    let Some((_dir, good)) = small_ext() else {
        return;
    };
    let device = MemDevice::with_content(&good);
    for seed in 0..3000_u64 {
        let random = noise(seed, 8);
        let at = u64::from(u16::from_le_bytes([random[0], random[1]])) % 4096;
        let at = if seed % 4 == 0 {
            4096 + at
        } else {
            1024 + at % 1024
        };
        device.write_at(at, &random[2..6]).unwrap();
        if let Ok(map) = map(Window::new(&device, 0, device.size()), Unclean::TakeRaw) {
            let end = map.used.last().map_or(0, |run| run.first + run.count);
            assert!(
                end <= (good.len() as u64).div_ceil(u64::from(map.block_bytes)),
                "seed {seed}"
            );
        }
        device
            .write_at(at, &good[at as usize..at as usize + 4])
            .unwrap();
    }
}

fn check_fat(options: &[&str], size: u64) {
    let dir = tempfile::tempdir().unwrap();
    let (image, copy, files) = (
        dir.path().join("fs"),
        dir.path().join("copy"),
        dir.path().join("files"),
    );
    std::fs::create_dir(&files).unwrap();
    sparse(&image, size);
    let image_text = image.to_str().unwrap();
    let mut arguments = vec!["-n", "EFI BOOT", "-i", "1234ABCD"];
    arguments.extend(options);
    arguments.push(image_text);
    if run("mkfs.fat", &arguments).is_none() {
        return;
    }
    let mut held = 0;
    for i in 0..6_u64 {
        let len = (size as usize / 40).min(300_000 * (i as usize + 1));
        std::fs::write(files.join(format!("f{i}")), noise(i, len)).unwrap();
        held += len as u64;
        let from = files.join(format!("f{i}"));
        if run("mcopy", &["-i", image_text, from.to_str().unwrap(), "::"]).is_none() {
            return;
        }
    }
    run("mdel", &["-i", image_text, "::f2"]);
    let map = map_file(&image);
    assert_eq!(
        (map.kind, map.note.clone()),
        (VolumeKind::Fat, None),
        "{options:?}"
    );
    assert_eq!(
        (map.label.as_str(), map.fs_uuid.as_str()),
        ("EFI BOOT", "1234-ABCD")
    );
    let used = used_blocks(&map) * u64::from(map.block_bytes);
    assert!(
        used < size / 2 && used > held / 2,
        "{options:?}: {used} of {size}"
    );
    copy_used(&image, &copy, &map);
    run("fsck.fat", &["-n", copy.to_str().unwrap()]);
    run("mdel", &["-i", copy.to_str().unwrap(), "::f0"]);
    let text = run("fsck.fat", &["-n", "-v", image_text]).unwrap();
    let clusters: u64 = text
        .lines()
        .find_map(|l| l.split(" files, ").nth(1))
        .unwrap()
        .split('/')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let per_cluster: u64 = text
        .lines()
        .find(|l| l.contains("bytes per cluster"))
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let data_at: u64 = text
        .lines()
        .find(|l| l.contains("Data area starts at byte"))
        .unwrap()
        .split_whitespace()
        .nth(5)
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(
        used,
        data_at + clusters * per_cluster,
        "{options:?}\n{text}"
    );
}

#[test]
fn fat_maps_agree_with_fsck_and_their_copies_are_clean() {
    check_fat(&["-F", "12"], 4 << 20);
    check_fat(&["-F", "16"], 64 << 20);
    check_fat(&["-F", "16", "-S", "4096"], 128 << 20);
    check_fat(&["-F", "32"], 64 << 20);
    check_fat(&["-F", "32", "-s", "2"], 100 << 20);
}

#[test]
fn fat_with_differing_tables_or_dirty_flag_is_taken_raw() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("fs");
    sparse(&image, 64 << 20);
    if run("mkfs.fat", &["-F", "32", image.to_str().unwrap()]).is_none() {
        return;
    }
    let good = std::fs::read(&image).unwrap();
    assert_eq!(
        map_bytes(&good, Unclean::Refuse).unwrap().kind,
        VolumeKind::Fat
    );
    let reserved = usize::from(u16::from_le_bytes([good[14], good[15]])) * 512;
    // (name, position, value): second entry's "clean" bit, a chain out of the volume, Linux's dirty flag
    for (name, at, value) in [
        ("shut", reserved + 7, 0x07),
        ("chain", reserved + 15, 0x01),
        ("linux", 65, 1),
    ] {
        let mut bytes = good.clone();
        bytes[at] = value;
        let map = map_bytes(&bytes, Unclean::Refuse).unwrap();
        assert_eq!(map.kind, VolumeKind::Raw, "{name}");
    }
}

#[test]
fn swap_keeps_its_header_only_and_a_sleeping_system_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("swap");
    sparse(&image, 8 << 20);
    let uuid = "0b0e1b4e-1fd3-4f3a-9d55-0f5c1d2e3a4b";
    if run(
        "mkswap",
        &["-L", "paging", "-U", uuid, image.to_str().unwrap()],
    )
    .is_none()
    {
        return;
    }
    let map = map_file(&image);
    assert_eq!(
        (map.kind, map.label.as_str(), map.fs_uuid.as_str()),
        (VolumeKind::Swap, "paging", uuid)
    );
    assert_eq!(map.used, [Run { first: 0, count: 1 }]);
    let mut bytes = std::fs::read(&image).unwrap();
    bytes[4086..4095].copy_from_slice(b"S1SUSPEND");
    bytes[4095] = 0;
    assert!(matches!(
        map_bytes(&bytes, Unclean::Refuse),
        Err(FsError::Unclean { .. })
    ));
}

#[test]
fn unknown_content_is_raw_and_named_when_known() {
    let mut bytes = vec![0; 1 << 20];
    assert_eq!(map_bytes(&bytes, Unclean::Refuse).unwrap().note, None);
    bytes[3..11].copy_from_slice(b"NTFS    ");
    let map = map_bytes(&bytes, Unclean::Refuse).unwrap();
    assert_eq!(map.kind, VolumeKind::Raw);
    assert!(map.note.unwrap().starts_with("an NTFS volume"));
}
