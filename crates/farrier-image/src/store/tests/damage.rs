//! R11, T14: damage is found, named and never handed on; tampering is refused.

use super::*;

async fn one_image(place: &Place) -> Committed {
    let store = place.open().await;
    store.put(chunks(0..6)).await.unwrap();
    store.commit(image("other", &[5]), 1).await.unwrap();
    store.commit(image("a", &[0, 1, 2, 3]), 1).await.unwrap()
}

fn place_of(store: &Store, n: u64) -> usize {
    let place = store.locate(&[chunk(n).id])[0].unwrap();
    usize::try_from(place.offset).unwrap() + 100
}

#[tokio::test]
async fn r11_a_damaged_chunk_names_its_images_and_heals_by_a_new_capture() {
    let place = Place::local();
    one_image(&place).await;
    let store = place.open().await;
    flip(&pack_files(place.path())[0], place_of(&store, 2));
    match store.chunk(chunk(2).id).await {
        Err(StoreError::Corrupt { chunk: id, images }) => {
            assert_eq!((id, images), (chunk(2).id, vec!["a version 1".to_owned()]));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(store.missing(&[chunk(1).id, chunk(2).id]), [false, true]);
    store.put(vec![chunk(2)]).await.unwrap();
    assert_whole(&store).await;
    store.seal().await.unwrap();
    drop(store);
    // The newer copy counts after a restart, too.
    assert_whole(&place.open().await).await;
}

#[tokio::test]
async fn r11_verify_finds_every_flipped_frame() {
    let place = Place::local();
    one_image(&place).await;
    let store = place.open().await;
    for n in [0, 3, 4, 5] {
        flip(&pack_files(place.path())[0], place_of(&store, n));
    }
    let all = store.verify(&Scope::All, &|_| ()).await.unwrap();
    let mut found: Vec<(ChunkId, Vec<String>)> = all
        .damaged
        .into_iter()
        .map(|d| (d.chunk, d.images))
        .collect();
    let mut expected = vec![
        (chunk(0).id, vec!["a version 1".to_owned()]),
        (chunk(3).id, vec!["a version 1".to_owned()]),
        (chunk(4).id, vec![]),
        (chunk(5).id, vec!["other version 1".to_owned()]),
    ];
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    let one = store
        .verify(&Scope::Image(name("a")), &|_| ())
        .await
        .unwrap();
    assert_eq!((one.chunks, one.damaged.len()), (4, 2));
}

#[tokio::test]
async fn r11_a_lost_or_cut_pack_is_damage_and_not_an_abort() {
    for cut in [false, true] {
        let place = Place::local();
        one_image(&place).await;
        let store = place.open().await;
        let pack = &pack_files(place.path())[0];
        if cut {
            File::options()
                .write(true)
                .open(pack)
                .unwrap()
                .set_len(3000)
                .unwrap();
        } else {
            fs::remove_file(pack).unwrap();
        }
        let report = store
            .verify(&Scope::Version(name("a"), 1), &|_| ())
            .await
            .unwrap();
        assert!(report.damaged.len() >= 3, "{report:?}");
        drop(store);
        let store = place.open().await;
        let report = store
            .verify(&Scope::Version(name("a"), 1), &|_| ())
            .await
            .unwrap();
        assert!(report.damaged.len() >= 3, "{report:?}");
        assert!(matches!(
            store.commit(image("b", &[2, 3]), 2).await,
            Err(StoreError::MissingChunks { .. })
        ));
    }
}

#[tokio::test]
async fn a_damaged_index_is_rebuilt_from_the_records() {
    let place = Place::local();
    one_image(&place).await;
    let pack = &pack_files(place.path())[0];
    flip(
        pack,
        usize::try_from(pack.metadata().unwrap().len()).unwrap() - 60,
    );
    assert_whole(&place.open().await).await;
}

#[tokio::test]
async fn t14_a_changed_manifest_is_not_used_and_stops_prune() {
    let place = Place::local();
    one_image(&place).await;
    flip(&place.path().join("images/a/00000001.manifest"), 200);
    let store = place.open_greedy().await;
    assert!(matches!(
        store.manifest(&name("a"), Which::Latest).await,
        Err(StoreError::NoImage(_))
    ));
    assert_eq!(store.unreadable(), ["images/a/00000001.manifest"]);
    assert!(matches!(
        store.plan_prune().await,
        Err(StoreError::Unreadable { .. })
    ));
    let stale = PrunePlan {
        drop: vec![(store.locate(&[chunk(5).id])[0].unwrap().pack, 1)],
        ..PrunePlan::default()
    };
    assert!(matches!(
        store.prune(&stale).await,
        Err(StoreError::Unreadable { .. })
    ));
    // Its number is not given again.
    assert_eq!(store.commit(image("a", &[0]), 9).await.unwrap().version, 2);
}

#[tokio::test]
async fn t14_an_old_manifest_under_a_new_name_is_refused() {
    let place = Place::local();
    one_image(&place).await;
    let store = place.open().await;
    store.commit(image("a", &[0, 1]), 2).await.unwrap();
    drop(store);
    let folder = place.path().join("images/a");
    fs::copy(
        folder.join("00000001.manifest"),
        folder.join("00000002.manifest"),
    )
    .unwrap();
    let store = place.open().await;
    assert_eq!(store.unreadable(), ["images/a/00000002.manifest"]);
    assert_eq!(store.versions(&name("a")).len(), 1);
}

#[tokio::test]
async fn t14_another_signer_is_refused() {
    let place = Place::local();
    one_image(&place).await;
    let stranger = Place {
        key: SigningKey::generate().unwrap().to_pkcs8().unwrap(),
        ..place
    };
    let store = stranger.open().await;
    assert_eq!(store.images(), vec![]);
    assert_eq!(store.unreadable().len(), 2);
}
