//! R12: prune frees what nobody needs, and never anything else.

use proptest::prelude::*;

use super::*;

#[tokio::test]
async fn dead_packs_go_and_mostly_dead_ones_are_rewritten() {
    for place in [Place::local(), Place::bucket()] {
        let store = place.open_greedy().await;
        store.put(chunks(0..10)).await.unwrap();
        store.seal().await.unwrap();
        store.put(chunks(10..20)).await.unwrap();
        store.seal().await.unwrap();
        store.put(chunks(20..30)).await.unwrap();
        store
            .commit(image("a", &[10, 11, 20, 21, 22, 23, 24, 25, 26]), 1)
            .await
            .unwrap();
        let plan = store.plan_prune().await.unwrap();
        assert_eq!((plan.drop.len(), plan.rewrite.len()), (1, 1));
        assert!(plan.left_bytes > 0);
        // A plan does nothing.
        assert!(!store.missing(&[chunk(0).id])[0]);
        let before = store.stats().pack_bytes;
        let report = store.prune(&plan).await.unwrap();
        assert_eq!(report.freed_bytes, plan.freed_bytes());
        assert_eq!(before - store.stats().pack_bytes, plan.freed_bytes());
        assert_whole(&store).await;
        assert!(store.plan_prune().await.unwrap().is_empty());
        drop(store);
        let store = place.open().await;
        assert_whole(&store).await;
        assert_eq!(
            store.missing(&[chunk(0).id, chunk(10).id, chunk(12).id, chunk(27).id]),
            [true, false, true, false]
        );
    }
}

#[tokio::test]
async fn r12_a_running_capture_keeps_what_it_was_promised() {
    let place = Place::local();
    let store = place.open_greedy().await;
    store.put(chunks(0..3)).await.unwrap();
    store.seal().await.unwrap();
    let writer = store.register_writer();
    assert_eq!(store.missing(&[chunk(0).id]), [false]);
    let plan = store.plan_prune().await.unwrap();
    assert!(plan.drop.is_empty());
    assert!(plan.waiting_bytes > 0);
    store.commit(image("a", &[0]), 1).await.unwrap();
    drop(writer);
    let plan = store.plan_prune().await.unwrap();
    assert_eq!(plan.rewrite.len(), 1);
    store.prune(&plan).await.unwrap();
    assert_whole(&store).await;
}

#[tokio::test]
async fn r12_what_became_needed_after_the_plan_stays() {
    let place = Place::local();
    let store = place.open_greedy().await;
    store.put(chunks(0..4)).await.unwrap();
    store.seal().await.unwrap();
    store.put(chunks(4..8)).await.unwrap();
    store.commit(image("a", &[4]), 1).await.unwrap();
    let plan = store.plan_prune().await.unwrap();
    assert_eq!((plan.drop.len(), plan.rewrite.len()), (1, 1));
    store.commit(image("b", &[0, 5, 6]), 1).await.unwrap();
    let report = store.prune(&plan).await.unwrap();
    assert_eq!(report.dropped, vec![]);
    assert_eq!(report.skipped, vec![plan.drop[0].0]);
    assert_whole(&store).await;
    drop(store);
    assert_whole(&place.open().await).await;
}

#[tokio::test]
async fn r12_the_grace_time_is_kept() {
    let place = Place::local();
    let store = place.open().await;
    store.put(chunks(0..4)).await.unwrap();
    store.seal().await.unwrap();
    let plan = store.plan_prune().await.unwrap();
    assert!(plan.is_empty() && plan.waiting_bytes > 0);
}

#[tokio::test]
async fn r11_a_pack_with_a_damaged_needed_chunk_is_not_rewritten() {
    let place = Place::local();
    let store = place.open_greedy().await;
    store.put(chunks(0..4)).await.unwrap();
    store.commit(image("a", &[1]), 1).await.unwrap();
    let at = store.locate(&[chunk(1).id])[0].unwrap().offset + 50;
    flip(&pack_files(place.path())[0], usize::try_from(at).unwrap());
    let plan = store.plan_prune().await.unwrap();
    let report = store.prune(&plan).await.unwrap();
    assert_eq!(report.damaged.len(), 1);
    assert_eq!(pack_files(place.path()).len(), 1);
}

/// One thing that somebody does to a store.
#[derive(Clone, Debug)]
enum Act {
    Put(u64, u64),
    Commit(u64, u64),
    Delete,
    Plan,
    Execute,
    Reopen,
    /// The process dies at the n-th write of the next act.
    Crash(usize),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (0..40u64, 1..8u64).prop_map(|(from, n)| Act::Put(from, n)),
        (0..40u64, 1..8u64).prop_map(|(from, n)| Act::Commit(from, n)),
        Just(Act::Delete),
        Just(Act::Plan),
        Just(Act::Execute),
        Just(Act::Reopen),
        (0..12usize).prop_map(Act::Crash),
    ]
}

/// Runs acts; after each, every visible version must be whole.
async fn play(acts: Vec<Act>) {
    let place = Place::local();
    let mut store = place.open_greedy().await;
    let mut plan = PrunePlan::default();
    let mut committed = std::collections::BTreeMap::new();
    for act in acts {
        match act {
            Act::Put(from, n) => drop(store.put(chunks(from..from + n)).await),
            Act::Commit(from, n) => {
                let contents: Vec<u64> = (from..from + n).collect();
                if let Ok(c) = store.commit(image("a", &contents), 1).await {
                    committed.insert(c.version, c.root);
                }
            }
            Act::Delete => {
                if let Ok(plan) = store.plan_delete(&name("a"), Which::Latest).await {
                    committed.remove(&plan.version.version);
                    let _ = store.delete(&plan).await;
                }
            }
            Act::Plan => plan = store.plan_prune().await.unwrap_or_default(),
            Act::Execute => drop(store.prune(&plan).await),
            Act::Reopen => {
                drop(store);
                store = place.open_greedy().await;
            }
            Act::Crash(at) => {
                drop(store);
                let dying = place
                    .open_with(Some(Faults::new(End::Torn, at)), greedy())
                    .await;
                if let Ok(dying) = dying {
                    let _ = dying.put(chunks(3..9)).await;
                    let _ = dying.commit(image("b", &[3, 4]), 1).await;
                    let plan = dying.plan_prune().await.unwrap_or_default();
                    let _ = dying.prune(&plan).await;
                }
                store = place.open_greedy().await;
            }
        }
        for (version, root) in &committed {
            let there = store
                .manifest(&name("a"), Which::Version(*version))
                .await
                .unwrap();
            assert_eq!(there.root, *root);
        }
        assert_whole(&store).await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn r12_no_order_of_acts_takes_a_needed_chunk(acts in proptest::collection::vec(act(), 1..25)) {
        tokio::runtime::Runtime::new().unwrap().block_on(play(acts));
    }
}
