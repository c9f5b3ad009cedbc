//! What an agent says of a task counts only from the one that runs it, in the attempt it runs in.

use farrier_api::agent::Work as WireWork;
use farrier_engine::model::TaskId;
use farrier_engine::task::State;
use farrier_engine::timeline::Kind;
use farrier_image::manifest::MAX_PLAIN;
use uuid::Uuid;

use super::chunks::{committed, image};
use super::{MAC, OTHER, begin, done, progress};
use crate::site::{Site, capture_of, deploy_of, new_key, status};

#[tokio::test]
async fn t3_a_second_agent_is_kept_out_while_the_first_is_at_work() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    site.let_everybody_in().await;
    let first = site.agent(MAC).await;
    site.order(first.machine, capture_of("debian")).await;
    let (task, fence, _) = begin(&first).await;

    let rival = site.boot(MAC).await;
    let key = new_key();
    for _ in 0..5 {
        assert_eq!(status(rival.enrol(&key).await), 409);
    }
    site.told(first.machine, Kind::Warning, "second agent")
        .await;
    assert_eq!(
        first
            .client
            .progress(task, &progress(fence))
            .await
            .unwrap()
            .stop,
        None
    );
    assert_eq!(site.stored(TaskId(task)).await.fence, fence);
    let timeline = site
        .core
        .db
        .timeline(first.machine, None, 500)
        .await
        .unwrap();
    let warnings = timeline
        .iter()
        .filter(|entry| entry.value.kind == Kind::Warning)
        .count();
    assert_eq!(
        warnings, 1,
        "asking again and again does not push the story out of the timeline"
    );
}

#[tokio::test]
async fn m9_words_of_an_earlier_attempt_change_nothing() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    site.let_everybody_in().await;
    let first = site.agent(MAC).await;
    let id = site.order(first.machine, capture_of("debian")).await;
    let (task, old, _) = begin(&first).await;
    // The answer was lost, so it asks again: that is another attempt.
    let (_, new, _) = begin(&first).await;
    assert!(new > old);
    assert_eq!(
        status(first.client.progress(task, &progress(old)).await),
        409
    );
    assert_eq!(
        status(first.client.result(task, &done(old, None)).await),
        409
    );
    let manifest = image(&site, "debian", 1).await.encode().unwrap();
    assert_eq!(
        status(
            first
                .client
                .commit(task, old, manifest.clone(), MAX_PLAIN)
                .await
        ),
        409
    );
    assert_eq!(
        status(
            first
                .client
                .commit(Uuid::nil(), new, manifest, MAX_PLAIN)
                .await
        ),
        409
    );
    assert_eq!(site.stored(id).await.state, State::Running);
    first.client.result(task, &done(new, None)).await.unwrap();
    assert_eq!(site.stored(id).await.state, State::Done);
    first
        .client
        .result(task, &done(new, None))
        .await
        .expect("the same once more, since the answer was lost");
    assert!(
        first
            .client
            .progress(task, &progress(new))
            .await
            .unwrap()
            .stop
            .is_some()
    );
}

#[tokio::test]
async fn t3_an_agent_cannot_touch_another_machines_task() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    site.let_everybody_in().await;
    let (victim, thief) = (site.agent(MAC).await, site.agent(OTHER).await);
    let id = site.order(victim.machine, capture_of("debian")).await;
    let (task, fence, _) = begin(&victim).await;
    site.order(thief.machine, capture_of("mine")).await;
    begin(&thief).await;
    assert!(
        thief
            .client
            .progress(task, &progress(fence))
            .await
            .unwrap()
            .stop
            .is_some()
    );
    thief.client.result(task, &done(fence, None)).await.unwrap();
    let manifest = image(&site, "debian", 1).await.encode().unwrap();
    assert_eq!(
        status(thief.client.commit(task, fence, manifest, MAX_PLAIN).await),
        409
    );
    assert_eq!(site.stored(id).await.state, State::Running);
    assert!(
        victim
            .client
            .progress(task, &progress(fence))
            .await
            .unwrap()
            .stop
            .is_none()
    );
}

#[tokio::test]
async fn t14_done_needs_the_proven_root_hash() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    site.let_everybody_in().await;
    committed(&site, "debian", 1).await;
    let agent = site.agent(MAC).await;
    let id = site.order(agent.machine, deploy_of("debian")).await;
    for root in [None, Some(String::new()), Some("00".repeat(32))] {
        let (task, fence, _) = begin(&agent).await;
        agent.client.result(task, &done(fence, root)).await.unwrap();
        let stored = site.stored(id).await;
        assert_eq!(stored.state, State::Queued, "{:?}", stored.reason);
    }
    let (task, fence, work) = begin(&agent).await;
    let WireWork::Deploy { root, .. } = work else {
        panic!("{work:?}")
    };
    agent
        .client
        .result(task, &done(fence, Some(root)))
        .await
        .unwrap();
    assert_eq!(site.stored(id).await.state, State::Done);
}
