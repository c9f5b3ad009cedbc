//! HTTP clients that take more than their share: of connections, of time, of memory.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::post;
use farrier_server::http::serve::Limits;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::LOOPBACK;
use super::http::{LIMITS, ask, get, http, listen};
use crate::site::Site;
use crate::site::wire::{read_answer, send_raw};

#[tokio::test]
async fn t9_one_address_gets_its_share_of_connections_and_no_more() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    let (at, _stop) = http(
        &site,
        vec![LOOPBACK],
        Limits {
            total: 64,
            per_address: 4,
            bodies: 1 << 20,
        },
    )
    .await;
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream
            .write_all(b"GET /boot/first.ipxe HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        assert_eq!(read_answer(&mut stream).await.unwrap().status, 200);
        held.push(stream);
    }
    let one_more = TcpStream::connect(at).await.unwrap();
    assert_eq!(
        send_raw(
            one_more,
            b"GET /boot/first.ipxe HTTP/1.1\r\nhost: x\r\n\r\n"
        )
        .await,
        None
    );
    held.clear();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(get(at, "/boot/first.ipxe", "").await.status, 200);
}

/// Whoever opens a connection and then does next to nothing; all at once, since each takes half a minute.
#[tokio::test]
async fn t9_connections_that_say_nothing_are_closed_within_a_minute() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    let (at, _stop) = http(&site, vec![LOOPBACK], LIMITS).await;
    let (bodies, _stop) = listen(
        Router::new().route("/", post(|_: axum::body::Bytes| async {})),
        LIMITS,
    )
    .await;
    let cases: [(&str, SocketAddr, &[u8]); 5] = [
        ("nothing at all", at, b""),
        (
            "half a head",
            at,
            b"GET /boot/first.ipxe HTTP/1.1\r\nhost: ",
        ),
        ("the start of HTTP/2", at, b"PRI * HTT"),
        (
            "a head, and no more",
            at,
            b"GET /boot/first.ipxe HTTP/1.1\r\nhost: x\r\n\r\n",
        ),
        (
            "a body that stops",
            bodies,
            b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nabc",
        ),
    ];
    let waits = cases.map(|(what, at, said)| async move {
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(said).await.unwrap();
        let start = Instant::now();
        let mut buffer = [0; 4096];
        let closed = async {
            while matches!(
                tokio::io::AsyncReadExt::read(&mut stream, &mut buffer).await,
                Ok(1..)
            ) {}
        };
        (
            what,
            tokio::time::timeout(Duration::from_secs(60), closed)
                .await
                .map(|()| start.elapsed())
                .ok(),
        )
    });
    let left: Vec<_> = futures::future::join_all(waits).await;
    println!("T9: {left:?}");
    let open: Vec<_> = left
        .iter()
        .filter(|(_, after)| after.is_none())
        .map(|(what, _)| what)
        .collect();
    assert!(open.is_empty(), "still open after a minute: {open:?}");
}

/// A body without an end, which holds `alive` as long as it is there.
fn endless(alive: Arc<()>) -> axum::body::Body {
    let endless = futures::stream::repeat_with(move || {
        let _held = &alive;
        Ok::<_, std::io::Error>(bytes::Bytes::from_static(&[0; 65536]))
    });
    axum::body::Body::from_stream(endless)
}

/// A body or an answer that goes on by a byte a second is let go like one that stands still, whatever the size.
#[tokio::test]
async fn t9_what_goes_on_in_drips_is_let_go_within_a_minute() {
    let data = tempfile::tempdir().unwrap();
    let _site = Site::open(data.path()).await;
    let alive = Arc::new(());
    let held = Arc::clone(&alive);
    let much = move || std::future::ready(endless(Arc::clone(&held)));
    let router = Router::new().route("/", post(|_: axum::body::Bytes| async {}).get(much));
    let (at, _stop) = listen(router, LIMITS).await;
    let idle = Arc::strong_count(&alive);
    let second = Duration::from_secs(1);

    let mut giving = TcpStream::connect(at).await.unwrap();
    giving
        .write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n")
        .await
        .unwrap();
    let given = async {
        let start = Instant::now();
        let mut byte = [0];
        while start.elapsed() < 60 * second {
            let said = tokio::time::timeout(
                second,
                tokio::io::AsyncReadExt::read(&mut giving, &mut byte),
            )
            .await;
            if said.is_ok() || giving.write_all(b"x").await.is_err() {
                return true;
            }
        }
        false
    };
    let mut taking = TcpStream::connect(at).await.unwrap();
    taking
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let taken = async {
        let start = Instant::now();
        let mut some = [0; 100];
        while start.elapsed() < 60 * second {
            tokio::time::sleep(second).await;
            if !matches!(
                tokio::io::AsyncReadExt::read(&mut taking, &mut some).await,
                Ok(1..)
            ) {
                return true;
            }
            if Arc::strong_count(&alive) == idle {
                return true;
            }
        }
        false
    };
    let (given, taken) = tokio::join!(given, taken);
    assert!(given, "a body in drips is still taken after a minute");
    assert!(taken, "an answer in drips is still given after a minute");
}

/// Many addresses, each within its own limit, send bodies and do not end them: together they get no more
/// than their room, the next one is told to come again, and when they are gone there is room.
#[tokio::test]
async fn t9_bodies_are_bounded_over_all_addresses() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    let router = Router::new().route("/", post(|_: axum::body::Bytes| async { "taken" }));
    let (at, _stop) = listen(router, LIMITS).await;
    let mut held = Vec::new();
    for n in 1..=40 {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 5, 0, n], 0))).unwrap();
        let mut stream = socket.connect(at).await.unwrap();
        let mut said = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 60000\r\n\r\n".to_vec();
        said.resize(said.len() + 50_000, b'x');
        stream.write_all(&said).await.unwrap();
        held.push(stream);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let whole = format!(
        "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 50000\r\n\r\n{}",
        "x".repeat(50_000)
    );
    let answer = ask(at, &whole).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(
        answer.text().contains("\"retry\":true"),
        "{}",
        answer.text()
    );
    let mut refused = 0;
    for stream in &mut held {
        let answer = tokio::time::timeout(Duration::from_millis(20), read_answer(stream)).await;
        refused += usize::from(answer.is_ok());
    }
    println!("T9: of 40 bodies of 50 kB in 1 MiB of room, {refused} were cut off");
    assert!((19..=24).contains(&refused), "{refused}");
    drop(held);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(ask(at, &whole).await.text(), "taken");
    let form = format!("mac={}", "5".repeat(20_000));
    let (boot, _stop) = http(&site, vec![LOOPBACK], LIMITS).await;
    let large = format!(
        "POST /boot/script HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{form}",
        form.len()
    );
    assert_eq!(ask(boot, &large).await.status, 413);
}

/// A client that asks for much and takes nothing: its window fills, and it is let go.
#[tokio::test]
async fn t9_a_client_that_stops_reading_is_let_go_within_a_minute() {
    let data = tempfile::tempdir().unwrap();
    let _site = Site::open(data.path()).await;
    let alive = Arc::new(());
    let held = Arc::clone(&alive);
    let much = move || std::future::ready(endless(Arc::clone(&held)));
    let (at, _stop) = listen(Router::new().route("/", axum::routing::get(much)), LIMITS).await;
    let idle = Arc::strong_count(&alive);
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(Arc::strong_count(&alive) > idle, "it is being served");
    let start = Instant::now();
    while Arc::strong_count(&alive) > idle {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "still held after a minute"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    println!("T9: let go after {:.0} s", start.elapsed().as_secs_f64());
    drop(stream);
}
