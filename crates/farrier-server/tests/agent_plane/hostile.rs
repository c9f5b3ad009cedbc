//! Requests that are broken, too large or never end.

use std::net::SocketAddr;
use std::time::Duration;

use farrier_api::agent::{EnrolRequest, LogLines};
use farrier_engine::task::State;
use farrier_image::chunk::StoredChunk;
use tokio::io::AsyncWriteExt;
use uuid::Uuid;

use super::rights::routes;
use super::{MAC, begin, progress};
use crate::site::disk::noise;
use crate::site::wire::{ask, head, read_answer, send_raw, tls};
use crate::site::{Site, capture_of, new_key};

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
