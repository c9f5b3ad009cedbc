//! TFTP's requests that are refused, come again, or stop half way.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;

use super::amplification::prove;
use super::{LOOPBACK, kernel, resident_kib};
use crate::site::Site;
use crate::site::tftp::{Tftp, tftp};

pub(crate) fn request(opcode: u16, name: &str, options: &[(&str, &str)]) -> Vec<u8> {
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
pub(crate) async fn hear(client: &UdpSocket, patience: Duration) -> Vec<(Vec<u8>, SocketAddr)> {
    let (mut heard, mut buffer) = (Vec::new(), [0; 4096]);
    let end = tokio::time::Instant::now() + patience;
    while let Ok(Ok((len, from))) =
        tokio::time::timeout_at(end, client.recv_from(&mut buffer)).await
    {
        heard.push((buffer[..len].to_vec(), from));
    }
    heard
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

    all_are_forgotten(&server).await;
    prove(&site, Ipv4Addr::LOCALHOST);
    fetch_by_tftp(server.at, "boot/first.ipxe").await;
}

/// Waits until no transfer is left, a minute at most.
async fn all_are_forgotten(server: &Tftp) {
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

/// A whole file in lock step.
async fn fetch_by_tftp(server: SocketAddr, name: &str) -> Vec<u8> {
    fetch_from(Ipv4Addr::LOCALHOST, server, name).await
}

/// The same by a client of this address.
pub(crate) async fn fetch_from(ip: impl Into<IpAddr>, server: SocketAddr, name: &str) -> Vec<u8> {
    let client = UdpSocket::bind((ip.into(), 0)).await.unwrap();
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
    all_are_forgotten(&server).await;
}
