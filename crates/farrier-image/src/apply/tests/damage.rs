//! Sources that lie, chunks that are corrupt, disks that lose writes: nothing of it is called proven.

use super::*;

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
fn an_unreadable_sector_ends_the_capture_and_publishes_nothing() {
    let source = raw_disk(20, &noise(3, 18 << 20));
    source.fail_reads(9 * MIB, 512);
    let store = MemStore::new();
    let plan = capture::plan(&source, &options()).unwrap();
    let error = capture::capture(&source, &plan, &store, &Unwatched).unwrap_err();
    assert!(matches!(error, CaptureError::Read { offset, .. } if offset == 9 * MIB));
}
