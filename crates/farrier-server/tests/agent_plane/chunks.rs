//! Chunks and manifests between an agent and the store.

use bytes::Bytes;
use farrier_api::agent::HeldChunk;
use farrier_api::client::AgentClientError;
use farrier_engine::model::TaskId;
use farrier_engine::task::{Event, State};
use farrier_image::chunk::{CHUNK_SIZE, ChunkId, MAX_STORED_CHUNK, StoredChunk};
use farrier_image::manifest::{DiskShape, MAX_PLAIN, Manifest, Run, Volume};
use farrier_server::core::now;

use super::{MAC, begin, done, progress};
use crate::site::disk::{noise, raw_image};
use crate::site::wire::ask;
use crate::site::{Agent, Site, SmallDisk, capture_of, deploy_of, status};

/// Chunks of a small image, stored; its manifest, not committed.
pub(crate) async fn image(site: &Site, name: &str, seed: u64) -> Manifest {
    let chunks: Vec<_> = (0..4)
        .map(|n| StoredChunk::pack(&noise(seed * 100 + n, CHUNK_SIZE), 3))
        .collect();
    let ids: Vec<_> = chunks.iter().map(|chunk| chunk.id).collect();
    site.core.store.put(chunks).await.unwrap();
    raw_image(name, ids)
}

/// The chunk ids of a small image in the store.
pub(crate) async fn committed(site: &Site, name: &str, seed: u64) -> Vec<[u8; 32]> {
    let manifest = image(site, name, seed).await;
    let ids = manifest.chunk_ids().map(|id| id.0).collect();
    site.core.store.commit(manifest, now().0).await.unwrap();
    ids
}

async fn fetch(agent: &Agent, ids: &[[u8; 32]]) -> Result<usize, AgentClientError> {
    let mut stream = agent.client.fetch_chunks(ids, MAX_STORED_CHUNK).await?;
    let mut seen = 0;
    while let Some((id, frame)) = stream.next().await? {
        let mut plain = Vec::new();
        StoredChunk {
            id: ChunkId(id),
            frame,
        }
        .open(&mut plain)
        .unwrap();
        seen += 1;
    }
    Ok(seen)
}

pub(crate) async fn put(agent: &Agent, chunk: &StoredChunk) -> Result<(), AgentClientError> {
    agent
        .client
        .put_chunks(&[(chunk.id.0, chunk.frame.clone())])
        .await
}

#[tokio::test]
async fn t14_chunks_move_only_for_the_task_that_runs() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    site.let_everybody_in().await;
    let (mine, secret) = (
        committed(&site, "debian", 1).await,
        committed(&site, "secret", 9).await,
    );
    let agent = site.agent(MAC).await;
    let chunk = StoredChunk::pack(b"new", 3);
    let nothing_is_open = || async {
        assert_eq!(status(put(&agent, &chunk).await), 403);
        assert_eq!(status(agent.client.missing(&mine).await), 403);
        assert_eq!(
            status(agent.client.manifest("debian", 1, MAX_PLAIN).await),
            403
        );
        assert_eq!(status(fetch(&agent, &mine).await), 403);
    };
    nothing_is_open().await;

    site.order(agent.machine, capture_of("debian")).await;
    assert_eq!(
        status(put(&agent, &chunk).await),
        403,
        "it was ordered, but has not begun"
    );
    let (task, fence, _) = begin(&agent).await;
    put(&agent, &chunk).await.unwrap();
    assert_eq!(
        agent.client.missing(&[chunk.id.0, [3; 32]]).await.unwrap(),
        [false, true]
    );
    assert_eq!(
        status(fetch(&agent, &mine).await),
        403,
        "who captures need not read"
    );
    let other = image(&site, "secret", 9).await.encode().unwrap();
    assert_eq!(
        status(agent.client.commit(task, fence, other, MAX_PLAIN).await),
        400,
        "the task names another image"
    );
    agent.client.result(task, &done(fence, None)).await.unwrap();
    nothing_is_open().await;

    site.order(agent.machine, deploy_of("debian")).await;
    let (task, fence, _) = begin(&agent).await;
    assert_eq!(fetch(&agent, &mine).await.unwrap(), mine.len());
    assert_eq!(
        status(fetch(&agent, &[mine[0], secret[0]]).await),
        403,
        "a chunk of another image"
    );
    let held = |id| HeldChunk {
        id,
        blocks: vec![0; 64],
    };
    let changed = |ids: &[[u8; 32]]| {
        let (client, held) = (
            agent.client.clone(),
            ids.iter().copied().map(held).collect::<Vec<_>>(),
        );
        async move { client.fetch_changed(&held, MAX_STORED_CHUNK).await }
    };
    assert_eq!(
        status(changed(&[mine[0], secret[0]]).await),
        403,
        "a held chunk of another image"
    );
    assert_eq!(
        status(changed(&vec![mine[0]; 4097]).await),
        400,
        "more than one question may ask for"
    );
    assert!(
        changed(&mine)
            .await
            .unwrap()
            .next()
            .await
            .unwrap()
            .is_some()
    );
    assert_eq!(
        status(agent.client.manifest("secret", 1, MAX_PLAIN).await),
        404
    );
    assert_eq!(
        status(agent.client.manifest("debian", 77, MAX_PLAIN).await),
        404
    );
    assert_eq!(
        status(put(&agent, &chunk).await),
        403,
        "who deploys need not write"
    );
    // Silent for a while (a cable, a restart of the server): its next word may be for chunks.
    site.core.apply(TaskId(task), Event::Silent).await.unwrap();
    assert_eq!(fetch(&agent, &mine).await.unwrap(), mine.len());
    agent.client.progress(task, &progress(fence)).await.unwrap();
    assert_eq!(
        site.core.fleet.task(TaskId(task)).unwrap().state,
        State::Running
    );
}

#[tokio::test]
async fn t14_a_chunk_that_lies_is_not_stored() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    site.let_everybody_in().await;
    let agent = site.agent(MAC).await;
    site.order(agent.machine, capture_of("debian")).await;
    begin(&agent).await;
    let (good, other) = (
        StoredChunk::pack(&noise(1, 5000), 3),
        StoredChunk::pack(&noise(2, 5000), 3),
    );
    let bomb = Bytes::from(zstd::encode_all(&vec![0; 64 << 20][..], 19).unwrap());
    let lies = [
        (other.id.0, good.frame.clone()),
        ([0; 32], good.frame.clone()),
        (good.id.0, good.frame.slice(..good.frame.len() - 1)),
        (good.id.0, Bytes::new()),
        (good.id.0, Bytes::from_static(&[0xff; 100])),
        (good.id.0, bomb),
    ];
    for (id, frame) in lies {
        let refused = status(agent.client.put_chunks(&[(id, frame)]).await);
        assert!((400..500).contains(&refused), "{refused}");
        assert_eq!(agent.client.missing(&[id]).await.unwrap(), [true]);
    }
    put(&agent, &good).await.unwrap();
    assert_eq!(agent.client.missing(&[good.id.0]).await.unwrap(), [false]);
}

#[tokio::test]
async fn r6_a_full_store_says_507_and_takes_the_rest_when_there_is_room() {
    let data = tempfile::tempdir().unwrap();
    let Some(images) = SmallDisk::mount(&data.path().join("images"), 24 << 20) else {
        return;
    };
    let site = Site::open(data.path()).await;
    site.let_everybody_in().await;
    let agent = site.agent(MAC).await;
    let id = site.order(agent.machine, capture_of("debian")).await;
    let (task, fence, _) = begin(&agent).await;
    let chunks: Vec<_> = (0..16)
        .map(|n| StoredChunk::pack(&noise(n, CHUNK_SIZE), 3))
        .collect();
    for chunk in &chunks[..4] {
        put(&agent, chunk).await.unwrap();
    }
    images.fill();
    let mut full = None;
    for chunk in &chunks[4..] {
        if let Err(error) = put(&agent, chunk).await {
            full = Some(error);
            break;
        }
    }
    let error = full.expect("the store took chunks without room");
    assert_eq!(error.status(), Some(507), "{error}");
    assert!(
        error.may_retry() && error.to_string().contains("prune"),
        "{error}"
    );
    let body = chunk_body(&chunks[15]);
    let answer = ask(
        site.agents,
        agent.boot.ca,
        Some(agent.identity()),
        "POST",
        "/agent/v1/store/chunks",
        &body,
    )
    .await;
    let told: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(
        (answer.status, &told["retry"]),
        (507, &serde_json::Value::Bool(true)),
        "{told}"
    );
    assert_eq!(
        agent
            .client
            .progress(task, &progress(fence))
            .await
            .unwrap()
            .stop,
        None,
        "the task waits, it is not lost"
    );

    images.empty();
    let ids: Vec<_> = chunks.iter().map(|chunk| chunk.id.0).collect();
    let missing = agent.client.missing(&ids).await.unwrap();
    assert!(
        missing[..4].iter().all(|missing| !missing),
        "what was acknowledged is there"
    );
    for (chunk, _) in chunks.iter().zip(&missing).filter(|(_, missing)| **missing) {
        put(&agent, chunk).await.unwrap();
    }
    let manifest = Manifest {
        disk: DiskShape {
            size_bytes: 16 * CHUNK_SIZE as u64,
            logical_sector: 512,
        },
        volumes: vec![Volume {
            len_bytes: 16 * CHUNK_SIZE as u64,
            used: vec![Run {
                first: 0,
                count: 16 * CHUNK_SIZE as u64 / 4096,
            }],
            chunks: chunks.iter().map(|chunk| Some(chunk.id)).collect(),
            ..image(&site, "debian", 1).await.volumes.remove(0)
        }],
        ..image(&site, "debian", 1).await
    };
    agent
        .client
        .commit(task, fence, manifest.encode().unwrap(), MAX_PLAIN)
        .await
        .unwrap();
    agent.client.result(task, &done(fence, None)).await.unwrap();
    assert_eq!(site.stored(id).await.state, State::Done);
}

pub(crate) fn chunk_body(chunk: &StoredChunk) -> Vec<u8> {
    let mut body = bytes::BytesMut::new();
    farrier_api::agent::write_frame(&mut body, &chunk.id.0, &chunk.frame);
    body.to_vec()
}
