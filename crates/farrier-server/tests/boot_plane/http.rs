//! What the boot port says over HTTP, and what it never does.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use farrier_engine::model::Registration;
use farrier_engine::task::{State, Task, Work};
use farrier_engine::timeline::Kind;
use farrier_server::boot_tree::{Asker, BootTree};
use farrier_server::http::boot::{BootHttp, router};
use farrier_server::http::serve::{Limits, serve};
use farrier_server::named_scripts::Gone;
use farrier_server::script;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::{LOOPBACK, kernel};
use crate::site::wire::{Answer, send_raw};
use crate::site::{LOADER, Site, named_in};

/// The boot plane's HTTP listener.
pub(crate) async fn http(
    site: &Site,
    networks: Vec<(Ipv4Addr, u8)>,
    limits: Limits,
) -> (SocketAddr, watch::Sender<bool>) {
    listen(files(site, networks), limits).await
}

/// What can be fetched from it.
pub(crate) fn files(site: &Site, networks: Vec<(Ipv4Addr, u8)>) -> Router {
    let tree = Arc::new(BootTree::new(Arc::clone(&site.core), networks));
    router(BootHttp {
        core: Arc::clone(&site.core),
        tree,
    })
}

pub(crate) async fn listen(router: Router, limits: Limits) -> (SocketAddr, watch::Sender<bool>) {
    listen_at(Ipv4Addr::LOCALHOST.into(), router, limits).await
}

/// The same at this address of ours.
pub(crate) async fn listen_at(
    address: IpAddr,
    router: Router,
    limits: Limits,
) -> (SocketAddr, watch::Sender<bool>) {
    let listener = TcpListener::bind((address, 0)).await.unwrap();
    let at = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(serve(listener, None, router, limits, stopped));
    (at, stop)
}

pub(crate) const LIMITS: Limits = Limits {
    total: 64,
    per_address: 32,
    bodies: 1 << 20,
};

pub(crate) async fn ask(at: SocketAddr, request: &str) -> Answer {
    let stream = TcpStream::connect(at).await.unwrap();
    send_raw(stream, request.as_bytes())
        .await
        .unwrap_or_else(|| panic!("no answer to {request:.60}"))
}

pub(crate) async fn get(at: SocketAddr, path: &str, more: &str) -> Answer {
    ask(
        at,
        &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{more}\r\n"),
    )
    .await
}

#[tokio::test]
async fn rfc9110_head_ranges_and_never_a_redirect() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    let (at, _stop) = http(&site, vec![LOOPBACK], LIMITS).await;
    let path = format!("/{}", kernel(&site));
    let whole = get(at, &path, "").await;
    assert_eq!((whole.status, whole.body.len()), (200, 100_000));
    let head = ask(
        at,
        &format!("HEAD {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
    )
    .await;
    let lines = |answer: &Answer| {
        let mut lines: Vec<_> = answer
            .head
            .lines()
            .filter(|l| !l.starts_with("date:"))
            .map(str::to_owned)
            .collect();
        lines.sort();
        lines
    };
    assert_eq!(lines(&head), lines(&whole));
    assert_eq!(head.body, b"");
    let part = get(at, &path, "range: bytes=10-19\r\n").await;
    assert_eq!(
        (part.status, part.body.as_slice()),
        (206, &whole.body[10..20])
    );
    assert_eq!(part.header("content-range"), Some("bytes 10-19/100000"));
    assert_eq!(get(at, &path, "range: bytes=100000-\r\n").await.status, 416);
    for path in [
        "",
        "//",
        "/boot//first.ipxe",
        "/boot/../boot/first.ipxe",
        "/boot",
        "/BOOT/FIRST.IPXE",
    ] {
        let answer = get(at, if path.is_empty() { "/" } else { path }, "").await;
        assert!(
            answer.status == 200 || answer.status == 404,
            "{path}: {}",
            answer.status
        );
        assert_eq!(answer.header("location"), None);
    }
    for method in [
        "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW", "CONNECT",
    ] {
        let answer = ask(
            at,
            &format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
        )
        .await;
        assert!(
            (400..500).contains(&answer.status),
            "{method}: {}",
            answer.status
        );
    }
    let strangers = http(&site, vec![(Ipv4Addr::new(192, 0, 2, 0), 24)], LIMITS).await;
    assert_eq!(get(strangers.0, &path, "").await.status, 404);
    assert_eq!(
        get(strangers.0, "/boot/script?mac=52:54:00:00:00:01", "")
            .await
            .status,
        404
    );
}

/// Z16: what starts the agent is behind a name that differs each time, is good once, from the address it was told to,
/// and while its task is there. HEAD and other machines do not use it up.
#[tokio::test]
async fn z16_the_answer_names_a_script_that_is_good_once() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    let (at, _stop) = http(&site, vec![LOOPBACK], LIMITS).await;
    let (mac, other) = ("52:54:00:00:00:01", "52:54:00:00:00:02");
    for mac in [mac, other] {
        site.script(mac).await;
        let machine = site.machine_of(mac);
        site.set_registration(machine, Registration::Approved).await;
    }
    let machine = site.machine_of(mac);
    let task = site.order(machine, Work::Inventory).await;
    let says = |mac| [("mac", mac), ("platform", "efi"), ("buildarch", "x86_64")];
    let told = async || {
        let answer = site.answer_for(&says(mac)).await;
        assert!(!answer.contains("farrier."), "no secret: {answer}");
        let name = named_in(&answer).unwrap_or_else(|| panic!("no name in {answer}"));
        format!("/boot/named/{name}")
    };
    let none = site.answer_for(&says(other)).await;
    assert_eq!(named_in(&none), None, "another machine is named nothing");

    let (first, second) = (told().await, told().await);
    assert_ne!(first, second);
    // A neighbour that overheard the name.
    let neighbour = Asker {
        ip: Ipv4Addr::new(127, 0, 0, 9).into(),
        ..LOADER
    };
    let name = first.rsplit('/').next().unwrap();
    let refused = script::named(&site.core, neighbour, name).await;
    assert_eq!(
        refused,
        Err(Gone::Elsewhere {
            machine,
            first: true
        })
    );
    site.told(machine, Kind::Warning, "refused to 127.0.0.9")
        .await;
    let head = format!("HEAD {first} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    assert_eq!(ask(at, &head).await.status, 405);

    let tokens = [get(at, &first, "").await, get(at, &second, "").await].map(|answer| {
        assert_eq!(answer.status, 200);
        let text = answer.text();
        assert!(text.contains(&format!("farrier.mac={mac} ")), "{text}");
        let (_, token) = text.split_once("farrier.token=").unwrap();
        token.split(' ').next().unwrap().to_owned()
    });
    assert_ne!(tokens[0], tokens[1]);
    assert!(!first.contains(&tokens[0]), "the name is no token");
    for spent in [&first, &second] {
        let answer = get(at, spent, "").await;
        assert_eq!(answer.status, 410);
        assert!(answer.text().contains("good once"), "{}", answer.text());
    }
    site.told(machine, Kind::Warning, "it was fetched already")
        .await;
    let unknown = format!("/boot/named/{}", "0".repeat(32));
    assert_eq!(get(at, &unknown, "").await.status, 404);

    let late = told().await;
    let cancelled = |task: &Task| {
        let state = State::Cancelled;
        Ok::<_, ()>((
            Task {
                state,
                ..task.clone()
            },
            (),
        ))
    };
    let done = site.core.fleet.change_task(task, cancelled).await;
    done.unwrap().unwrap();
    let answer = get(at, &late, "").await;
    assert_eq!(answer.status, 410);
    assert!(
        answer.text().contains("work that is over"),
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn t7_no_name_leads_out_of_the_tree() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    let (at, _stop) = http(&site, vec![LOOPBACK], LIMITS).await;
    for path in [
        "/../../../../etc/passwd",
        "/..%2f..%2fetc/passwd",
        "/%2e%2e/farrier.db",
        "/boot/agent/..%5c..%5cca/root.key",
        "/boot/agent/%00/vmlinuz",
        "/ca/root.key",
        "/farrier.db",
        "/api/v1/machines",
        "/agent/v1/work",
        "/setup",
        "http://other/etc/passwd",
        "*",
    ] {
        let answer = get(at, path, "").await;
        assert!(
            (400..500).contains(&answer.status),
            "{path}: {}",
            answer.status
        );
        assert!(
            !answer.text().contains("root:") && !answer.text().contains("PRIVATE"),
            "{path}"
        );
    }
    let junk = [
        "\0\0\0\0\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
    ];
    for request in junk {
        let answer = send_raw(TcpStream::connect(at).await.unwrap(), request.as_bytes()).await;
        assert!(
            answer.is_none_or(|answer| (400..506).contains(&answer.status)),
            "{request:?}"
        );
    }
    assert_eq!(get(at, "/boot/first.ipxe", "").await.status, 200);
}
