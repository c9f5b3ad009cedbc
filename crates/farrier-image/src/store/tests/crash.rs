//! R1, R3: the world stops at every write, and what was acknowledged is there afterwards.

use super::*;

const ENDS: [End; 5] = [End::Before, End::After, End::Torn, End::Fails, End::Lies];

/// What the store said before the world ended.
#[derive(Default)]
struct Said {
    stored: Vec<u64>,
    committed: Vec<(String, u32, RootHash)>,
    deleted: Vec<(String, u32)>,
}

/// A capture, a second one, a deletion and a prune; stops at the first failure when `dies`.
async fn story(store: &Store, said: &mut Said, dies: bool) -> Result<(), StoreError> {
    macro_rules! step {
        ($result:expr, $then:expr) => {
            match $result {
                Ok(value) => $then(value),
                Err(e) if dies => return Err(e),
                Err(_) => {}
            }
        };
    }
    for batch in [0..6, 6..12, 12..18] {
        step!(store.put(chunks(batch.clone())).await, |_| said
            .stored
            .extend(batch));
    }
    step!(
        store.commit(image("a", &[0, 1, 2, 6, 7]), 1).await,
        |c: Committed| {
            said.committed.push(("a".to_owned(), c.version, c.root));
        }
    );
    step!(store.put(chunks(18..24)).await, |_| said
        .stored
        .extend(18..24));
    step!(
        store.commit(image("a", &[0, 18, 19]), 2).await,
        |c: Committed| {
            said.committed.push(("a".to_owned(), c.version, c.root));
        }
    );
    if let Ok(plan) = store.plan_delete(&name("a"), Which::Version(1)).await {
        step!(store.delete(&plan).await, |()| said
            .deleted
            .push(("a".to_owned(), 1)));
    }
    // From here on unneeded chunks may go.
    said.stored
        .retain(|n| [0, 18, 19].contains(n) && said.committed.len() == 2);
    match store.plan_prune().await {
        Ok(plan) => step!(store.prune(&plan).await, |_| ()),
        Err(e) if dies => return Err(e),
        Err(_) => {}
    }
    Ok(())
}

async fn assert_kept(store: &Store, said: &Said, moment: &str) {
    let ids: Vec<ChunkId> = said.stored.iter().map(|n| chunk(*n).id).collect();
    assert!(
        !store.missing(&ids).contains(&true),
        "an acknowledged chunk is lost: {moment}"
    );
    for n in &said.stored {
        assert_eq!(
            store.chunk(chunk(*n).id).await.unwrap().frame,
            chunk(*n).frame,
            "{moment}"
        );
    }
    for (image, version, root) in &said.committed {
        let there = store.manifest(&name(image), Which::Version(*version)).await;
        // A deletion that was under way may have happened.
        if *version == 1 && there.is_err() {
            continue;
        }
        assert_eq!(there.unwrap().root, *root, "{moment}");
    }
    for (image, version) in &said.deleted {
        assert!(
            store
                .manifest(&name(image), Which::Version(*version))
                .await
                .is_err(),
            "{moment}"
        );
    }
    let visible = store.versions(&name("a"));
    assert!(visible.iter().all(|v| v.version <= 2), "{moment}");
    assert_whole(store).await;
}

async fn at_every_write(new_place: fn() -> Place) {
    for end in ENDS {
        for at in 0.. {
            let moment = format!("{end:?} at write {at}");
            let place = new_place();
            let faults = Faults::new(end, at);
            let mut said = Said::default();
            let dies = matches!(end, End::Before | End::After | End::Torn);
            match place.open_with(Some(Arc::clone(&faults)), greedy()).await {
                Ok(store) => {
                    let ended = story(&store, &mut said, dies).await;
                    assert!(
                        ended.is_err() || !dies || !faults.hit(),
                        "a failure was swallowed: {moment}"
                    );
                    if !dies {
                        assert_kept(&store, &said, &moment).await;
                    }
                }
                Err(_) => assert!(faults.hit(), "{moment}"),
            }
            let store = place.open().await;
            assert_kept(&store, &said, &moment).await;
            // The store is as useful as before.
            store.put(chunks(100..103)).await.unwrap();
            let next = store.commit(image("b", &[100, 102]), 3).await.unwrap();
            assert_eq!(next.version, 1, "{moment}");
            assert_whole(&store).await;
            if !faults.hit() {
                assert!(at > 15, "the story has only {at} writes");
                break;
            }
        }
    }
}

#[tokio::test]
async fn r1_a_local_store_survives_its_end_at_every_write() {
    at_every_write(Place::local).await;
}

#[tokio::test]
async fn r1_a_bucket_survives_the_end_at_every_write() {
    at_every_write(Place::bucket).await;
}

#[tokio::test]
async fn r1_no_image_is_visible_before_its_commit() {
    for at in 0.. {
        let place = Place::local();
        let faults = Faults::new(End::Before, at);
        let Ok(store) = place.open_with(Some(Arc::clone(&faults)), greedy()).await else {
            continue;
        };
        let _ = store.put(chunks(0..3)).await;
        let committed = store.commit(image("a", &[0, 1]), 1).await.is_ok();
        drop(store);
        assert_eq!(place.open().await.images().len(), usize::from(committed));
        if committed {
            break;
        }
    }
}

/// R3: of bytes that were never synced, any may be lost or wrong after power comes back.
#[tokio::test]
async fn r3_a_torn_journal_keeps_what_was_synced() {
    let place = Place::local();
    let store = place.open().await;
    store.put(chunks(0..4)).await.unwrap();
    drop(store);
    let spool = fs::read_dir(place.path().join("spool"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let synced = fs::read(&spool).unwrap();
    let tails: [&[u8]; 4] = [&[], &[0; 5000], &[0xff; 41], &synced[16..600]];
    for (case, tail) in tails.into_iter().enumerate() {
        let copy = Place {
            key: place.key.clone(),
            ..Place::local()
        };
        fs::create_dir(copy.path().join("spool")).unwrap();
        fs::write(
            copy.path().join("spool").join(spool.file_name().unwrap()),
            [&synced, tail].concat(),
        )
        .unwrap();
        let store = copy.open().await;
        let ids: Vec<ChunkId> = (0..4).map(|n| chunk(n).id).collect();
        assert_eq!(store.missing(&ids), vec![false; 4], "case {case}");
        assert_whole(&store).await;
        assert_eq!(pack_files(copy.path()).len(), 1);
    }
}
