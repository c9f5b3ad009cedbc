use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use proptest::prelude::*;

use super::*;
use crate::capture::{self, CaptureError, CaptureOptions};
use crate::chunk::{CHUNK_SIZE, ChunkId, StoredChunk};
use crate::device::{Access, FileDevice, MemDevice};
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
fn overwriting_5_percent_of_random_blocks_fetches_below_10_percent() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = real_disk(dir.path()) else {
        return;
    };
    let store = MemStore::new();
    let manifest = take(&disk, &store);
    // A block here is a chunk of 256 KiB: damage spread as single sectors touches more chunks than
    // blocks, and what is fetched grows with it.
    let tally = Tally::new(&Unwatched);
    let run = Run::new(&disk, &manifest, &tally);
    let mut order: Vec<usize> = (0..run.units.len()).collect();
    order.sort_by_key(|index| noise(*index as u64, 8));
    let damaged = run.units.len() / 20;
    for index in &order[..damaged] {
        let volume = &run.volumes[run.units[*index].volume];
        let chunk = run.units[*index].chunk;
        disk.write_at(
            volume.chunk_at(chunk),
            &noise(*index as u64, volume.chunk_len(chunk)),
        )
        .unwrap();
    }
    let repaired = go(&disk, &manifest, Mode::Repair, &store).unwrap();
    assert!(repaired.proven);
    let share = repaired.fetched_bytes as f64 / store.stored_bytes() as f64;
    assert!(
        share < 0.10,
        "{share} of the image was fetched for {damaged} damaged chunks"
    );
    check_partition(&disk, 34, 100, &["e2fsck", "-fn"]);
}

/// Damage as a failing disk or a careless tool makes it: single blocks all over the disk. Counted is what
/// moves in both directions.
#[test]
fn overwriting_5_percent_of_random_4_kib_blocks_moves_below_10_percent() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = real_disk(dir.path()) else {
        return;
    };
    let store = MemStore::new();
    let manifest = take(&disk, &store);
    let mut used: Vec<u64> = vec![];
    let mut ranges = vec![];
    let tally = Tally::new(&Unwatched);
    let run = Run::new(&disk, &manifest, &tally);
    for unit in &run.units {
        let volume = &run.volumes[unit.volume];
        volume.used_ranges(unit.chunk, &mut ranges);
        let blocks = ranges.iter().flat_map(|r| r.clone().step_by(4096));
        used.extend(blocks.map(|at| volume.chunk_at(unit.chunk) + at as u64));
    }
    used.sort_by_key(|at| noise(*at, 8));
    let damaged = used.len() / 20;
    assert!(damaged > 500, "{damaged} blocks are no sample");
    for at in &used[..damaged] {
        disk.write_at(*at, &noise(*at, 512)).unwrap();
    }
    let repaired = go(&disk, &manifest, Mode::Repair, &store).unwrap();
    assert!(repaired.proven);
    let share = repaired.fetched_bytes as f64 / store.stored_bytes() as f64;
    assert!(
        share < 0.10,
        "{share} of the image was moved for {damaged} damaged blocks, {} of {} chunks as patches",
        repaired.patched_chunks,
        repaired.fetched_chunks
    );
    check_partition(&disk, 34, 100, &["e2fsck", "-fn"]);
}

/// Counts what is asked for, and how.
struct Counting<'a> {
    store: &'a MemStore,
    whole: AtomicUsize,
    told: AtomicUsize,
}

impl ChunkSource for Counting<'_> {
    fn fetch(
        &self,
        ids: &[ChunkId],
        deliver: &mut dyn FnMut(StoredChunk) -> bool,
    ) -> Result<(), TransportError> {
        self.whole.fetch_add(ids.len(), Ordering::Relaxed);
        self.store.fetch(ids, deliver)
    }

    fn patches(&self) -> bool {
        true
    }

    fn fetch_changed(
        &self,
        held: &[Held],
        deliver: &mut dyn FnMut(Changed) -> bool,
    ) -> Result<(), TransportError> {
        self.told.fetch_add(held.len(), Ordering::Relaxed);
        self.store.fetch_changed(held, deliver)
    }
}

#[test]
fn blank_places_are_fetched_whole_and_damaged_ones_as_patches() {
    const CHUNKS: usize = 12;
    let disk = raw_disk(4, &noise(3, CHUNKS * CHUNK_SIZE));
    let store = MemStore::new();
    let manifest = take(&disk, &store);
    for chunk in 0..CHUNKS as u64 {
        let at = MIB + chunk * CHUNK_SIZE as u64;
        match chunk % 3 {
            0 => disk.write_zeroes_at(at, CHUNK_SIZE as u64).unwrap(),
            1 => disk.write_at(at + 8192, &[1; 4096]).unwrap(),
            _ => {}
        }
    }
    let source = Counting {
        store: &store,
        whole: AtomicUsize::new(0),
        told: AtomicUsize::new(0),
    };
    let plan = plan(&disk, &manifest, Mode::Repair).unwrap();
    let repaired = apply(&disk, &manifest, &plan, &source, &Unwatched).unwrap();
    assert!(repaired.proven);
    assert_eq!(repaired.fetched_chunks, 8);
    assert_eq!(repaired.patched_chunks, 4);
    assert_eq!(source.whole.into_inner(), 4);
    assert_eq!(source.told.into_inner(), 4);
}

/// A source whose patches are well formed and wrong.
struct Lying<'a> {
    whole: &'a MemStore,
    patches: &'a MemStore,
    lies: AtomicUsize,
}

impl ChunkSource for Lying<'_> {
    fn fetch(
        &self,
        ids: &[ChunkId],
        deliver: &mut dyn FnMut(StoredChunk) -> bool,
    ) -> Result<(), TransportError> {
        self.whole.fetch(ids, deliver)
    }

    fn patches(&self) -> bool {
        true
    }

    fn fetch_changed(
        &self,
        held: &[Held],
        deliver: &mut dyn FnMut(Changed) -> bool,
    ) -> Result<(), TransportError> {
        self.patches.fetch_changed(held, &mut |changed| {
            let Changed::Patch(mut patch) = changed else {
                return deliver(changed);
            };
            self.lies.fetch_add(1, Ordering::Relaxed);
            match patch.id.0[0] % 3 {
                0 => patch.changed = patch.changed.rotate_left(1),
                1 => patch.frame = StoredChunk::pack(&[0; 4096], 1).frame,
                _ => patch.frame = patch.frame.slice(1..),
            }
            deliver(Changed::Patch(patch))
        })
    }
}

#[test]
fn t14_a_lying_patch_never_reaches_the_disk_and_the_whole_chunk_is_fetched() {
    let source = raw_disk(40, &noise(3, 30 << 20));
    let (good, bad) = (MemStore::new(), MemStore::new());
    let manifest = take(&source, &good);
    for (id, chunk) in good.chunks.lock().unwrap().iter() {
        let mut chunk = chunk.clone();
        chunk.frame = StoredChunk::pack(b"other content", 1).frame;
        bad.chunks.lock().unwrap().insert(*id, chunk);
    }
    let lying = |whole| Lying {
        whole,
        patches: &good,
        lies: AtomicUsize::new(0),
    };
    let target = MemDevice::with_content(&content(&source));
    for n in 0..100 {
        target.write_at(2 * MIB + n * 270_336, b"vandal").unwrap();
    }
    let before = content(&target);

    // With the whole chunks damaged as well, the run fails, and nothing but the table was touched.
    let error = go(&target, &manifest, Mode::Repair, &lying(&bad)).unwrap_err();
    let is_bad = matches!(error, ApplyError::Fetch(TransportError::BadChunk { .. }));
    assert!(is_bad, "{error}");
    let volume = 2 * MIB as usize..39 * MIB as usize;
    let found = &content(&target)[volume.clone()];
    assert!(found == &before[volume], "a lying patch was written");

    // With good whole chunks the same lies only cost a second fetch.
    let lying = lying(&good);
    let repaired = go(&target, &manifest, Mode::Repair, &lying).unwrap();
    assert!(repaired.proven && lying.lies.load(Ordering::Relaxed) >= 90);
    assert!(content(&target) == content(&source));
}

#[test]
fn between_versions_that_share_no_blocks_the_disk_is_hardly_asked() {
    let store = MemStore::new();
    let source = raw_disk(400, &noise(3, 380 << 20));
    let manifest = take(&source, &store);
    let target = raw_disk(400, &noise(4, 380 << 20));
    let repaired = go(&target, &manifest, Mode::Repair, &store).unwrap();
    assert_eq!((repaired.proven, repaired.patched_chunks), (true, 0));
    let told = repaired.fetched_bytes - store.stored_bytes();
    let all = repaired.fetched_chunks * Held::of(ChunkId([0; 32]), &[0; CHUNK_SIZE]).wire_bytes();
    assert!(told > 0 && told * 2 < all, "{told} of {all}");
}

/// A source that flips a bit in some chunks, for ever or only the first time.
struct Corrupting<'a> {
    store: &'a MemStore,
    seen: Mutex<std::collections::HashSet<ChunkId>>,
    for_ever: bool,
}

impl ChunkSource for Corrupting<'_> {
    fn fetch(
        &self,
        ids: &[ChunkId],
        deliver: &mut dyn FnMut(StoredChunk) -> bool,
    ) -> Result<(), TransportError> {
        self.store.fetch(ids, &mut |mut chunk| {
            let first = self.seen.lock().unwrap().insert(chunk.id);
            if chunk.id.0[0] < 64 && (first || self.for_ever) {
                // Another chunk's perfectly good frame under this name.
                chunk.frame = StoredChunk::pack(b"other content", 1).frame;
            }
            deliver(chunk)
        })
    }
}

#[test]
fn t14_a_corrupt_chunk_never_reaches_the_disk_and_the_wire_gets_another_chance() {
    let data = noise(3, 30 << 20);
    let source = raw_disk(40, &data);
    let store = MemStore::new();
    let manifest = take(&source, &store);
    let target = MemDevice::new(40 * MIB);
    let healing = Corrupting {
        store: &store,
        seen: Mutex::default(),
        for_ever: false,
    };
    assert!(
        go(&target, &manifest, Mode::Deploy, &healing)
            .unwrap()
            .proven
    );
    assert!(content(&target) == content(&source));

    let target = MemDevice::new(40 * MIB);
    let bad = Corrupting {
        store: &store,
        seen: Mutex::default(),
        for_ever: true,
    };
    let error = go(&target, &manifest, Mode::Deploy, &bad).unwrap_err();
    let ApplyError::Fetch(TransportError::BadChunk { id, .. }) = &error else {
        panic!("{error}")
    };
    assert!(id.0[0] < 64 && !error.may_retry());
    let (found, wanted) = (content(&target), content(&source));
    let blocks = found.chunks(CHUNK_SIZE).zip(wanted.chunks(CHUNK_SIZE));
    assert!(
        blocks
            .clone()
            .all(|(found, wanted)| found == wanted || found.iter().all(|b| *b == 0))
    );
    assert_eq!(
        disk::read(&target).unwrap().table,
        Table::None,
        "the disk does not look whole"
    );
}

/// Power is cut after every possible number of writes; the disk never looks whole before it is, and a
/// repair always ends proven.
#[test]
fn r2_killed_at_any_write_then_repaired_is_proven() {
    let source = raw_disk(6, &noise(8, 3 << 20));
    let store = MemStore::new();
    let manifest = take(&source, &store);
    let target = raw_disk(6, &noise(9, 5 << 20));
    for writes in 0.. {
        target.fail_writes_after(Some(writes));
        let result = go(&target, &manifest, Mode::Deploy, &store);
        target.fail_writes_after(None);
        if result.is_ok() {
            assert!(writes > 10, "the loop saw {writes} writes only");
            break;
        }
        assert!(result.unwrap_err().may_retry());
        if writes > 0 {
            assert_eq!(
                disk::read(&target).unwrap().table,
                Table::None,
                "after {writes} writes"
            );
        }
        let repaired = go(&target, &manifest, Mode::Repair, &store).unwrap();
        assert!(repaired.proven);
        assert!(
            content(&target) == content(&source),
            "after {writes} writes"
        );
        target.write_at(MIB, &noise(writes, 5 << 20)).unwrap();
    }
}

#[test]
fn a_disk_that_loses_writes_is_never_proven() {
    let source = raw_disk(8, &noise(8, 6 << 20));
    let store = MemStore::new();
    let manifest = take(&source, &store);
    let target = MemDevice::new(8 * MIB);
    target.lose_writes(3 * MIB, 512);
    let error = go(&target, &manifest, Mode::Deploy, &store).unwrap_err();
    assert!(
        matches!(error, ApplyError::Unproven { chunks: 1, offset } if offset == 3 * MIB),
        "{error}"
    );
    assert_eq!(disk::read(&target).unwrap().table, Table::None);
    let target = MemDevice::new(8 * MIB);
    target.lose_writes(0, 512);
    let error = go(&target, &manifest, Mode::Deploy, &store).unwrap_err();
    assert!(matches!(error, ApplyError::TableUnproven));
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

#[test]
fn repair_copies_what_the_disk_holds_elsewhere() {
    let half = noise(4, 4 << 20);
    let source = raw_disk(10, &[half.clone(), half].concat());
    let store = MemStore::new();
    let manifest = take(&source, &store);
    source.write_zeroes_at(MIB, 2 * MIB).unwrap();
    let repaired = go(&source, &manifest, Mode::Repair, &NoSource).unwrap();
    assert_eq!((repaired.fetched_chunks, repaired.proven), (0, true));
    assert_eq!(repaired.different.len(), 8);
}

#[test]
fn r2_capture_and_deploy_outlive_a_server_that_restarts() {
    let source = raw_disk(40, &noise(3, 30 << 20));
    let store = MemStore::new();
    store.flaky.store(5, Ordering::Relaxed);
    let manifest = take(&source, &store);
    store.flaky.store(97, Ordering::Relaxed);
    let target = MemDevice::new(40 * MIB);
    let applied = go(&target, &manifest, Mode::Deploy, &store).unwrap();
    assert_eq!(
        applied.fetched_chunks, 120,
        "what came before the break is not fetched again"
    );
    assert!(content(&target) == content(&source));
}

/// Says stop after some calls.
struct Stopper {
    calls: AtomicUsize,
    after: usize,
    seen: Mutex<Vec<Progress>>,
}

impl Stopper {
    fn after(after: usize) -> Self {
        Self {
            calls: AtomicUsize::new(0),
            after,
            seen: Mutex::default(),
        }
    }
}

impl Watch for Stopper {
    fn progress(&self, progress: &Progress) {
        self.seen.lock().unwrap().push(*progress);
    }

    fn stop(&self) -> Option<String> {
        (self.calls.fetch_add(1, Ordering::Relaxed) >= self.after)
            .then(|| "the operator said so".to_owned())
    }
}

#[test]
fn r2_a_stopped_capture_goes_on_where_it_was() {
    let source = raw_disk(130, &noise(3, 120 << 20));
    let store = MemStore::new();
    let plan = capture::plan(&source, &options()).unwrap();
    let stopper = Stopper::after(5);
    let error = capture::capture(&source, &plan, &store, &stopper).unwrap_err();
    assert!(matches!(&error, CaptureError::Stopped(_)), "{error}");
    let first = store.puts.load(Ordering::Relaxed);
    assert!(first > 0 && first < 480);
    let watcher = Stopper::after(usize::MAX);
    let captured = capture::capture(&source, &plan, &store, &watcher).unwrap();
    assert_eq!(captured.new_chunks, 480 - first);
    assert_eq!(captured.read_bytes, plan.used_bytes());
    let seen = watcher.seen.lock().unwrap();
    assert!(
        seen.iter()
            .any(|p| p.done_bytes == p.total_bytes && p.phase == Phase::Reading)
    );
    assert!(
        seen.windows(2)
            .filter(|w| w[0].phase == w[1].phase)
            .all(|w| w[0].total_bytes == w[1].total_bytes)
    );
    assert_eq!(seen.last().unwrap().phase, Phase::Committing);
}

#[test]
fn an_unreadable_sector_ends_the_capture_and_publishes_nothing() {
    let source = raw_disk(20, &noise(3, 18 << 20));
    source.fail_reads(9 * MIB, 512);
    let store = MemStore::new();
    let plan = capture::plan(&source, &options()).unwrap();
    let error = capture::capture(&source, &plan, &store, &Unwatched).unwrap_err();
    assert!(matches!(error, CaptureError::Read { offset, .. } if offset == 9 * MIB));
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

/// Sectors skipped before it, its sectors, block size as a shift of 512, and runs as gap and length.
type RandomVolume = (u64, u64, u32, Vec<(u64, u64)>);

#[derive(Clone, Debug)]
struct Layout {
    volumes: Vec<RandomVolume>,
    seed: u64,
}

/// Volumes of odd lengths with gaps, each with a random map.
fn layouts() -> impl Strategy<Value = Layout> {
    let runs = proptest::collection::vec((1..200_u64, 1..120_u64), 0..40);
    let volume = (0..9_u64, 1..3000_u64, 0..4_u32, runs);
    (proptest::collection::vec(volume, 1..4), any::<u64>())
        .prop_map(|(volumes, seed)| Layout { volumes, seed })
}

fn build(layout: &Layout) -> (MemDevice, capture::CapturePlan) {
    let mut at = MIB;
    let source = raw_disk(24, &noise(layout.seed, 23 << 20));
    let mut plan = capture::plan(&source, &options()).unwrap();
    let template = plan.volumes.pop().unwrap();
    plan.volumes.clear();
    for (skip, sectors, shift, runs) in &layout.volumes {
        let block = 512_u64 << shift;
        let (start, len) = (at + skip * 512, sectors * 512);
        let mut used: Vec<crate::manifest::Run> = vec![];
        let mut next = 0;
        for (gap, count) in runs {
            let first = next + gap;
            let end = (first + count).min(len.div_ceil(block));
            if first >= end {
                break;
            }
            used.push(crate::manifest::Run {
                first,
                count: end - first,
            });
            next = end;
        }
        // Some stretches of zeros, so that implied chunks occur.
        if sectors % 3 == 0 {
            source.write_zeroes_at(start, len / 2).unwrap();
        }
        plan.volumes.push(capture::PlannedVolume {
            start_bytes: start,
            len_bytes: len,
            block_bytes: block as u32,
            used,
            ..template.clone()
        });
        at = start + len;
    }
    (source, plan)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Capture then deploy or repair is the identity on used blocks, and leaves all others alone.
    #[test]
    fn capture_then_apply_is_the_identity_on_used_blocks(layout in layouts(), repair in any::<bool>()) {
        let (source, plan) = build(&layout);
        let store = MemStore::new();
        let captured = capture::capture(&source, &plan, &store, &Unwatched).unwrap();
        let manifest = store.open(&captured.signed);
        let target = MemDevice::with_content(&noise(layout.seed ^ 1, 24 << 20));
        let (before, wanted) = (content(&target), content(&source));
        let mode = if repair { Mode::Repair } else { Mode::Deploy };
        let applied = go(&target, &manifest, mode, &store).unwrap();
        prop_assert!(applied.proven);
        let mut expected = before;
        expected[..512].copy_from_slice(&wanted[..512]);
        for volume in &manifest.volumes {
            for run in &volume.used {
                let block = u64::from(volume.block_bytes);
                let start = (volume.start_bytes + run.first * block) as usize;
                let end = (volume.start_bytes + ((run.first + run.count) * block).min(volume.len_bytes)) as usize;
                expected[start..end].copy_from_slice(&wanted[start..end]);
            }
        }
        prop_assert!(content(&target) == expected);
    }
}
