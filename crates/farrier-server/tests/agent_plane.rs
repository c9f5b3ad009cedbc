//! The agent plane, asked from outside by an honest client and by others: T3, T9, T12, T14 of the threat model.
#![allow(clippy::print_stdout, reason = "the figures are what the run is for")]

mod site;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use farrier_api::agent::{
    EnrolAnswer, EnrolRequest, HeldChunk, Inventory, LogLines, Order, Outcome, ProgressReport,
    ResultReport, Work as WireWork,
};
use farrier_api::client::{AgentClient, AgentClientError, CaPin};
use farrier_db::BootToken;
use farrier_engine::WallTime;
use farrier_engine::model::{Registration, TaskId};
use farrier_engine::task::{DiskSelector, Event, State, Work};
use farrier_engine::timeline::Kind;
use farrier_image::apply::{self, Mode};
use farrier_image::capture::{self, CaptureOptions};
use farrier_image::chunk::{CHUNK_SIZE, ChunkId, MAX_STORED_CHUNK, StoredChunk};
use farrier_image::device::BlockDevice;
use farrier_image::manifest::{
    DiskShape, FORMAT, MAX_PLAIN, Manifest, Run, SignedManifest, Table, Volume, VolumeKind,
};
use farrier_image::transport::Unwatched;
use farrier_server::core::now;
use farrier_server::http::agent::{code, token_hash};
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio_rustls::TlsConnector;
use uuid::Uuid;

use site::disk::{Remote, content, disk, noise};
use site::wire::{ask, head, read_answer, send_raw, tls};
use site::{Agent, Site, SmallDisk, capture_of, deploy_of, new_key, status};

const MAC: &str = "52:54:00:00:00:01";
const OTHER: &str = "52:54:00:00:00:02";

fn repair(image: &str) -> Work {
    Work::Repair {
        image: image.to_owned(),
        version: None,
        disk: DiskSelector::default(),
    }
}

fn done(fence: u64, root: Option<String>) -> ResultReport {
    let outcome = Outcome::Done {
        root,
        disk: Some("sda".to_owned()),
        read_bytes: 0,
        written_bytes: 0,
        moved_bytes: 0,
    };
    ResultReport { fence, outcome }
}

fn progress(fence: u64) -> ProgressReport {
    ProgressReport {
        fence,
        phase: "reading the disk".to_owned(),
        done_bytes: 1,
        total_bytes: 2,
        bytes_per_second: 1,
        bottleneck: None,
    }
}

/// Lets the agent begin what is queued.
async fn begin(agent: &Agent) -> (Uuid, u64, WireWork) {
    match agent.client.work(Duration::ZERO).await.unwrap() {
        Order::Run { task, fence, work } => (task, fence, work),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn t12_a_boot_token_lets_one_key_in() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    site.let_everybody_in().await;
    let boot = site.boot(MAC).await;
    let key = new_key();
    let agent = boot.enrolled(&key).await;
    agent.client.inventory(&Inventory::default()).await.unwrap();
    assert_eq!(
        status(boot.enrol(&new_key()).await),
        401,
        "the token was used"
    );
    // The answer may have been lost: the same key gets another.
    let again = boot.enrolled(&key).await;
    assert_eq!(again.machine, agent.machine);
    again
        .client
        .log(&LogLines {
            lines: vec!["up".to_owned()],
        })
        .await
        .unwrap();
    agent
        .client
        .inventory(&Inventory::default())
        .await
        .expect("it is the same key");
    assert_eq!(
        site.core
            .db
            .agent_sessions(agent.machine)
            .await
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn t12_tokens_that_are_not_good_let_nobody_in() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    site.let_everybody_in().await;
    let boot = site.boot(MAC).await;
    for token in [
        "",
        "0",
        &"a".repeat(32),
        &"a".repeat(100_000),
        "'; DROP TABLE boot_token; --",
        "\u{0}",
    ] {
        let forged = site::Boot {
            token: token.to_owned(),
            ..boot.clone()
        };
        assert_eq!(status(forged.enrol(&new_key()).await), 401);
    }
    let late = BootToken {
        hash: token_hash("late"),
        machine: site.machine_of(MAC),
        task: None,
        intent: "register".to_owned(),
        created: WallTime(now().0 - 2000),
        expires: WallTime(now().0 - 1000),
    };
    site.core.db.create_boot_token(&late).await.unwrap();
    let expired = site::Boot {
        token: "late".to_owned(),
        ..boot.clone()
    };
    assert_eq!(status(expired.enrol(&new_key()).await), 401);
    assert!(
        boot.enrol(&new_key()).await.is_ok(),
        "none of this used the good one up"
    );
}

#[tokio::test]
async fn t3_a_token_is_good_for_its_own_machine_only() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    site.let_everybody_in().await;
    let boot = site.boot(MAC).await;
    site.boot(OTHER).await;
    for mac in [OTHER, "52:54:00:00:00:99", "", "zz", &"5".repeat(1 << 16)] {
        let boot = site.boot(MAC).await;
        let stolen = site::Boot {
            mac: mac.to_owned(),
            ..boot
        };
        assert_eq!(status(stolen.enrol(&new_key()).await), 401, "{mac:.20}");
    }
    site.told(
        site.machine_of(MAC),
        Kind::Refused,
        "another hardware address",
    )
    .await;
    assert!(boot.enrol(&new_key()).await.is_ok());
}

#[tokio::test]
async fn t3_a_key_speaks_for_one_machine_only() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    site.let_everybody_in().await;
    let key = new_key();
    let agent = site.boot(MAC).await.enrolled(&key).await;
    let refused = site.boot(OTHER).await.enrol(&key).await;
    assert!(
        (400..500).contains(&status(refused)),
        "what a client does is no fault of the server"
    );
    agent
        .client
        .inventory(&Inventory::default())
        .await
        .expect("the first is not disturbed");
}

#[tokio::test]
async fn t12_only_tls_1_3_and_only_the_pinned_authority() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    let boot = site.boot(MAC).await;
    let old = rustls::ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS12])
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let stream = TcpStream::connect(site.agents).await.unwrap();
    let refused = TlsConnector::from(Arc::new(old))
        .connect(ServerName::from(site.agents.ip()), stream)
        .await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("ProtocolVersion"), "{refused}");

    let elsewhere = site::Boot {
        ca: CaPin([7; 32]),
        ..boot.clone()
    };
    let error = elsewhere.enrol(&new_key()).await.unwrap_err();
    assert!(
        matches!(error, AgentClientError::Untrusted { .. }),
        "{error}"
    );
    assert!(
        boot.enrol(&new_key()).await.is_ok(),
        "a refusal costs no token"
    );
}

/// The routes, from the table of the interface's documentation.
fn routes() -> Vec<(String, String)> {
    let table = include_str!("../../farrier-api/src/agent.rs");
    let rows = table
        .lines()
        .filter_map(|line| line.strip_prefix("//! | `")?.split('`').next());
    rows.map(|row| {
        let (method, path) = row.split_once(' ').unwrap();
        let task = Uuid::nil().to_string();
        let path = path
            .replace("{id}", &task)
            .replace("{n}", "1")
            .replace("{image}", "debian")
            .replace("{version}", "1");
        (method.to_owned(), path)
    })
    .collect()
}

#[tokio::test]
async fn t3_every_route_but_enrol_wants_a_certificate_of_a_live_session() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    site.let_everybody_in().await;
    let agent = site.agent(MAC).await;
    // A certificate of our own authority whose key never enrolled.
    let ghost = new_key();
    let signed = site
        .core
        .ca
        .sign_agent(&agent.boot.request(&ghost).csr, agent.machine.0)
        .unwrap();
    let routes = routes();
    assert!(routes.len() > 10);
    for (method, path) in routes.iter().filter(|(_, path)| path != "/agent/v1/enrol") {
        let pin = agent.boot.ca;
        for who in [None, Some(site::identity(&signed.chain, &ghost))] {
            let answer = ask(site.agents, pin, who, method, path, b"{}").await;
            assert_eq!(answer.status, 401, "{method} {path}: {}", answer.text());
        }
        let known = ask(
            site.agents,
            pin,
            Some(agent.identity()),
            method,
            path,
            b"{}",
        )
        .await;
        assert_ne!(
            known.status,
            401,
            "{method} {path} is there: {}",
            known.text()
        );
        assert!(
            known.status != 404 || path.contains("manifests"),
            "{method} {path}: {}",
            known.text()
        );
    }
}

#[tokio::test]
async fn t3_a_certificate_of_another_authority_is_not_even_heard() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (site, foreign) = (
        Site::open(ours.path()).await,
        Site::open(theirs.path()).await,
    );
    foreign.let_everybody_in().await;
    let agent = foreign.agent(MAC).await;
    let pin: CaPin = site.core.ca.fingerprint().parse().unwrap();
    let server = farrier_api::client::ServerAddress(site.agents);
    let client = AgentClient::new(server, pin, Some(agent.identity())).unwrap();
    let error = client.work(Duration::ZERO).await.unwrap_err();
    assert!(
        !matches!(error, AgentClientError::Refused { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn t3_machines_that_are_disabled_or_gone_and_ended_sessions_are_shut_out() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    site.let_everybody_in().await;
    let agent = site.agent(MAC).await;
    let hello = || async { agent.client.inventory(&Inventory::default()).await };
    for registration in [
        Registration::Disabled,
        Registration::Pending,
        Registration::Seen,
    ] {
        site.set_registration(agent.machine, registration).await;
        assert_eq!(status(hello().await), 401, "{registration:?}");
    }
    site.set_registration(agent.machine, Registration::Approved)
        .await;
    hello().await.unwrap();

    let waiting = site.boot(OTHER).await;
    site.set_registration(site.machine_of(OTHER), Registration::Disabled)
        .await;
    assert_eq!(status(waiting.enrol(&new_key()).await), 403);

    // The next boot's agent ends the session of the last.
    agent.client.work(Duration::ZERO).await.unwrap();
    let next = site.agent(MAC).await;
    assert_eq!(status(hello().await), 401);
    next.client.inventory(&Inventory::default()).await.unwrap();

    site.core.fleet.delete_machine(next.machine).await.unwrap();
    assert_eq!(
        status(next.client.inventory(&Inventory::default()).await),
        401
    );
    assert_eq!(status(next.client.work(Duration::ZERO).await), 401);
}

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
async fn m4_after_leave_the_next_boot_enrols_at_once_also_after_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    site.let_everybody_in().await;
    let first = site.agent(MAC).await;
    first.client.inventory(&Inventory::default()).await.unwrap();
    assert!(matches!(
        first.client.work(Duration::ZERO).await.unwrap(),
        Order::Leave { .. }
    ));
    let second = site.agent(MAC).await;
    assert!(matches!(
        second.client.work(Duration::ZERO).await.unwrap(),
        Order::Leave { .. }
    ));
    site.kill().await;
    let site = Site::open(data.path()).await;
    site.agent(MAC).await;
}

#[tokio::test]
async fn t12_approval_compares_one_code_on_both_screens() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    let boot = site.boot(MAC).await;
    let machine = site.machine_of(MAC);
    let key = new_key();
    let mut shown = String::new();
    for _ in 0..4 {
        match boot.enrol(&key).await.unwrap() {
            EnrolAnswer::Pending { code, .. } => shown = code,
            enrolled @ EnrolAnswer::Enrolled { .. } => panic!("{enrolled:?}"),
        }
    }
    assert_eq!(
        site.core.fleet.machine(machine).unwrap().registration,
        Registration::Pending
    );
    let told = site.told(machine, Kind::Agent, "waits for approval").await;
    assert!(told.text.contains(&shown), "{} has no {shown}", told.text);
    let sessions = site.core.db.agent_sessions(machine).await.unwrap();
    assert_eq!(
        sessions
            .iter()
            .map(|session| code(&session.key.0))
            .collect::<Vec<_>>(),
        [shown.clone()]
    );
    let timeline = site.core.db.timeline(machine, None, 500).await.unwrap();
    assert_eq!(
        timeline
            .iter()
            .filter(|e| e.value.text.contains("waits for approval"))
            .count(),
        1
    );

    // Somebody else asks in the machine's name, again and again, while the person looks at the code.
    for _ in 0..20 {
        let other = site.boot(MAC).await;
        assert_eq!(
            status(other.enrol(&new_key()).await),
            409,
            "one code at a time"
        );
    }
    site.told(machine, Kind::Warning, "A second agent").await;
    let sessions = site.core.db.agent_sessions(machine).await.unwrap();
    assert!(sessions.len() <= 17, "{} rows", sessions.len());
    assert!(sessions.iter().any(|s| code(&s.key.0) == shown));

    // Not approved: the key has a session, but it opens nothing.
    let signed = site
        .core
        .ca
        .sign_agent(&boot.request(&key).csr, machine.0)
        .unwrap();
    let client = AgentClient::new(
        boot.server,
        boot.ca,
        Some(site::identity(&signed.chain, &key)),
    )
    .unwrap();
    assert_eq!(status(client.work(Duration::ZERO).await), 401);

    site.set_registration(machine, Registration::Approved).await;
    assert_eq!(
        status(boot.enrol(&new_key()).await),
        401,
        "another key with the same token"
    );
    boot.enrolled(&key)
        .await
        .client
        .inventory(&Inventory::default())
        .await
        .unwrap();
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

/// Chunks of a small image, stored; its manifest, not committed.
async fn image(site: &Site, name: &str, seed: u64) -> Manifest {
    let chunks: Vec<_> = (0..4)
        .map(|n| StoredChunk::pack(&noise(seed * 100 + n, CHUNK_SIZE), 3))
        .collect();
    let ids: Vec<_> = chunks.iter().map(|chunk| Some(chunk.id)).collect();
    site.core.store.put(chunks).await.unwrap();
    let len = 4 * CHUNK_SIZE as u64;
    let volume = Volume {
        kind: VolumeKind::Raw,
        partition: None,
        start_bytes: 0,
        len_bytes: len,
        label: String::new(),
        fs_uuid: String::new(),
        block_bytes: 4096,
        used: vec![Run {
            first: 0,
            count: len / 4096,
        }],
        chunks: ids,
    };
    Manifest {
        format: FORMAT,
        image: name.parse().unwrap(),
        version: 0,
        created_ms: 0,
        source: String::new(),
        disk: DiskShape {
            size_bytes: len,
            logical_sector: 512,
        },
        table: Table::None,
        volumes: vec![volume],
    }
}

/// The chunk ids of a small image in the store.
async fn committed(site: &Site, name: &str, seed: u64) -> Vec<[u8; 32]> {
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

async fn put(agent: &Agent, chunk: &StoredChunk) -> Result<(), AgentClientError> {
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
async fn t9_broken_requests_are_refused_and_no_fault_of_the_server() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    site.let_everybody_in().await;
    let agent = site.agent(MAC).await;
    let id = site.order(agent.machine, capture_of("debian")).await;
    let (task, fence, _) = begin(&agent).await;
    let chunk = StoredChunk::pack(&noise(1, 5000), 3);
    let mut cut = chunk.id.0.to_vec();
    cut.extend_from_slice(&5000u32.to_be_bytes());
    let mut huge = chunk.id.0.to_vec();
    huge.extend_from_slice(&u32::MAX.to_be_bytes());
    let bodies: [&[u8]; 13] = [
        b"",
        b"{",
        b"null",
        b"[]",
        b"{\"lines\":[{}]}",
        b"{\"fence\":-1}",
        b"{\"fence\":99999999999999999999999}",
        b"{\"token\":1,\"csr\":[]}",
        &[0xff; 4096],
        &[b'['; 100_000],
        &cut,
        &huge,
        &noise(3, 100_001),
    ];
    let mut routes = routes();
    for (_, path) in &mut routes {
        *path = path
            .replace(&Uuid::nil().to_string(), &task.to_string())
            .replace("fence=1", &format!("fence={fence}"));
    }
    for path in [
        "/agent/v1/tasks/zzz/progress",
        "/agent/v1/tasks/%00/result",
        "/agent/v1/tasks/../../etc/passwd/progress",
        "/agent/v1/store/manifests/..%2f..%2fetc%2fpasswd/1",
        "/agent/v1/store/manifests/debian/-1",
        "/agent/v1/store/manifests/%ff%fe/latest",
        "/agent/v1/work?wait=-1",
        "/agent/v1/work?wait=99999999999999999999",
        "/agent/v1/store/commit",
        "/agent/v1/store/commit?task=1&fence=x",
        "/agent/v1/enrol/",
        "/../../../etc/passwd",
        "//",
        "*",
    ] {
        routes.extend(
            ["GET", "POST", "DELETE", "BREW"].map(|method| (method.to_owned(), path.to_owned())),
        );
    }
    for (method, path) in routes
        .iter()
        .filter(|(method, path)| !(method == "GET" && path.ends_with("wait=20")))
    {
        for body in bodies {
            let answer = ask(
                site.agents,
                agent.boot.ca,
                Some(agent.identity()),
                method,
                path,
                body,
            )
            .await;
            assert!(
                answer.status < 500,
                "{method} {path} {body:.20?}: {} {}",
                answer.status,
                answer.text()
            );
        }
    }
    let long = format!("/agent/v1/store/manifests/{}/1", "a".repeat(200_000));
    let answer = ask(
        site.agents,
        agent.boot.ca,
        Some(agent.identity()),
        "GET",
        &long,
        b"",
    )
    .await;
    assert!((400..500).contains(&answer.status), "{}", answer.status);
    assert_eq!(
        site.stored(id).await.state,
        State::Running,
        "none of this was a word of the agent"
    );
    assert_eq!(
        agent
            .client
            .progress(task, &progress(fence))
            .await
            .unwrap()
            .stop,
        None
    );
}

#[tokio::test]
async fn t9_bodies_are_bounded_by_what_the_route_can_need() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    site.let_everybody_in().await;
    let agent = site.agent(MAC).await;
    site.order(agent.machine, capture_of("debian")).await;
    begin(&agent).await;
    for (path, len) in [
        ("/agent/v1/enrol", 2 << 20),
        ("/agent/v1/log", 2 << 20),
        ("/agent/v1/inventory", 2 << 20),
        ("/agent/v1/store/missing", 8 << 20),
        ("/agent/v1/store/fetch", 8 << 20),
        ("/agent/v1/store/changed", 8 << 20),
        ("/agent/v1/store/chunks", 40 << 20),
    ] {
        let answer = ask(
            site.agents,
            agent.boot.ca,
            Some(agent.identity()),
            "POST",
            path,
            &vec![b' '; len],
        )
        .await;
        assert_eq!(answer.status, 413, "{path}: {}", answer.text());
    }
    // It says more than it sends, and goes.
    for path in ["/agent/v1/log", "/agent/v1/store/chunks"] {
        let stream = tls(site.agents, agent.boot.ca, Some(agent.identity())).await;
        let mut request = head("POST", path, 1 << 19);
        request.extend_from_slice(&[b' '; 1000]);
        let _ = tokio::time::timeout(Duration::from_millis(300), send_raw(stream, &request)).await;
    }
    agent
        .client
        .log(&LogLines {
            lines: vec!["still here".to_owned()],
        })
        .await
        .unwrap();
}

/// Hundreds of connections from many addresses that stop in the middle of getting in: before TLS, within its
/// first message, after it, in the head and in the body of an enrolment. None is left after a minute.
#[tokio::test]
async fn t9_agents_that_vanish_while_they_enrol_are_forgotten_within_a_minute() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    site.let_everybody_in().await;
    let boot = site.boot(MAC).await;
    let mut held: Vec<Box<dyn tokio::io::AsyncRead + Unpin>> = Vec::new();
    for n in 0..200u8 {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        let from = SocketAddr::from(([127, 6, n % 4, 1], 0));
        socket.bind(from).unwrap();
        let mut stream = socket.connect(site.agents).await.unwrap();
        if n % 2 == 1 {
            // A record of TLS that is announced and does not come.
            stream.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
        }
        held.push(Box::new(stream));
    }
    let whole = head("POST", "/agent/v1/enrol", 1000);
    for said in [0, 30, whole.len(), whole.len()] {
        let mut stream = tls(site.agents, boot.ca, None).await;
        stream.write_all(&whole[..said]).await.unwrap();
        stream.flush().await.unwrap();
        held.push(Box::new(stream));
    }
    let start = std::time::Instant::now();
    // The places are taken, but not all of them: the machine itself gets in meanwhile.
    boot.enrolled(&new_key()).await;
    let ended = held.into_iter().map(|mut stream| async move {
        let mut buffer = [0; 4096];
        let closed = async {
            while matches!(
                tokio::io::AsyncReadExt::read(&mut stream, &mut buffer).await,
                Ok(1..)
            ) {}
        };
        tokio::time::timeout(Duration::from_secs(60), closed)
            .await
            .is_ok()
    });
    let ended = futures::future::join_all(ended).await;
    let open = ended.iter().filter(|closed| !**closed).count();
    println!(
        "T9: {} connections, the last closed after {:.0} s",
        ended.len(),
        start.elapsed().as_secs_f64()
    );
    assert_eq!(open, 0, "still open after a minute");
}

/// Ten thousand enrolments with tokens nobody made, and a thousand scripts asked for in a machine's name: no
/// sessions, no more tokens than the ration, and the machine itself gets in.
#[tokio::test]
async fn t9_enrolments_and_tokens_are_bounded() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    site.let_everybody_in().await;
    let boot = site.boot(MAC).await;
    let machine = site.machine_of(MAC);
    let mut stream = tls(site.agents, boot.ca, None).await;
    let csr = rcgen::CertificateParams::default().serialize_request(&new_key());
    let csr = csr.unwrap().pem().unwrap();
    for n in 0..10_000u32 {
        let request = EnrolRequest {
            token: format!("{n:032x}"),
            csr: csr.clone(),
            mac: MAC.to_owned(),
            smbios_uuid: None,
            serial: String::new(),
            agent_version: "1".to_owned(),
        };
        let body = serde_json::to_string(&request).unwrap();
        let asked = format!(
            "POST /agent/v1/enrol HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(asked.as_bytes()).await.unwrap();
        let answer = read_answer(&mut stream).await.unwrap();
        assert_eq!(answer.status, 401, "{}", answer.text());
    }
    assert!(
        site.core
            .db
            .agent_sessions(machine)
            .await
            .unwrap()
            .is_empty()
    );
    let start = std::time::Instant::now();
    let mut given = 0;
    for _ in 0..1000 {
        let script = site.script(MAC).await;
        given += u64::from(script.contains("farrier.token="));
        assert!(script.contains("farrier.token=") || script.contains("Too many machines start"));
    }
    let most = 256 + 8 * (start.elapsed().as_secs() + 2);
    println!("T9: {given} of 1000 scripts had a token");
    assert!(given > 0 && given <= most, "{given}");
    boot.enrolled(&new_key()).await;
    assert_eq!(site.core.db.agent_sessions(machine).await.unwrap().len(), 1);
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

fn chunk_body(chunk: &StoredChunk) -> Vec<u8> {
    let mut body = bytes::BytesMut::new();
    farrier_api::agent::write_frame(&mut body, &chunk.id.0, &chunk.frame);
    body.to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_a_disk_is_captured_deployed_and_repaired_over_the_network() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    site.let_everybody_in().await;
    let agent = site.agent(MAC).await;
    let source = Arc::new(disk(5, 8));

    let id = site.order(agent.machine, capture_of("debian")).await;
    let (task, fence, _) = begin(&agent).await;
    let remote = Remote {
        client: agent.client.clone(),
        task,
        fence,
        handle: Handle::current(),
    };
    let captured = tokio::task::spawn_blocking({
        let source = Arc::clone(&source);
        move || {
            let plan =
                capture::plan(&*source, &CaptureOptions::new("debian".parse().unwrap())).unwrap();
            capture::capture(&*source, &plan, &remote, &Unwatched).unwrap()
        }
    });
    let captured = captured.await.unwrap();
    let keys = [site.core.ca.image_verifying_key()];
    let (_, root) = captured.signed.open(&keys).unwrap();
    agent
        .client
        .result(task, &done(fence, Some(root.to_string())))
        .await
        .unwrap();
    assert_eq!(site.stored(id).await.state, State::Done);
    site.told(agent.machine, Kind::Task, "debian version 1 was captured")
        .await;

    let target = Arc::new(disk(6, 9));
    for (work, mode) in [
        (deploy_of("debian"), Mode::Deploy),
        (repair("debian"), Mode::Repair),
    ] {
        if mode == Mode::Repair {
            target.write_at(1 << 20, &noise(7, 4096)).unwrap();
        }
        let id = site.order(agent.machine, work).await;
        let (task, fence, work) = begin(&agent).await;
        let (WireWork::Deploy { version, root, .. } | WireWork::Repair { version, root, .. }) =
            work
        else {
            panic!("{work:?}")
        };
        let signed = SignedManifest {
            bytes: agent
                .client
                .manifest("debian", version, MAX_PLAIN)
                .await
                .unwrap(),
        };
        let (manifest, signed_root) = signed.open(&keys).unwrap();
        assert_eq!(signed_root.to_string(), root);
        let remote = Remote {
            client: agent.client.clone(),
            task,
            fence,
            handle: Handle::current(),
        };
        let applied = tokio::task::spawn_blocking({
            let target = Arc::clone(&target);
            move || {
                let plan = apply::plan(&*target, &manifest, mode).unwrap();
                apply::apply(&*target, &manifest, &plan, &remote, &Unwatched).unwrap()
            }
        });
        let applied = applied.await.unwrap();
        assert!(applied.proven);
        if mode == Mode::Repair {
            assert_eq!(
                (applied.different.len(), applied.fetched_chunks),
                (1, 1),
                "only what differs moves"
            );
            let (patched, moved) = (applied.patched_chunks, applied.fetched_bytes);
            assert!(
                patched == 1 && moved < 3 * 4096,
                "{moved} bytes moved for one block of noise"
            );
        }
        agent
            .client
            .result(task, &done(fence, Some(applied.root.to_string())))
            .await
            .unwrap();
        assert_eq!(site.stored(id).await.state, State::Done);
        assert!(
            content(&target)[..8 << 20] == content(&source)[..],
            "{mode:?}"
        );
    }
}
