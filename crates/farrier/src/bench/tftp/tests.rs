use std::net::Ipv4Addr;
use std::sync::Arc;

use farrier_proto::wire::tftp::{Packet, TransferOptions};

use super::{Dice, Fetch, Received, shapes};

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
fn rfc2348_a_server_may_agree_to_less_and_never_to_more() {
    let options = |blksize, windowsize| TransferOptions {
        blksize,
        windowsize,
        ..TransferOptions::default()
    };
    let asked = options(Some(65464), Some(16));
    for (asked, said, agreed) in [
        (asked, options(Some(1468), Some(4)), Ok((1468, 4))),
        (asked, options(Some(65464), Some(16)), Ok((65464, 16))),
        (asked, options(None, Some(16)), Ok((512, 16))),
        (asked, options(Some(8), None), Ok((8, 1))),
        (
            asked,
            options(Some(1468), Some(17)),
            Err("windowsize 17 in the answer, 16 was asked for"),
        ),
        (
            options(Some(512), None),
            options(Some(513), None),
            Err("blksize 513 in the answer, 512 was asked for"),
        ),
        (
            options(Some(512), None),
            options(Some(512), Some(1)),
            Err("windowsize 1 in the answer, none was asked for"),
        ),
    ] {
        let fetch = Fetch {
            options: asked,
            ..fetch()
        };
        let mut got = received(&fetch);
        let answer = got.take(Packet::OptionAck(said));
        let found = answer.map(|_| (got.blksize, got.window));
        assert_eq!(found, agreed.map_err(str::to_owned), "{asked:?}, {said:?}");
    }
}

#[test]
fn a_file_that_ends_too_early_is_found() {
    let fetch = fetch();
    let mut got = received(&fetch);
    let data = [1; 4];
    let answer = got.take(Packet::Data {
        block: 1,
        data: &data,
    });
    assert!(answer.unwrap().unwrap().done);
    assert_eq!(got.is_whole().unwrap_err(), "it ended after 4 of 20 bytes");
}

#[test]
fn each_block_size_comes_with_each_window() {
    let found = shapes(&[512, 65464], &[1, 8, 64]);
    let pairs: Vec<_> = found
        .iter()
        .map(|shape| (shape.blksize, shape.windowsize))
        .collect();
    let expected = [
        (Some(512), None),
        (Some(65464), None),
        (Some(512), Some(8)),
        (Some(65464), Some(8)),
        (Some(512), Some(64)),
        (Some(65464), Some(64)),
    ];
    assert_eq!(pairs, expected);
}

#[test]
fn dice_lose_the_share_they_are_asked_for() {
    let mut dice = Dice(9);
    let lost = (0..100_000).filter(|_| dice.says(0.003)).count();
    assert!((200..400).contains(&lost), "{lost}");
}
