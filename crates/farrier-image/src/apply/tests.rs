mod damage;
mod interrupted;
mod random_disks;
mod traffic;

use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use proptest::prelude::*;

use super::*;
use crate::capture::{self, CaptureError, CaptureOptions};
use crate::chunk::{CHUNK_SIZE, ChunkId, StoredChunk};
use crate::device::{Access, FileDevice, MemDevice};
use crate::disk::DiskError;
use crate::manifest::VolumeKind;
use crate::patch::{Changed, Held};
use crate::testing::{MemStore, noise, run, run_any, sparse, tool, tree};
use crate::transport::{Progress, Unwatched};

const MIB: u64 = 1 << 20;

fn options() -> CaptureOptions {
    CaptureOptions {
        threads: 3,
        ..CaptureOptions::new("golden".parse().unwrap())
    }
}

fn take(device: &dyn BlockDevice, store: &MemStore) -> Manifest {
    let plan = capture::plan(device, &options()).unwrap();
    let captured = capture::capture(device, &plan, store, &Unwatched).unwrap();
    store.open(&captured.signed)
}

fn go(
    device: &dyn BlockDevice,
    manifest: &Manifest,
    mode: Mode,
    store: &dyn ChunkSource,
) -> Result<Applied, ApplyError> {
    let plan = plan(device, manifest, mode)?;
    apply(device, manifest, &plan, store, &Unwatched)
}

/// A disk of `mib` MiB with an MBR, one raw partition from 1 MiB, and given content in it.
fn raw_disk(mib: u64, content: &[u8]) -> MemDevice {
    let disk = MemDevice::new(mib * MIB);
    let mut mbr = [0; 512];
    mbr[446 + 4] = 0x83;
    mbr[446 + 8..446 + 12].copy_from_slice(&2048_u32.to_le_bytes());
    mbr[446 + 12..446 + 16].copy_from_slice(&((mib - 1) as u32 * 2048).to_le_bytes());
    mbr[510..].copy_from_slice(&[0x55, 0xaa]);
    disk.write_at(0, &mbr).unwrap();
    disk.write_at(MIB, content).unwrap();
    disk
}

fn content(device: &dyn BlockDevice) -> Vec<u8> {
    let mut bytes = vec![0; device.size() as usize];
    device.read_at(0, &mut bytes).unwrap();
    bytes
}

/// A GPT disk in a file: ESP with files, ext4 with a tree, swap. Nothing when a tool is missing.
fn real_disk(dir: &std::path::Path) -> Option<FileDevice> {
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let (disk, esp, root, swap, files) = (
        path("disk"),
        path("esp"),
        path("root"),
        path("swap"),
        path("files"),
    );
    tree(files.as_ref(), 24);
    // A program, as systems have many of them: it compresses neither well nor badly.
    let mut program = std::fs::read("/proc/self/exe").unwrap();
    program.truncate(24 << 20);
    std::fs::write(format!("{files}/program"), program).unwrap();
    sparse(disk.as_ref(), 160 * MIB);
    run(
        "sgdisk",
        &[
            "-n1:2048:+33M",
            "-t1:ef00",
            "-n2:0:+100M",
            "-n3:0:+8M",
            "-t3:8200",
            &disk,
        ],
    )?;
    for (file, mib) in [(&esp, 33), (&root, 100), (&swap, 8)] {
        sparse(file.as_ref(), mib * MIB);
    }
    run("mkfs.fat", &["-F", "32", "-n", "ESP", &esp])?;
    run("mcopy", &["-i", &esp, &path("files/file-1.bin"), "::"])?;
    run(
        "mke2fs",
        &["-q", "-F", "-t", "ext4", "-L", "root", "-d", &files, &root],
    )?;
    run("mkswap", &[&swap])?;
    let device = FileDevice::open(&disk, Access::ReadWrite).unwrap();
    for (file, at) in [(&esp, 1), (&root, 34), (&swap, 134)] {
        device
            .write_at(at * MIB, &std::fs::read(file).unwrap())
            .unwrap();
    }
    Some(device)
}

/// Cuts a partition out of a disk and has its own checker look at it.
fn check_partition(disk: &dyn BlockDevice, at_mib: u64, mib: u64, checker: &[&str]) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut bytes = vec![0; (mib * MIB) as usize];
    disk.read_at(at_mib * MIB, &mut bytes).unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let mut arguments = checker[1..].to_vec();
    arguments.push(file.path().to_str().unwrap());
    run(checker[0], &arguments);
}

#[test]
fn a_real_disk_is_captured_deployed_changed_and_repaired() {
    let dir = tempfile::tempdir().unwrap();
    let Some(source) = real_disk(dir.path()) else {
        return;
    };
    let store = MemStore::new();
    let plan = capture::plan(&source, &options()).unwrap();
    let kinds: Vec<_> = plan.volumes.iter().map(|v| (v.kind, v.partition)).collect();
    use VolumeKind::{Ext, Fat, Gap, Swap};
    assert_eq!(
        kinds,
        [(Gap, None), (Fat, Some(1)), (Ext, Some(2)), (Swap, Some(3))]
    );
    assert_eq!(plan.warnings, Vec::<String>::new());
    let manifest = take(&source, &store);

    // To a larger disk full of something else.
    let target_path = dir.path().join("target");
    std::fs::write(&target_path, noise(5, 180 << 20)).unwrap();
    let target = FileDevice::open(&target_path, Access::ReadWrite).unwrap();
    let applied = go(&target, &manifest, Mode::Deploy, &store).unwrap();
    assert!(applied.proven);
    assert_eq!(applied.root, manifest.root().unwrap());
    assert!(
        applied.written_bytes <= manifest.used_bytes() + 64 * 1024,
        "writes only what is in use"
    );
    let (status, text) = run_any("sgdisk", &["-v", target_path.to_str().unwrap()]).unwrap();
    assert!(status == 0 && text.contains("No problems found"), "{text}");
    check_partition(&target, 1, 33, &["fsck.fat", "-n"]);
    check_partition(&target, 34, 100, &["e2fsck", "-fn"]);

    // Nothing to do.
    let verified = go(&target, &manifest, Mode::Verify, &NoSource).unwrap();
    assert!(verified.proven && verified.different.is_empty());
    let again = go(&target, &manifest, Mode::Repair, &NoSource).unwrap();
    assert_eq!(
        (again.written_bytes, again.fetched_bytes, again.proven),
        (0, 0, true)
    );

    // A damaged block: found, then fetched alone.
    let volume = &manifest.volumes[2];
    let named = |chunk: &u64| volume.chunks[*chunk as usize].is_some();
    let chunk = masked(volume)
        .used_chunks()
        .into_iter()
        .rfind(named)
        .unwrap();
    let mut ranges = vec![];
    masked(volume).used_ranges(chunk, &mut ranges);
    let at = masked(volume).chunk_at(chunk) + ranges[0].start as u64;
    target.write_at(at + 5, b"vandal").unwrap();
    let verified = go(&target, &manifest, Mode::Verify, &NoSource).unwrap();
    assert_eq!(
        (
            verified.different.len(),
            verified.proven,
            verified.table_differed
        ),
        (1, false, false)
    );
    let repaired = go(&target, &manifest, Mode::Repair, &store).unwrap();
    assert_eq!((repaired.fetched_chunks, repaired.proven), (1, true));
    assert!(repaired.written_bytes < 48 * 1024, "one page and the table");
    // A lost table: restored without a chunk.
    target.write_zeroes_at(0, 34 * 512).unwrap();
    let repaired = go(&target, &manifest, Mode::Repair, &NoSource).unwrap();
    assert_eq!(
        (
            repaired.table_differed,
            repaired.fetched_chunks,
            repaired.proven
        ),
        (true, 0, true)
    );

    // A second capture of the copy sends nothing and names the same content.
    let puts = store.puts.load(Ordering::Relaxed);
    let second = take(&target, &store);
    assert_eq!(store.puts.load(Ordering::Relaxed), puts);
    assert_eq!(second.volumes, manifest.volumes);
}

#[test]
fn r18_refusals_come_before_any_write() {
    let source = raw_disk(8, &noise(8, 6 << 20));
    let store = MemStore::new();
    let manifest = take(&source, &store);
    let small = MemDevice::new(7 * MIB);
    let error = go(&small, &manifest, Mode::Deploy, &store).unwrap_err();
    assert!(
        matches!(&error, ApplyError::Unfit(DiskError::TooSmall { .. })),
        "{error}"
    );
    let sectors = MemDevice::new(9 * MIB).with_sector(4096);
    let error = go(&sectors, &manifest, Mode::Deploy, &store).unwrap_err();
    assert!(matches!(
        error,
        ApplyError::Unfit(DiskError::SectorSize { .. })
    ));
    let planned = plan(&MemDevice::new(9 * MIB), &manifest, Mode::Deploy).unwrap();
    let other = MemDevice::new(10 * MIB);
    let error = apply(&other, &manifest, &planned, &store, &Unwatched).unwrap_err();
    assert!(matches!(error, ApplyError::Changed { .. }));
    let unread = MemDevice::new(9 * MIB);
    unread.fail_reads(2 * MIB, 512);
    let error = go(&unread, &manifest, Mode::Repair, &store).unwrap_err();
    assert!(matches!(error, ApplyError::Read { .. }));
    for device in [small, sectors, other, unread] {
        assert_eq!(device.bytes_written(), 0);
    }
}

#[test]
fn verify_writes_nothing_and_needs_no_source() {
    let source = raw_disk(8, &noise(8, 6 << 20));
    let store = MemStore::new();
    let manifest = take(&source, &store);
    let target = MemDevice::new(8 * MIB);
    let verified = go(&target, &manifest, Mode::Verify, &NoSource).unwrap();
    assert_eq!(
        (
            verified.different.len(),
            verified.table_differed,
            verified.proven
        ),
        (24, true, false)
    );
    assert_eq!(target.bytes_written(), 0);
}

/// partclone's own restore of the same volume is the second opinion about content.
#[test]
fn deployed_ext_volume_mounts_the_same_files_as_debugfs_sees() {
    let dir = tempfile::tempdir().unwrap();
    let Some(source) = real_disk(dir.path()) else {
        return;
    };
    if tool("debugfs").is_none() {
        return;
    }
    let store = MemStore::new();
    let manifest = take(&source, &store);
    let target = MemDevice::new(160 * MIB);
    go(&target, &manifest, Mode::Deploy, &store).unwrap();
    let root = dir.path().join("copy");
    let mut bytes = vec![0; 100 << 20];
    target.read_at(34 * MIB, &mut bytes).unwrap();
    std::fs::write(&root, bytes).unwrap();
    for i in (0..96).step_by(7) {
        let name = if i % 3 == 0 {
            format!("deep/er/file-{i}.bin")
        } else {
            format!("file-{i}.bin")
        };
        let out = dir.path().join("out");
        run(
            "debugfs",
            &[
                "-R",
                &format!("dump /{name} {}", out.display()),
                root.to_str().unwrap(),
            ],
        );
        assert!(
            std::fs::read(&out).unwrap()
                == std::fs::read(dir.path().join("files").join(&name)).unwrap()
        );
    }
}
