use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use super::{Dialect, Event, Joined, MAX_MEMBERS, MulticastStream, Transmit, fits};
use crate::Instant;
use crate::session::tftp_transfer::Phase;
use crate::wire::tftp::{Multicast, Packet, TransferOptions};

const GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 255, 67, 1), 1758);
/// Three blocks, the last of 76 bytes.
const LEN: u64 = 1100;
const RFC2090: Dialect = Dialect::Rfc2090 {
    gather: Duration::ZERO,
};
const MTFTP: Dialect = Dialect::Mtftp {
    delay: Duration::from_secs(2),
};

fn peer(n: u16) -> SocketAddrV4 {
    let [a, b] = n.to_be_bytes();
    SocketAddrV4::new(Ipv4Addr::new(10, 0, a, b), 2000 + n)
}

fn stream(dialect: Dialect) -> MulticastStream {
    MulticastStream::new(Instant(0), dialect, GROUP, (LEN, 512))
}

fn ask(stream: &mut MulticastStream, now: u64, n: u16) -> Joined {
    let offered = TransferOptions {
        multicast: Some(Multicast::Asked),
        tsize: Some(0),
        ..TransferOptions::default()
    };
    stream.request(Instant(now), peer(n), &offered)
}

fn ack(stream: &mut MulticastStream, now: u64, n: u16, block: u16) {
    let packet = Packet::Ack { block }.encode();
    stream.handle(Instant(now), peer(n), &packet).unwrap();
}

/// What leaves, in short: `oack 1 master`, `oack 2`, `all 1`, `to 1: 1`.
fn sent(stream: &mut MulticastStream) -> Vec<String> {
    let all = std::iter::from_fn(|| stream.poll_transmit());
    all.map(|transmit| match transmit {
        Transmit::Packet { to, bytes } => match Packet::decode(&bytes) {
            Ok(Packet::OptionAck(options)) => {
                assert_eq!(options.tsize, Some(LEN));
                assert_eq!(options.blksize, None, "it was not offered");
                let Some(Multicast::Joined { group, master }) = options.multicast else {
                    panic!("{options:?}");
                };
                assert_eq!(group, Some(GROUP));
                let master = if master { " master" } else { "" };
                format!("oack {}{master}", to.port() - 2000)
            }
            other => panic!("{other:?}"),
        },
        Transmit::Block {
            to,
            block,
            offset,
            len,
        } => {
            assert_eq!(offset, (u64::from(block) - 1) * 512);
            assert_eq!(len, if block == 3 { 76 } else { 512 });
            if to == GROUP {
                format!("all {block}")
            } else {
                format!("to {}: {block}", to.port() - 2000)
            }
        }
    })
    .collect()
}

fn events(stream: &mut MulticastStream) -> Vec<Event> {
    std::iter::from_fn(|| stream.poll_event()).collect()
}

/// Lets time pass until `now`, and tells what left.
fn wait(stream: &mut MulticastStream, now: u64) -> Vec<String> {
    let mut left = Vec::new();
    while let Some(due) = stream.poll_timeout().filter(|due| due.0 <= now) {
        stream.handle_timeout(due);
        left.extend(sent(stream));
    }
    left
}

#[test]
fn rfc2090_one_copy_of_each_block_while_all_listen() {
    let mut s = stream(RFC2090);
    for n in 1..=3 {
        assert_eq!(ask(&mut s, 0, n), Joined::Yes);
    }
    assert_eq!(sent(&mut s), ["oack 1 master", "oack 2", "oack 3"]);
    for (block, leaves) in [(0, "all 1"), (1, "all 2"), (2, "all 3")] {
        ack(&mut s, 10, 1, block);
        assert_eq!(sent(&mut s), [leaves]);
    }
    // Who has everything asks for nothing, master or not.
    ack(&mut s, 20, 3, 3);
    ack(&mut s, 20, 1, 3);
    assert_eq!(sent(&mut s), ["oack 2 master"]);
    ack(&mut s, 20, 2, 3);
    assert_eq!(sent(&mut s), Vec::<String>::new());
    let told = events(&mut s);
    assert!(
        matches!(told[..], [_, _, _, Event::Over { blocks: 3 }]),
        "{told:?}"
    );
    assert_eq!((s.is_over(), s.poll_timeout()), (true, None));
}

#[test]
fn rfc2090_who_comes_late_asks_for_what_it_lacks() {
    let mut s = stream(RFC2090);
    ask(&mut s, 0, 1);
    ack(&mut s, 0, 1, 0);
    ack(&mut s, 0, 1, 1);
    ask(&mut s, 0, 2);
    sent(&mut s);
    ack(&mut s, 0, 1, 2);
    ack(&mut s, 0, 1, 3);
    assert_eq!(sent(&mut s), ["all 3", "oack 2 master"]);
    ack(&mut s, 0, 2, 0);
    ack(&mut s, 0, 2, 1);
    ack(&mut s, 0, 2, 3);
    assert_eq!(sent(&mut s), ["all 1", "all 2"], "the third it has");
    assert!(s.is_over());
}

#[test]
fn rfc2090_the_first_block_waits_for_others() {
    let gather = Duration::from_millis(500);
    let mut s = stream(Dialect::Rfc2090 { gather });
    ask(&mut s, 0, 1);
    ack(&mut s, 3, 1, 0);
    ask(&mut s, 400, 2);
    ack(&mut s, 450, 1, 0);
    assert_eq!(sent(&mut s), ["oack 1 master", "oack 2"]);
    assert_eq!(wait(&mut s, 500), ["all 1"]);
    assert_eq!(
        wait(&mut s, 700),
        ["all 1"],
        "and again when its ACK does not come"
    );
    ack(&mut s, 710, 1, 1);
    assert_eq!(sent(&mut s), ["all 2"]);
}

#[test]
fn rfc2090_a_dead_master_costs_less_than_two_seconds_and_silent_clients_little() {
    let mut s = stream(RFC2090);
    for n in 1..=3 {
        ask(&mut s, 0, n);
    }
    ack(&mut s, 0, 1, 0);
    sent(&mut s);
    assert_eq!(
        wait(&mut s, 1500),
        ["all 1", "all 1", "all 1", "oack 1", "oack 2 master"]
    );
    // The second is gone too: whoever has gone on to boot must not keep the third waiting.
    assert_eq!(
        wait(&mut s, 1800),
        ["oack 2 master", "oack 2", "oack 3 master"]
    );
    ack(&mut s, 1810, 3, 0);
    ack(&mut s, 1810, 3, 1);
    ack(&mut s, 1810, 3, 2);
    ack(&mut s, 1810, 3, 3);
    assert_eq!(sent(&mut s), ["all 1", "all 2", "all 3", "oack 1 master"]);
    // The first is back after all; the second is given up.
    ack(&mut s, 1900, 1, 3);
    wait(&mut s, 20_000);
    let told = events(&mut s);
    let gone = Event::TimedOut {
        peer: peer(2),
        phase: Phase::Opening,
    };
    assert!(told.contains(&gone), "{told:?}");
    assert!(matches!(told.last(), Some(Event::Over { .. })));
}

#[test]
fn rfc2090_a_newcomer_does_not_wait_for_each_of_a_room_that_has_gone() {
    let mut s = stream(RFC2090);
    for n in 1..=16 {
        ask(&mut s, 0, n);
    }
    for block in 0..=3 {
        ack(&mut s, 0, 1, block);
    }
    // The others have heard it too and boot. Each has its turn for nothing, and a second one.
    wait(&mut s, 15 * 300 + 100);
    let came = 15 * 300 + 100;
    ask(&mut s, came, 17);
    let mut left = sent(&mut s);
    while !left.contains(&"oack 17 master".to_owned()) {
        let due = s.poll_timeout().unwrap();
        assert!(due.0 <= came + 1500, "{left:?}");
        left.extend(wait(&mut s, due.0));
    }
    for block in 0..=3 {
        ack(&mut s, came + 1500, 17, block);
    }
    assert_eq!(sent(&mut s)[..3], ["all 1", "all 2", "all 3"]);
    wait(&mut s, 60_000);
    assert!(s.is_over());
}

#[test]
fn rfc2090_the_sorcerers_apprentice_finds_no_work() {
    let mut s = stream(RFC2090);
    ask(&mut s, 0, 1);
    ack(&mut s, 0, 1, 0);
    ack(&mut s, 0, 1, 1);
    sent(&mut s);
    for block in [1, 0, 1] {
        ack(&mut s, 1, 1, block);
    }
    assert_eq!(sent(&mut s), Vec::<String>::new());
    // After our last retransmission only the client can say that it is still there.
    wait(&mut s, 1400);
    ack(&mut s, 3000, 1, 1);
    assert_eq!(sent(&mut s), ["all 2"]);
}

#[test]
fn t8_no_block_leaves_before_an_ack_and_repeated_requests_are_counted() {
    let mut s = stream(RFC2090);
    for now in 0..50 {
        ask(&mut s, now, 1);
    }
    let left = sent(&mut s);
    assert_eq!(left, ["oack 1 master"; 4]);
    let left = wait(&mut s, 60_000);
    assert_eq!(left, ["oack 1 master"; 3], "and three by the timer");
    assert!(s.is_over());
    let mut s = stream(RFC2090);
    for n in 0..MAX_MEMBERS {
        assert_eq!(ask(&mut s, 0, u16::try_from(n).unwrap()), Joined::Yes);
    }
    assert_eq!(ask(&mut s, 0, 9999), Joined::No);
}

#[test]
fn pxe_2_1_the_opening_client_gets_block_1_for_itself_and_all_get_it_too() {
    let mut s = stream(MTFTP);
    ask(&mut s, 0, 1);
    assert_eq!(sent(&mut s), ["to 1: 1", "all 1"]);
    // Another one opens while it runs: the running stream is its answer.
    ask(&mut s, 1, 2);
    assert_eq!(sent(&mut s), Vec::<String>::new());
    ack(&mut s, 2, 1, 1);
    ack(&mut s, 3, 1, 2);
    assert_eq!(sent(&mut s), ["all 2", "all 3"]);
    ack(&mut s, 4, 1, 3);
    assert_eq!(sent(&mut s), ["to 2: 1", "all 1"], "then it is its turn");
    wait(&mut s, 1000);
    assert!(s.is_over(), "it had heard everything and is gone");
}

#[test]
fn pxe_2_1_when_the_opening_client_dies_silence_tells_the_others() {
    let mut s = stream(MTFTP);
    ask(&mut s, 0, 1);
    ask(&mut s, 0, 2);
    ack(&mut s, 0, 1, 1);
    sent(&mut s);
    assert_eq!(wait(&mut s, 1600), ["all 2", "all 2", "all 2"]);
    assert_eq!(
        wait(&mut s, 3700),
        Vec::<String>::new(),
        "longer than sub-option 5"
    );
    // It has noticed, and opens the stream anew.
    ask(&mut s, 3700, 2);
    assert_eq!(sent(&mut s), ["to 2: 1", "all 1"]);
    for block in 1..=3 {
        ack(&mut s, 3701, 2, block);
    }
    assert_eq!(sent(&mut s), ["all 2", "all 3"]);
    let told = events(&mut s);
    assert!(
        matches!(
            told[..],
            [
                Event::TimedOut { .. },
                Event::Done { .. },
                Event::Over { .. }
            ]
        ),
        "{told:?}"
    );
}

#[test]
fn pxe_2_1_a_stream_that_is_stuck_is_taken_over_and_one_that_runs_is_not() {
    let mut s = stream(MTFTP);
    ask(&mut s, 0, 1);
    ack(&mut s, 0, 1, 1);
    sent(&mut s);
    ask(&mut s, 10, 1);
    ask(&mut s, 10, 2);
    assert_eq!(
        sent(&mut s),
        Vec::<String>::new(),
        "a duplicate, and one that hears the stream"
    );
    ask(&mut s, 1200, 1);
    assert_eq!(sent(&mut s), ["to 1: 1", "all 1"], "it starts over");
    ask(&mut s, 2300, 3);
    assert_eq!(sent(&mut s), ["to 3: 1", "all 1"]);
    assert!(!s.has(peer(1)));
}

#[test]
fn an_error_of_the_master_hands_its_turn_on() {
    let mut s = stream(RFC2090);
    ask(&mut s, 0, 1);
    ask(&mut s, 0, 2);
    sent(&mut s);
    let error = Packet::Error {
        code: crate::wire::tftp::ErrorCode::DISK_FULL,
        text: b"full\x07",
    };
    s.handle(Instant(5), peer(1), &error.encode()).unwrap();
    assert_eq!(sent(&mut s), ["oack 2 master"]);
    let told = events(&mut s);
    assert!(
        matches!(&told[..], [Event::ClientError { text, .. }] if text == "full "),
        "{told:?}"
    );
}

#[test]
fn files_of_more_blocks_than_numbers_do_not_fit() {
    assert!(fits(65_534 * 512 + 511, 512));
    assert!(!fits(65_535 * 512, 512));
    assert!(fits(65_535 * 512, 1024));
}
