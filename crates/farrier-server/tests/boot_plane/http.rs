//! What the boot port says over HTTP, and what it never does.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use farrier_server::boot_tree::BootTree;
use farrier_server::http::boot::{BootHttp, router};
use farrier_server::http::serve::{Limits, serve};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::{LOOPBACK, kernel};
use crate::site::Site;
use crate::site::wire::{Answer, send_raw};

/// The boot plane's HTTP listener.
pub(crate) async fn http(
    site: &Site,
    networks: Vec<(Ipv4Addr, u8)>,
    limits: Limits,
) -> (SocketAddr, watch::Sender<bool>) {
    let tree = Arc::new(BootTree::new(Arc::clone(&site.core), networks));
    listen(
        router(BootHttp {
            core: Arc::clone(&site.core),
            tree,
        }),
        limits,
    )
    .await
}

pub(crate) async fn listen(router: Router, limits: Limits) -> (SocketAddr, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
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
