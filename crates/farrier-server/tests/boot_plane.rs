//! The boot plane under strangers, noise and silence: T7, T8, T9 of the threat model, over loopback.
#![allow(clippy::print_stdout, reason = "the figures are what the run is for")]

mod site;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::post;
use farrier_engine::model::Registration;
use farrier_engine::task::Work;
use farrier_proto::MacAddr;
use farrier_proto::wire::dhcpv4::{Message, Xid};
use farrier_server::boot::Outcome;
use farrier_server::boot_tree::BootTree;
use farrier_server::config::Mode;
use farrier_server::core::now;
use farrier_server::exchanges::Exchange;
use farrier_server::http::boot::{BootHttp, router};
use farrier_server::http::serve::{Limits, serve};
use farrier_server::transfer::{Habits, TftpServer, Transfers};
use proptest::prelude::*;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;

use site::Site;
use site::wire::{Answer, read_answer, send_raw};

/// The boot plane's TFTP server on a port of its own.
struct Tftp {
    at: SocketAddr,
    transfers: Arc<Transfers>,
    _stop: watch::Sender<bool>,
}

async fn tftp(site: &Site, networks: Vec<(Ipv4Addr, u8)>) -> Tftp {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let at = socket.local_addr().unwrap();
    let tree = Arc::new(BootTree::new(Arc::clone(&site.core), networks));
    let transfers = Arc::new(Transfers::default());
    let (stop, stopped) = watch::channel(false);
    let server = TftpServer {
        socket,
        interface: "lo".to_owned(),
        address: Ipv4Addr::LOCALHOST.into(),
        tree,
        transfers: Arc::clone(&transfers),
        streams: None,
        habits: Habits::default(),
    };
    tokio::spawn(server.run(stopped));
    Tftp {
        at,
        transfers,
        _stop: stop,
    }
}

const LOOPBACK: (Ipv4Addr, u8) = (Ipv4Addr::new(127, 0, 0, 0), 8);

fn request(opcode: u16, name: &str, options: &[(&str, &str)]) -> Vec<u8> {
    let mut packet = opcode.to_be_bytes().to_vec();
    for text in [name, "octet"]
        .into_iter()
        .chain(options.iter().flat_map(|(name, value)| [*name, *value]))
    {
        packet.extend_from_slice(text.as_bytes());
        packet.push(0);
    }
    packet
}

/// What came in within `patience`, each with its sender.
async fn hear(client: &UdpSocket, patience: Duration) -> Vec<(Vec<u8>, SocketAddr)> {
    let (mut heard, mut buffer) = (Vec::new(), [0; 4096]);
    let end = tokio::time::Instant::now() + patience;
    while let Ok(Ok((len, from))) =
        tokio::time::timeout_at(end, client.recv_from(&mut buffer)).await
    {
        heard.push((buffer[..len].to_vec(), from));
    }
    heard
}

fn kernel(site: &Site) -> String {
    format!(
        "boot/agent/{}/vmlinuz",
        site.core.loaders.agent().as_ref().as_ref().unwrap().tag
    )
}

/// Bytes of a BOOTP request and its answer, the shortest exchange there is.
const EXCHANGE: (usize, usize) = (300, 548);

/// As after a DHCP exchange: a request without options is answered then.
fn prove(site: &Site, ip: Ipv4Addr) {
    let mac = MacAddr([0x52, 0x54, 0, 0, 9, 9]);
    let exchange = Exchange {
        mac,
        address: Some(ip),
        known: false,
        heard: EXCHANGE.0,
        answered: EXCHANGE.1,
    };
    site.core.exchanges.saw(&exchange, now());
}

fn host(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 2, 0, n)
}

/// Bytes of the IP packets that carry these payloads.
fn on_the_wire<'a>(payloads: impl Iterator<Item = &'a Vec<u8>>) -> usize {
    payloads.map(|payload| payload.len() + 28).sum()
}

#[allow(clippy::cast_precision_loss, reason = "some thousand bytes")]
fn factor(asked: usize, heard: usize) -> f64 {
    heard as f64 / asked as f64
}

#[tokio::test]
async fn t8_little_comes_back_before_the_first_ack() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    let server = tftp(&site, vec![LOOPBACK]).await;
    let name = kernel(&site);
    prove(&site, host(4));
    let greedy = vec![
        ("blksize", "65464"),
        ("windowsize", "65535"),
        ("tsize", "0"),
        ("timeout", "1"),
    ];
    let firmware = vec![("tsize", "0"), ("blksize", "1468")];
    // Who, from where, with what; packets at most, bytes out for each byte in at most.
    let cases = [
        ("firmware", host(1), firmware, 4, 5.0),
        ("greedy", host(2), greedy, 4, 5.0),
        ("no options, a stranger", host(3), vec![], 1, 5.0),
        ("no options, after an exchange", host(4), vec![], 1, 5.0),
    ];
    let asking = cases.map(|(who, host, options, packets, limit)| {
        let (name, at) = (name.as_str(), server.at);
        async move {
            let client = UdpSocket::bind(SocketAddrV4::new(host, 0)).await.unwrap();
            let asked = request(1, name, &options);
            client.send_to(&asked, at).await.unwrap();
            // Silence follows: the source may have been forged.
            let heard = hear(&client, Duration::from_secs(14)).await;
            let (mut bytes_in, mut out) = (
                asked.len() + 28,
                on_the_wire(heard.iter().map(|(packet, _)| packet)),
            );
            if who == "no options, after an exchange" {
                bytes_in += EXCHANGE.0 + 28;
                out += EXCHANGE.1 + 28;
            }
            let factor = factor(bytes_in, out);
            println!(
                "T8: {who}: {bytes_in} in, {out} out in {} packets, factor {factor:.1}",
                heard.len()
            );
            assert!(
                (1..=packets).contains(&heard.len()),
                "{who}: {}",
                heard.len()
            );
            assert!(factor <= limit, "{who}: {factor}");
            let expected = match who {
                "no options, a stranger" => 5,
                "no options, after an exchange" => 3,
                _ => 6,
            };
            assert!(
                heard.iter().all(|(packet, _)| packet[..2] == [0, expected]),
                "{who}"
            );
        }
    });
    futures::future::join_all(asking).await;
    let refused = site.core.counters.values();
    assert!(refused.contains(&("address_not_proven", 1)), "{refused:?}");
}

/// The largest answer there is to the smallest request, from an address that may ask so.
#[tokio::test]
async fn t8_a_flood_of_forged_requests_gets_five_times_its_bytes() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    let server = tftp(&site, vec![LOOPBACK]).await;
    let victim = Ipv4Addr::new(127, 2, 0, 5);
    prove(&site, victim);
    let asked = request(1, &kernel(&site), &[]);
    let (mut clients, mut heard) = (Vec::new(), Vec::new());
    let mut bytes_in = EXCHANGE.0 + 28;
    for round in 0..20 {
        for n in 0..60 {
            if round == 0 {
                let client = UdpSocket::bind(SocketAddrV4::new(victim, 0)).await.unwrap();
                clients.push(client);
            }
            let client: &UdpSocket = &clients[n];
            client.send_to(&asked, server.at).await.unwrap();
            bytes_in += asked.len() + 28;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        for client in &clients {
            let mut buffer = [0; 600];
            while let Ok(len) = client.try_recv(&mut buffer) {
                heard.push(buffer[..len].to_vec());
            }
        }
        let out = EXCHANGE.1 + 28 + on_the_wire(heard.iter());
        assert!(out <= 5 * bytes_in, "{out} for {bytes_in} in round {round}");
        if round == 0 {
            assert!(out > 5 * 544, "some are answered");
        }
        if round % 19 == 0 {
            println!(
                "T8: an exchange and {} requests: {bytes_in} in, {out} out, factor {:.1}",
                (round + 1) * 60,
                factor(bytes_in, out)
            );
        }
    }
    let withheld = site.core.counters.values();
    let withheld = withheld.iter().find(|(name, _)| *name == "answer_budget");
    assert!(
        withheld.is_some_and(|(_, count)| *count > 0),
        "{withheld:?}"
    );
}

#[tokio::test]
async fn rfc1350_a_request_that_comes_again_is_answered_again() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    let server = tftp(&site, vec![LOOPBACK]).await;
    prove(&site, Ipv4Addr::LOCALHOST);
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let asked = request(1, &kernel(&site), &[]);
    let mut transfers = Vec::new();
    for _ in 0..3 {
        client.send_to(&asked, server.at).await.unwrap();
        let heard = hear(&client, Duration::from_millis(300)).await;
        assert_eq!(heard.len(), 1);
        assert_eq!(heard[0].0[..4], [0, 3, 0, 1]);
        transfers.push(heard[0].1);
    }
    assert!(
        transfers.iter().all(|from| *from == transfers[0]),
        "one transfer"
    );
    client.send_to(&[0, 4, 0, 1], transfers[0]).await.unwrap();
    let heard = hear(&client, Duration::from_millis(30)).await;
    assert_eq!(heard[0].0[..4], [0, 3, 0, 2]);
}

/// Invented hardware addresses that fetch scripts, a thousand and more: few become machines, and who is on
/// record notices nothing.
#[tokio::test]
async fn t10_invented_addresses_do_not_fill_the_database() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    let (at, _stop) = http(&site, vec![LOOPBACK], LIMITS).await;
    let known = "52:54:00:00:00:01";
    site.script(known).await;
    site.set_registration(site.machine_of(known), Registration::Approved)
        .await;
    let usual = site.script(known).await;
    let start = Instant::now();
    let mut stream = TcpStream::connect(at).await.unwrap();
    let mut turned_away = 0;
    for n in 0..5000u32 {
        let [_, a, b, c] = n.to_be_bytes();
        let mac = format!("02:00:00:{a:02x}:{b:02x}:{c:02x}");
        let asked = format!(
            "GET /boot/script?mac={mac}&platform=efi&buildarch=x86_64 HTTP/1.1\r\nhost: x\r\n\r\n"
        );
        stream.write_all(asked.as_bytes()).await.unwrap();
        let answer = read_answer(&mut stream).await.unwrap();
        assert_eq!(answer.status, 200);
        turned_away += usize::from(answer.text().contains("Too many unknown machines"));
        if n % 500 == 499 {
            let asked = Instant::now();
            let script = site.script(known).await;
            assert_eq!(script.lines().count(), usual.lines().count(), "{script}");
            assert!(asked.elapsed() < Duration::from_secs(1));
        }
    }
    // Work for it starts its agent, from the very address where all the others asked.
    site.order(site.machine_of(known), Work::Inventory).await;
    let script = site.script(known).await;
    assert!(script.contains("farrier.token="), "{script}");
    let seconds = usize::try_from(start.elapsed().as_secs()).unwrap() + 1;
    let machines = site.core.fleet.machine_count();
    println!(
        "T10: 5000 invented addresses in {seconds} s: {machines} machines, {turned_away} turned away"
    );
    assert!(machines <= 1 + 256 + 4 * seconds, "{machines} machines");
    assert_eq!(machines - 1 + turned_away, 5000);
    let counted = site.core.counters.values();
    assert!(
        counted.contains(&("too_many_strangers", turned_away as u64)),
        "{counted:?}"
    );
    let told = site.core.sightings.strangers();
    assert!(told.len() <= 4096);
    assert!(
        told[0].1.text.contains("Too many unknown machines"),
        "{:?}",
        told[0]
    );
}

/// Where no more unconfirmed machines fit, one that was seen once and long ago makes room.
#[tokio::test]
async fn t10_what_was_seen_once_is_forgotten_first() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    let hour = Duration::from_secs(3600);
    for (n, mac) in [
        "02:00:00:00:00:01",
        "02:00:00:00:00:02",
        "02:00:00:00:00:03",
        "02:00:00:00:00:04",
    ]
    .into_iter()
    .enumerate()
    {
        site.script(mac).await;
        let age = hour * u32::try_from(10 - n).unwrap();
        site.core
            .fleet
            .saw_machine(site.machine_of(mac), now() - age);
    }
    let [approved, working, stale, recent] =
        [1, 2, 3, 4].map(|n| site.machine_of(&format!("02:00:00:00:00:0{n}")));
    assert_eq!(site.core.fleet.unconfirmed_count(), 4);
    site.set_registration(approved, Registration::Approved)
        .await;
    site.order(working, Work::Inventory).await;
    assert_eq!(site.core.fleet.unconfirmed_count(), 3);
    assert_eq!(site.core.fleet.stalest(now()), Some(stale));
    assert_eq!(
        site.core.fleet.stalest(now() - hour * 9),
        None,
        "not long enough"
    );
    site.core.fleet.delete_machine(stale).await.unwrap();
    assert_eq!(site.core.fleet.stalest(now()), Some(recent));
}

#[tokio::test]
async fn t8_strangers_get_not_one_byte() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    let server = tftp(&site, vec![(Ipv4Addr::new(192, 0, 2, 0), 24)]).await;
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for packet in [
        request(1, &kernel(&site), &[]),
        request(2, "x", &[]),
        request(1, "nosuch", &[]),
        vec![0xff; 600],
    ] {
        client.send_to(&packet, server.at).await.unwrap();
    }
    assert_eq!(hear(&client, Duration::from_secs(1)).await, []);
    assert_eq!(server.transfers.running(), 0);
}

#[tokio::test]
async fn t7_writes_and_names_that_are_none_are_refused() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    let server = tftp(&site, vec![LOOPBACK]).await;
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let long = "a/".repeat(400);
    let mut asked = vec![(request(2, "boot/first.ipxe", &[]), 2)];
    for name in [
        "",
        "/",
        "..",
        "../farrier.db",
        "..\\..\\ca\\root.key",
        "boot/../../farrier.db",
        "/etc/passwd",
        "boot/agent/x/vmlinuz",
        "boot/agent/../../ca/root.key",
        "ca/root.key",
        "farrier.db",
        "boot/agent",
        "%2e%2e/farrier.db",
        long.as_str(),
    ] {
        asked.push((request(1, name, &[("tsize", "0")]), 1));
    }
    for (packet, code) in asked {
        client.send_to(&packet, server.at).await.unwrap();
        let mut buffer = [0; 2048];
        let received = tokio::time::timeout(Duration::from_secs(5), client.recv(&mut buffer)).await;
        let len = received
            .unwrap_or_else(|_| panic!("no answer to {packet:.40?}"))
            .unwrap();
        assert_eq!(
            buffer[..4],
            [0, 5, 0, code],
            "{packet:.40?} got {:?}",
            String::from_utf8_lossy(&buffer[..len])
        );
    }
    assert_eq!(server.transfers.running(), 0);
}

#[tokio::test]
async fn t9_ten_thousand_half_open_transfers_are_bounded_and_forgotten() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    let server = tftp(&site, vec![LOOPBACK]).await;
    let asked = request(
        1,
        &kernel(&site),
        &[("blksize", "1468"), ("timeout", "255")],
    );
    let before = resident_kib();
    let (mut clients, mut most) = (Vec::new(), 0);
    for n in 0..10_000u32 {
        // A hundred ports each of a hundred hosts. They stay open, or the kernel would refuse for them.
        let host = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 1)) + n / 100);
        let client = UdpSocket::bind(SocketAddrV4::new(host, 0)).await.unwrap();
        client.send_to(&asked, server.at).await.unwrap();
        clients.push(client);
        if n % 50 == 0 {
            tokio::task::yield_now().await;
            most = most.max(server.transfers.running());
        }
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    most = most.max(server.transfers.running());
    let grown = resident_kib().saturating_sub(before);
    println!(
        "T9: {most} transfers at most, {grown} KiB more in use, 10000 sockets of the test included"
    );
    assert!((1000..=4096).contains(&most), "{most} at once");
    assert!(grown < 256 << 10, "{grown} KiB");
    let one = clients
        .iter()
        .filter(|client| client.local_addr().unwrap().ip() == Ipv4Addr::new(127, 1, 0, 1));
    let mut answered = 0;
    for client in one {
        let mut buffer = [0; 100];
        if let Ok(len) = client.try_recv(&mut buffer) {
            answered += usize::from(len > 1 && buffer[1] == 6);
        }
    }
    assert!(answered <= 64, "one address holds {answered}");

    let start = Instant::now();
    while server.transfers.running() > 0 {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "{} are left",
            server.transfers.running()
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    println!(
        "T9: all were forgotten {:.1} s later",
        start.elapsed().as_secs_f64()
    );
    prove(&site, Ipv4Addr::LOCALHOST);
    fetch_by_tftp(server.at, "boot/first.ipxe").await;
}

fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A whole file in lock step.
async fn fetch_by_tftp(server: SocketAddr, name: &str) -> Vec<u8> {
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client
        .send_to(&request(1, name, &[]), server)
        .await
        .unwrap();
    let (mut content, mut buffer) = (Vec::new(), [0; 600]);
    for expected in 1u16.. {
        let received =
            tokio::time::timeout(Duration::from_secs(5), client.recv_from(&mut buffer)).await;
        let (len, from) = received.expect("no block").unwrap();
        assert_eq!(buffer[..4], [[0, 3], expected.to_be_bytes()].concat()[..]);
        content.extend_from_slice(&buffer[4..len]);
        client
            .send_to(&[[0, 4], expected.to_be_bytes()].concat(), from)
            .await
            .unwrap();
        if len < 516 {
            return content;
        }
    }
    content
}

#[tokio::test]
async fn t9_a_client_that_vanishes_in_any_phase_is_forgotten_within_a_minute() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::open(data.path()).await;
    let server = tftp(&site, vec![LOOPBACK]).await;
    let name = kernel(&site);
    prove(&site, Ipv4Addr::LOCALHOST);
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    silent
        .send_to(&request(1, &name, &[]), server.at)
        .await
        .unwrap();
    let halfway = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    halfway
        .send_to(
            &request(1, &name, &[("timeout", "255"), ("windowsize", "16")]),
            server.at,
        )
        .await
        .unwrap();
    let mut buffer = [0; 2048];
    let (_, from) = halfway.recv_from(&mut buffer).await.unwrap();
    halfway.send_to(&[0, 4, 0, 0], from).await.unwrap();
    hear(&halfway, Duration::from_millis(300)).await;
    // This one is gone for its host, too: the kernel says so.
    let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    closed
        .send_to(&request(1, &name, &[]), server.at)
        .await
        .unwrap();
    drop(closed);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(
        (2..=3).contains(&server.transfers.running()),
        "{}",
        server.transfers.running()
    );
    let start = Instant::now();
    while server.transfers.running() > 0 {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "{} are left",
            server.transfers.running()
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    println!(
        "T9: the last of them was forgotten after {:.1} s",
        start.elapsed().as_secs_f64()
    );
}

/// The boot plane's HTTP listener.
async fn http(
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

async fn listen(router: Router, limits: Limits) -> (SocketAddr, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(serve(listener, None, router, limits, stopped));
    (at, stop)
}

const LIMITS: Limits = Limits {
    total: 64,
    per_address: 32,
    bodies: 1 << 20,
};

async fn ask(at: SocketAddr, request: &str) -> Answer {
    let stream = TcpStream::connect(at).await.unwrap();
    send_raw(stream, request.as_bytes())
        .await
        .unwrap_or_else(|| panic!("no answer to {request:.60}"))
}

async fn get(at: SocketAddr, path: &str, more: &str) -> Answer {
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

/// A body or an answer that goes on by a byte a second is let go like one that stands still, whatever the size.
#[tokio::test]
async fn t9_what_goes_on_in_drips_is_let_go_within_a_minute() {
    let data = tempfile::tempdir().unwrap();
    let _site = Site::open(data.path()).await;
    let alive = Arc::new(());
    let much = {
        let alive = Arc::clone(&alive);
        move || {
            let held = Arc::clone(&alive);
            async move {
                let endless = futures::stream::repeat_with(move || {
                    let _held = &held;
                    Ok::<_, std::io::Error>(bytes::Bytes::from_static(&[0; 65536]))
                });
                axum::body::Body::from_stream(endless)
            }
        }
    };
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
    let much = {
        let alive = Arc::clone(&alive);
        move || {
            let held = Arc::clone(&alive);
            async move {
                let endless = futures::stream::repeat_with(move || {
                    let _held = &held;
                    Ok::<_, std::io::Error>(bytes::Bytes::from_static(&[0; 65536]))
                });
                axum::body::Body::from_stream(endless)
            }
        }
    };
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

const SUBNET: &str =
    "[[subnet]]\nnetwork = \"127.0.0.0/8\"\npools = [\"127.9.0.10-127.9.0.250\"]\n";

/// A message that a client could send, to be damaged.
fn discover() -> Vec<u8> {
    use farrier_proto::wire::option;
    let mut message = Message::request(Xid(7), MacAddr([0x52, 0x54, 0, 0, 0, 1]));
    message.options.set(option::DHCP_MESSAGE_TYPE, vec![1]);
    message.options.set(
        option::VENDOR_CLASS_IDENTIFIER,
        b"PXEClient:Arch:00007:UNDI:003016".to_vec(),
    );
    message
        .options
        .set(option::CLIENT_SYSTEM_ARCHITECTURE, vec![0, 7]);
    message
        .options
        .set(option::CLIENT_MACHINE_IDENTIFIER, vec![0; 17]);
    message.options.set(
        option::RELAY_AGENT_INFORMATION,
        vec![1, 4, b'e', b't', b'h', b'0'],
    );
    message.encode()
}

fn datagrams() -> impl Strategy<Value = Vec<u8>> {
    let noise = proptest::collection::vec(any::<u8>(), 0..2000);
    let damaged = (
        proptest::collection::vec((0..600usize, any::<u8>()), 0..40),
        0..700usize,
    )
        .prop_map(|(hits, len)| {
            let mut packet = discover();
            for (at, byte) in hits {
                if let Some(hit) = packet.get_mut(at) {
                    *hit = byte;
                }
            }
            packet.truncate(len.max(1));
            packet
        });
    prop_oneof![1 => noise, 3 => damaged]
}

/// Switches with DHCP snooping add option 82 to what they pass on, and leave `giaddr` alone.
#[tokio::test]
async fn rfc3046_option_82_without_a_relay_is_answered_on_the_link() {
    let data = tempfile::tempdir().unwrap();
    let site = Site::configured(data.path(), SUBNET).await;
    let asked = discover();
    let said = site
        .boot_port(67, Mode::Dhcp)
        .await
        .handle(&asked, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68))
        .await;
    let Outcome::Reply { reply, .. } = said else {
        panic!("{said:?}")
    };
    assert!(reply.yiaddr.octets().starts_with(&[127, 9, 0]));
    assert!(
        reply.relay_agent_information().is_some(),
        "echoed (RFC 3046 section 2.2)"
    );
}

/// raspberrypi/firmware#934: the boot ROM of a Raspberry Pi 3 hangs when it is answered at once.
#[tokio::test]
async fn quirk_a_hasty_rom_is_answered_late() {
    use farrier_proto::wire::option;
    let data = tempfile::tempdir().unwrap();
    let site = Site::configured(data.path(), SUBNET).await;
    let mut asked = Message::request(Xid(8), MacAddr([0xb8, 0x27, 0xeb, 0, 0, 1]));
    asked.options.set(option::DHCP_MESSAGE_TYPE, vec![1]);
    let class = b"PXEClient:Arch:00000:UNDI:002001".to_vec();
    asked.options.set(option::VENDOR_CLASS_IDENTIFIER, class);
    asked
        .options
        .set(option::CLIENT_SYSTEM_ARCHITECTURE, vec![0, 0]);
    let began = Instant::now();
    let said = site
        .boot_port(67, Mode::Dhcp)
        .await
        .handle(
            &asked.encode(),
            SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68),
        )
        .await;
    assert!(matches!(said, Outcome::Reply { .. }), "{said:?}");
    assert!(began.elapsed() >= Duration::from_millis(1500));
}

/// A hundred thousand DISCOVERs of invented addresses: a known machine is offered its address all the while,
/// in time, and gets it; nothing grows; and a minute later strangers are offered addresses again.
#[tokio::test]
async fn t10_known_machines_get_addresses_in_a_flood_of_invented_ones() {
    use farrier_proto::wire::dhcpv4::MessageType;
    use farrier_proto::wire::option;
    let data = tempfile::tempdir().unwrap();
    let site = Site::configured(data.path(), SUBNET).await;
    let port = site.boot_port(67, Mode::Dhcp).await;
    let known = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
    site.script(&known.to_string()).await;
    let ask = |mac, kind: u8, wanted: Option<Ipv4Addr>| {
        let mut message = Message::request(Xid(7), mac);
        message.options.set(option::DHCP_MESSAGE_TYPE, vec![kind]);
        let class = b"PXEClient:Arch:00007:UNDI:003016".to_vec();
        message.options.set(option::VENDOR_CLASS_IDENTIFIER, class);
        if let Some(wanted) = wanted {
            message
                .options
                .set(option::REQUESTED_IP_ADDRESS, wanted.octets().to_vec());
            message.options.set(
                option::SERVER_IDENTIFIER,
                Ipv4Addr::LOCALHOST.octets().to_vec(),
            );
        }
        message.encode()
    };
    let from = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
    let before = resident_kib();
    let (mut offers, mut waits) = (0, Vec::new());
    for n in 0..100_000u32 {
        let [a, b, c, d] = n.to_be_bytes();
        let invented = ask(MacAddr([2, 0, a, b, c, d]), 1, None);
        offers += usize::from(matches!(
            port.handle(&invented, from).await,
            Outcome::Reply { .. }
        ));
        if n % 500 == 499 {
            let start = Instant::now();
            let said = port.handle(&ask(known, 1, None), from).await;
            waits.push(start.elapsed());
            let Outcome::Reply { reply, .. } = said else {
                panic!("after {n}: {said:?}")
            };
            if n % 20_000 == 19_999 {
                let wanted = ask(known, 3, Some(reply.yiaddr));
                let said = port.handle(&wanted, from).await;
                let Outcome::Reply { reply: ack, .. } = said else {
                    panic!("{said:?}")
                };
                assert_eq!(ack.message_type(), Some(MessageType::Ack));
                assert_eq!(ack.yiaddr, reply.yiaddr);
            }
        }
    }
    waits.sort();
    let (p99, grown) = (
        waits[waits.len() * 99 / 100],
        resident_kib().saturating_sub(before),
    );
    println!(
        "T10: {offers} of 100000 invented addresses got an offer; known p99 {p99:?}; {grown} KiB more"
    );
    assert!(offers <= 256, "{offers} offers");
    assert!(p99 < Duration::from_millis(100), "{p99:?}");
    assert!(grown < 64 << 10, "{grown} KiB");
    assert_eq!(site.core.fleet.machine_count(), 1, "strangers cost no row");
    let later = now() + Duration::from_secs(61);
    let stranger = farrier_engine::lease::Client::new(MacAddr([2, 9, 9, 9, 9, 9]));
    let offered = site
        .core
        .leases
        .with_book(|book| book.offer(later, &stranger, Ipv4Addr::LOCALHOST, None));
    assert!(
        matches!(offered, farrier_engine::lease::Offered::Address { .. }),
        "offers nobody took are free again after a minute: {offered:?}"
    );
}

#[test]
fn t9_no_datagram_makes_a_boot_port_panic() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let data = tempfile::tempdir().unwrap();
    let site = runtime.block_on(Site::configured(data.path(), SUBNET));
    let ports = runtime.block_on(async {
        [
            site.boot_port(67, Mode::Dhcp).await,
            site.boot_port(67, Mode::Proxy).await,
            site.boot_port(4011, Mode::Proxy).await,
        ]
    });
    let sane = runtime
        .block_on(ports[0].handle(&discover(), SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68)));
    assert!(
        matches!(sane, Outcome::Reply { .. }),
        "undamaged it is answered: {sane:?}"
    );
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(700));
    let source =
        (any::<u32>(), any::<u16>()).prop_map(|(ip, port)| SocketAddrV4::new(ip.into(), port));
    let run = runner.run(
        &(datagrams(), source, 0..ports.len()),
        |(datagram, source, which)| {
            if let Outcome::Reply { reply, .. } =
                runtime.block_on(ports[which].handle(&datagram, source))
            {
                prop_assert!(Message::decode(&reply.encode()).is_ok());
            }
            Ok(())
        },
    );
    run.unwrap();
}
