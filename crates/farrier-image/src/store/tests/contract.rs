//! What every store promises, in a folder and in a bucket.

use super::*;

async fn both(test: impl AsyncFn(Place)) {
    test(Place::local()).await;
    test(Place::bucket()).await;
}

#[tokio::test]
async fn chunks_come_back_as_they_were_sent() {
    both(async |place: Place| {
        let store = place.open().await;
        let sent = chunks(0..20);
        let ids: Vec<ChunkId> = sent.iter().map(|c| c.id).collect();
        assert_eq!(store.missing(&ids), vec![true; 20]);
        let report = store.put(sent.clone()).await.unwrap();
        assert_eq!((report.new_chunks, report.known_chunks), (20, 0));
        assert_eq!(store.missing(&ids), vec![false; 20]);
        // From the journal, from the pack, and after a restart.
        for _ in 0..2 {
            for chunk in &sent {
                assert_eq!(store.chunk(chunk.id).await.unwrap().frame, chunk.frame);
            }
            store.seal().await.unwrap();
        }
        drop(store);
        let store = place.open().await;
        assert_eq!(store.missing(&ids), vec![false; 20]);
        assert_eq!(store.chunk(ids[7]).await.unwrap().frame, sent[7].frame);
        assert!(matches!(
            store.chunk(chunk(99).id).await,
            Err(StoreError::NoChunk(_))
        ));
    })
    .await;
}

#[tokio::test]
async fn a_version_is_visible_after_its_commit_and_after_a_restart() {
    both(async |place: Place| {
        let store = place.open().await;
        store.put(chunks(0..5)).await.unwrap();
        assert_eq!(store.images(), vec![]);
        let first = store
            .commit(image("debian", &[0, 1, 2]), 1000)
            .await
            .unwrap();
        let second = store
            .commit(image("debian", &[0, 1, 3]), 2000)
            .await
            .unwrap();
        assert_eq!((first.version, second.version), (1, 2));
        drop(store);
        let store = place.open().await;
        let versions = store.versions(&name("debian"));
        assert_eq!(
            versions
                .iter()
                .map(|v| (v.version, v.root))
                .collect::<Vec<_>>(),
            [(1, first.root), (2, second.root)]
        );
        let latest = store
            .manifest(&name("debian"), Which::Latest)
            .await
            .unwrap();
        assert_eq!(latest.manifest.created_ms, 2000);
        assert_eq!(latest.manifest.volumes, image("debian", &[0, 1, 3]).volumes);
        assert_eq!(latest.root, second.root);
        assert_whole(&store).await;
    })
    .await;
}

#[tokio::test]
async fn a_repeated_commit_makes_no_second_version() {
    let place = Place::local();
    let store = place.open().await;
    store.put(chunks(0..3)).await.unwrap();
    let first = store.commit(image("a", &[0, 1]), 5).await.unwrap();
    let again = store.commit(image("a", &[0, 1]), 9).await.unwrap();
    assert_eq!(
        (again.version, again.root, again.unchanged),
        (1, first.root, true)
    );
    assert_eq!(store.versions(&name("a")).len(), 1);
}

#[tokio::test]
async fn a_commit_without_its_chunks_is_refused() {
    let place = Place::local();
    let store = place.open().await;
    store.put(chunks(0..1)).await.unwrap();
    match store.commit(image("a", &[0, 7, 8]), 5).await {
        Err(StoreError::MissingChunks { count: 2, first }) => assert_eq!(first, chunk(7).id),
        other => panic!("{other:?}"),
    }
    assert_eq!(store.images(), vec![]);
}

#[tokio::test]
async fn a_lying_chunk_refuses_the_whole_put() {
    let place = Place::local();
    let store = place.open().await;
    let mut sent = chunks(0..9);
    sent[5].frame = sent[6].frame.clone();
    let (good, lie) = (sent[0].id, sent[5].id);
    assert!(matches!(store.put(sent).await, Err(StoreError::Refused(_))));
    assert_eq!(store.missing(&[good, lie]), [true, true]);
}

#[tokio::test]
async fn a_chunk_is_stored_once() {
    let place = Place::local();
    let store = place.open().await;
    let puts = (0..8).map(|_| store.put(chunks(0..40)));
    let reports = futures::future::try_join_all(puts).await.unwrap();
    assert_eq!(reports.iter().map(|r| r.new_chunks).sum::<u64>(), 40);
    assert_eq!(reports.iter().map(|r| r.known_chunks).sum::<u64>(), 7 * 40);
    store.seal().await.unwrap();
    let stats = store.stats();
    assert_eq!((stats.chunks, stats.packs), (40, 1));
    assert_eq!(stats.pack_bytes, stats.stored_bytes);
    let twice = store
        .put([chunks(50..51), chunks(50..51)].concat())
        .await
        .unwrap();
    assert_eq!((twice.new_chunks, twice.known_chunks), (1, 1));
}

#[tokio::test]
async fn packs_are_sealed_at_their_size() {
    let place = Place::local();
    let store = place.open().await;
    let noise = |n: u64| {
        let mut bytes = vec![0; CHUNK_SIZE];
        blake3::Hasher::new()
            .update(&n.to_le_bytes())
            .finalize_xof()
            .fill(&mut bytes);
        StoredChunk::pack(&bytes, 1)
    };
    // 100 MiB in one call: more than a pack holds.
    store.put((0..400).map(noise).collect()).await.unwrap();
    let sizes: Vec<u64> = pack_files(place.path())
        .iter()
        .map(|p| p.metadata().unwrap().len())
        .collect();
    assert_eq!(sizes.len(), 2);
    assert!(
        sizes
            .iter()
            .all(|&size| (48 << 20..66 << 20).contains(&size)),
        "{sizes:?}"
    );
    assert_eq!(store.stats().chunks, 400);
    store.chunk(noise(399).id).await.unwrap();
}

#[tokio::test]
async fn deleting_is_planned_and_numbers_are_not_given_again() {
    both(async |place: Place| {
        let store = place.open().await;
        store.put(chunks(0..4)).await.unwrap();
        store.commit(image("a", &[0, 1]), 1).await.unwrap();
        store.commit(image("a", &[0, 2, 3]), 2).await.unwrap();
        let plan = store.plan_delete(&name("a"), Which::Latest).await.unwrap();
        assert_eq!((plan.version.version, plan.last_of_image), (2, false));
        assert_eq!(
            plan.freed_bytes,
            (chunk(2).frame.len() + chunk(3).frame.len()) as u64
        );
        assert_eq!(store.versions(&name("a")).len(), 2);
        store.delete(&plan).await.unwrap();
        assert!(matches!(
            store.delete(&plan).await,
            Err(StoreError::NoVersion { version: 2, .. })
        ));
        drop(store);
        let store = place.open().await;
        assert_eq!(store.versions(&name("a")).len(), 1);
        assert_eq!(store.commit(image("a", &[3]), 3).await.unwrap().version, 3);
    })
    .await;
}

#[tokio::test]
async fn one_process_writes_and_others_may_read() {
    let place = Place::local();
    let store = place.open().await;
    store.put(chunks(0..2)).await.unwrap();
    store.commit(image("a", &[0, 1]), 1).await.unwrap();
    assert!(matches!(
        place.open_with(None, greedy()).await,
        Err(StoreError::InUse)
    ));
    let options = StoreOptions {
        access: Access::Read,
        ..StoreOptions::default()
    };
    let reader = Store::open_local(place.path(), place.keys(), options)
        .await
        .unwrap();
    assert_eq!(reader.images().len(), 1);
    assert!(matches!(
        reader.put(chunks(5..6)).await,
        Err(StoreError::OpenedForReading)
    ));
    assert!(matches!(
        reader.prune(&PrunePlan::default()).await,
        Err(StoreError::OpenedForReading)
    ));
}

#[tokio::test]
async fn a_folder_of_something_else_is_left_alone() {
    let place = Place::local();
    fs::write(place.path().join("store.txt"), "farrier image store 2\n").unwrap();
    assert!(matches!(
        place.open_with(None, greedy()).await,
        Err(StoreError::NotStore)
    ));
}

#[test]
fn the_local_ends_move_chunks() {
    use crate::transport::{ChunkSink, ChunkSource};
    let place = Place::local();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = runtime.block_on(place.open());
    let sink = LocalSink::new(store.clone(), runtime.handle().clone(), || 77);
    sink.put(&chunks(0..30)).unwrap();
    let signed = sink
        .commit(image("a", &(0..30).collect::<Vec<_>>()))
        .unwrap();
    let (manifest, _) = signed.open(&store.trusted()).unwrap();
    assert_eq!(manifest.created_ms, 77);
    let source = LocalSource::new(store, runtime.handle().clone());
    let wanted: Vec<ChunkId> = [3, 4, 5, 29, 0, 3].map(|n| chunk(n).id).to_vec();
    let mut got = Vec::new();
    source
        .fetch(&wanted, &mut |c| {
            got.push(c);
            got.len() < 5
        })
        .unwrap();
    assert_eq!(got.iter().map(|c| c.id).collect::<Vec<_>>(), wanted[..5]);
    got.iter().for_each(|c| c.open(&mut Vec::new()).unwrap());
}

#[tokio::test]
async fn statistics_count_what_is_shared_once() {
    let place = Place::local();
    let store = place.open().await;
    store.put(chunks(0..4)).await.unwrap();
    store.commit(image("a", &[0, 1, 1]), 1).await.unwrap();
    store.commit(image("b", &[1, 2]), 1).await.unwrap();
    let stats = store.stats();
    assert_eq!((stats.images, stats.versions, stats.chunks), (2, 2, 4));
    assert_eq!(
        stats.stored_bytes - stats.needed_bytes,
        chunk(3).frame.len() as u64
    );
    let a = store
        .version_stats(&name("a"), Which::Latest)
        .await
        .unwrap();
    assert_eq!((a.chunks, a.unique_chunks), (3, 2));
    assert_eq!(a.own_bytes, chunk(0).frame.len() as u64);
    assert!(a.ratio() > 100.0);
}
