//! What comes back to an address that was forged: T8.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use farrier_proto::MacAddr;
use farrier_server::core::now;
use farrier_server::exchanges::Exchange;
use tokio::net::UdpSocket;

use super::tftp::{hear, request};
use super::{LOOPBACK, kernel};
use crate::site::Site;
use crate::site::tftp::tftp;

/// Bytes of a BOOTP request and its answer, the shortest exchange there is.
const EXCHANGE: (usize, usize) = (300, 548);

/// As after a DHCP exchange: a request without options is answered then.
pub(crate) fn prove(site: &Site, ip: Ipv4Addr) {
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
