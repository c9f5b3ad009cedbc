use std::net::Ipv4Addr;
use std::sync::Arc;

use farrier_proto::wire::tftp::{Packet, TransferOptions};

use super::{Dice, Fetch, Received};

fn fetch() -> Fetch {
    Fetch {
        from: Ipv4Addr::UNSPECIFIED,
        server: Ipv4Addr::LOCALHOST,
        name: "x".to_owned(),
        options: TransferOptions::default(),
        expected: Some(Arc::from([1u8; 20])),
        loss: 0.0,
    }
}

fn received(fetch: &Fetch) -> Received<'_> {
    Received {
        fetch,
        blksize: 8,
        window: 2,
        block: 0,
        bytes: 0,
        since_ack: 0,
    }
}

#[test]
fn rfc7440_a_window_is_acknowledged_once_and_what_was_not_expected_at_once() {
    let fetch = fetch();
    let mut got = received(&fetch);
    let mut take = |block, len: usize| {
        let data = vec![1; len];
        let answer = got.take(Packet::Data { block, data: &data }).unwrap();
        answer.map(|answer| (answer.packet[3], answer.done))
    };
    assert_eq!(take(1, 8), None);
    assert_eq!(take(3, 4), Some((1, false)), "block 2 is missing");
    assert_eq!(take(3, 4), Some((1, false)), "said again");
    assert_eq!(take(2, 8), None);
    assert_eq!(take(1, 8), Some((2, false)), "the server has missed an ACK");
    assert_eq!(take(3, 4), Some((3, true)));
}

#[test]
fn bytes_that_differ_are_found() {
    let fetch = fetch();
    let mut got = received(&fetch);
    assert!(
        got.take(Packet::Data {
            block: 1,
            data: &[1, 1, 2, 1, 1, 1, 1, 1]
        })
        .is_err()
    );
    assert!(
        got.take(Packet::Error {
            code: super::ErrorCode(1),
            text: b"no"
        })
        .is_err()
    );
}

#[test]
fn dice_lose_the_share_they_are_asked_for() {
    let mut dice = Dice(9);
    let lost = (0..100_000).filter(|_| dice.says(0.003)).count();
    assert!((200..400).contains(&lost), "{lost}");
}
