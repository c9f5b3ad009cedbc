//! How much a repair fetches: only what differs, and of that only what cannot be patched or copied.

use super::*;

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
