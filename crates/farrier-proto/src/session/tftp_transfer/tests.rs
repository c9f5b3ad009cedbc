use super::*;
use crate::wire::tftp::Mode;

fn request(options: TransferOptions) -> ReadRequest {
    ReadRequest {
        name: b"x".to_vec(),
        mode: Mode::Octet,
        options,
    }
}

fn windowed(blksize: u16, windowsize: u16) -> TransferOptions {
    TransferOptions {
        blksize: Some(blksize),
        windowsize: Some(windowsize),
        ..TransferOptions::default()
    }
}

fn start(options: TransferOptions, content_len: u64) -> TftpTransfer {
    TftpTransfer::new(
        Instant(0),
        &request(options),
        content_len,
        Limits::default(),
    )
}

fn ack(transfer: &mut TftpTransfer, now: u64, block: u16) {
    transfer
        .handle(Instant(now), &Packet::Ack { block }.encode())
        .unwrap();
}

/// `(first_block, count, last_len)` of everything to send; an OACK shows as zeros.
fn sent(transfer: &mut TftpTransfer) -> Vec<(u16, u16, u16)> {
    std::iter::from_fn(|| transfer.poll_transmit())
        .map(|transmit| match transmit {
            Transmit::Blocks {
                first_block,
                count,
                last_len,
                ..
            } => (first_block, count, last_len),
            Transmit::Oack(_) => (0, 0, 0),
            Transmit::Error(_) => panic!("no error expected"),
        })
        .collect()
}

const OACK: (u16, u16, u16) = (0, 0, 0);

/// Lets time run with a silent client until `end`; gives when something was sent.
fn wait(transfer: &mut TftpTransfer, end: u64) -> Vec<u64> {
    let mut times = Vec::new();
    while let Some(wake) = transfer.poll_timeout().filter(|wake| wake.0 <= end) {
        transfer.handle_timeout(wake);
        if !sent(transfer).is_empty() {
            times.push(wake.0);
        }
    }
    times
}

#[test]
fn rfc2347_only_what_was_offered_is_answered_and_never_more() {
    let all = |blksize, tsize, timeout, windowsize| TransferOptions {
        multicast: None,
        blksize: Some(blksize),
        tsize: Some(tsize),
        timeout: Some(timeout),
        windowsize: Some(windowsize),
    };
    let rows = [
        (all(65464, 0, 5, 65535), all(1468, 9000, 5, 64)),
        (all(8, 0, 255, 1), all(8, 9000, 255, 1)),
        (windowed(1024, 4), windowed(1024, 4)),
        (TransferOptions::default(), TransferOptions::default()),
    ];
    for (offered, answered) in rows {
        let mut transfer = start(offered, 9000);
        assert_eq!(transfer.options(), answered);
        match transfer.poll_transmit() {
            Some(Transmit::Oack(bytes)) => {
                assert_eq!(Packet::decode(&bytes), Ok(Packet::OptionAck(answered)));
            }
            other => {
                assert!(matches!(
                    other,
                    Some(Transmit::Blocks {
                        first_block: 1,
                        blksize: 512,
                        ..
                    })
                ));
            }
        }
    }
}

#[test]
fn rfc1350_lock_step_to_the_short_block() {
    for (content_len, blocks, last_len) in [(0, 1, 0), (511, 1, 511), (512, 2, 0), (1300, 3, 276)] {
        let mut transfer = start(TransferOptions::default(), content_len);
        for block in 1..=blocks {
            let len = if block == blocks { last_len } else { 512 };
            assert_eq!(sent(&mut transfer), [(block, 1, len)], "{content_len}");
            assert_eq!(transfer.poll_event(), None);
            ack(&mut transfer, u64::from(block), block);
        }
        let event = transfer.poll_event().unwrap();
        let duration = Duration::from_millis(u64::from(blocks));
        assert_eq!(
            event,
            Event::Done {
                bytes: content_len,
                duration,
                retransmits: 0
            }
        );
        assert!(transfer.is_over() && transfer.poll_timeout().is_none());
        assert_eq!(transfer.acknowledged_bytes(), content_len);
    }
}

#[test]
fn rfc7440_4_windows_and_gaps() {
    let mut transfer = start(windowed(512, 4), 10 * 512 + 7);
    assert_eq!(sent(&mut transfer), [OACK]);
    ack(&mut transfer, 1, 0);
    assert_eq!(sent(&mut transfer), [(1, 4, 512)]);
    ack(&mut transfer, 2, 4);
    assert_eq!(sent(&mut transfer), [(5, 4, 512)]);
    ack(&mut transfer, 3, 6);
    assert_eq!(
        sent(&mut transfer),
        [(7, 4, 512)],
        "from the block after the gap, at once"
    );
    ack(&mut transfer, 4, 6);
    assert_eq!(sent(&mut transfer), [], "a stray copy of the gap ACK");
    ack(&mut transfer, 5, 10);
    assert_eq!(sent(&mut transfer), [(11, 1, 7)]);
    ack(&mut transfer, 6, 11);
    let duration = Duration::from_millis(6);
    assert_eq!(
        transfer.poll_event(),
        Some(Event::Done {
            bytes: 5127,
            duration,
            retransmits: 2
        })
    );
}

#[test]
fn rfc7440_first_block_of_a_window_lost_is_told_by_a_duplicate_once() {
    let mut transfer = start(windowed(512, 4), 1 << 20);
    ack(&mut transfer, 1, 0);
    ack(&mut transfer, 2, 4);
    sent(&mut transfer);
    ack(&mut transfer, 3, 4);
    assert_eq!(sent(&mut transfer), [(5, 4, 512)]);
    ack(&mut transfer, 4, 4);
    assert_eq!(sent(&mut transfer), [], "heeded once");
    ack(&mut transfer, 5, 8);
    assert_eq!(sent(&mut transfer), [(9, 4, 512)]);
    ack(&mut transfer, 6, 8);
    assert_eq!(
        sent(&mut transfer),
        [],
        "may be the echo of our own repetition"
    );
    ack(&mut transfer, 7, 12);
    sent(&mut transfer);
    ack(&mut transfer, 8, 12);
    assert_eq!(sent(&mut transfer), [(13, 4, 512)], "clean again");
}

#[test]
fn rfc1123_4_2_3_1_duplicate_acks_send_nothing_and_leave_the_timer() {
    let mut transfer = start(TransferOptions::default(), 5000);
    sent(&mut transfer);
    ack(&mut transfer, 1, 1);
    assert_eq!(sent(&mut transfer), [(2, 1, 512)]);
    let timer = transfer.poll_timeout();
    assert_eq!(timer, Some(Instant(41)));
    for now in 2..40 {
        ack(&mut transfer, now, 1);
        assert_eq!(sent(&mut transfer), []);
        assert_eq!(
            transfer.poll_timeout(),
            timer,
            "else a client with an equal timer livelocks"
        );
    }
    assert_eq!(wait(&mut transfer, 41), [41]);
}

#[test]
fn five_retransmissions_doubling_to_a_second_then_patience() {
    let mut transfer = start(TransferOptions::default(), 5000);
    sent(&mut transfer);
    ack(&mut transfer, 0, 1);
    sent(&mut transfer);
    assert_eq!(wait(&mut transfer, 9_999), [40, 120, 280, 600, 1240]);
    assert_eq!(transfer.poll_event(), None);
    ack(&mut transfer, 9_999, 1);
    assert_eq!(
        sent(&mut transfer),
        [(2, 1, 512)],
        "the client is still there"
    );
    assert_eq!(wait(&mut transfer, 10_000), []);
    assert_eq!(
        transfer.poll_event(),
        Some(Event::TimedOut {
            phase: Phase::Sending
        })
    );
    assert_eq!(transfer.poll_event(), None, "told once");
}

#[test]
fn retransmission_follows_the_measured_round_trip() {
    let mut transfer = start(TransferOptions::default(), 50_000);
    sent(&mut transfer);
    let mut now = 0;
    for block in 1..=60 {
        now += 50;
        ack(&mut transfer, now, block);
        sent(&mut transfer);
    }
    assert_eq!(transfer.poll_timeout(), Some(Instant(now + 200)));
}

#[test]
fn rfc2349_a_negotiated_timeout_binds() {
    let options = TransferOptions {
        timeout: Some(3),
        ..TransferOptions::default()
    };
    let mut transfer = start(options, 5000);
    assert_eq!(sent(&mut transfer), [OACK]);
    ack(&mut transfer, 1000, 0);
    assert_eq!(sent(&mut transfer), [(1, 1, 512)]);
    assert_eq!(
        wait(&mut transfer, 60_000),
        [4000, 7000, 10_000, 13_000, 16_000]
    );
    assert_eq!(
        transfer.poll_event(),
        Some(Event::TimedOut {
            phase: Phase::Sending
        })
    );
}

#[test]
fn rfc2349_the_operators_interval_holds_where_none_is_negotiated() {
    let limits = Limits {
        timeout_s: Some(2),
        ..Limits::default()
    };
    let blksize = TransferOptions {
        blksize: Some(512),
        ..TransferOptions::default()
    };
    let mut transfer = TftpTransfer::new(Instant(0), &request(blksize), 5000, limits);
    assert_eq!(sent(&mut transfer), [OACK]);
    assert_eq!(transfer.options().timeout, None, "nothing is claimed");
    ack(&mut transfer, 1000, 0);
    assert_eq!(sent(&mut transfer), [(1, 1, 512)]);
    assert_eq!(
        wait(&mut transfer, 60_000),
        [3000, 5000, 7000, 9000, 11_000]
    );
    // Without any option as well, once it has acknowledged something.
    let none = request(TransferOptions::default());
    let mut plain = TftpTransfer::new(Instant(0), &none, 5000, limits);
    sent(&mut plain);
    ack(&mut plain, 1000, 1);
    sent(&mut plain);
    assert_eq!(wait(&mut plain, 4000), [3000]);
    // What a client negotiates binds all the same.
    let own = TransferOptions {
        timeout: Some(3),
        ..TransferOptions::default()
    };
    let mut asked = TftpTransfer::new(Instant(0), &request(own), 5000, limits);
    sent(&mut asked);
    ack(&mut asked, 1000, 0);
    sent(&mut asked);
    assert_eq!(wait(&mut asked, 5000), [4000]);
}

#[test]
fn r8_state_is_freed_within_a_minute_whatever_was_negotiated() {
    for timeout in [None, Some(1), Some(5), Some(255)] {
        for opened in [false, true] {
            let options = TransferOptions {
                timeout,
                blksize: Some(512),
                ..TransferOptions::default()
            };
            let mut transfer = start(options, 5000);
            sent(&mut transfer);
            if opened {
                ack(&mut transfer, 0, 0);
                sent(&mut transfer);
            }
            wait(&mut transfer, 60_000);
            let phase = if opened {
                Phase::Sending
            } else {
                Phase::Opening
            };
            assert_eq!(
                transfer.poll_event(),
                Some(Event::TimedOut { phase }),
                "{timeout:?}"
            );
        }
    }
}

#[test]
fn a_missing_last_ack_is_told_apart() {
    let mut transfer = start(TransferOptions::default(), 600);
    ack(&mut transfer, 0, 1);
    wait(&mut transfer, 60_000);
    assert_eq!(
        transfer.poll_event(),
        Some(Event::TimedOut {
            phase: Phase::Closing
        })
    );
}

/// Bytes of the IP packets that leave until the transfer gives up, and their number.
fn opening_answers(transfer: &mut TftpTransfer) -> (usize, usize) {
    let (mut packets, mut bytes) = (0, 0);
    while let Some(wake) = transfer.poll_timeout() {
        while let Some(transmit) = transfer.poll_transmit() {
            packets += 1;
            bytes += HEADERS
                + match transmit {
                    Transmit::Oack(bytes) | Transmit::Error(bytes) => bytes.len(),
                    Transmit::Blocks {
                        count, last_len, ..
                    } => {
                        assert_eq!(count, 1);
                        4 + usize::from(last_len)
                    }
                };
        }
        transfer.handle_timeout(wake);
    }
    (packets, bytes)
}

/// IPv4 and UDP.
const HEADERS: usize = 28;

/// T8 asks for at most five times the request's bytes, headers counted, until the first ACK. One without
/// options is answered by a whole block, once: 11 times its size. That such requests cannot be used in
/// numbers is the server's part, which knows the addresses.
#[test]
fn t8_amplification_before_the_first_ack() {
    let edk2 = TransferOptions {
        tsize: Some(0),
        ..windowed(1468, 4)
    };
    let shortest = TransferOptions {
        tsize: Some(0),
        ..TransferOptions::default()
    };
    for (who, name, options, packets, limit) in [
        ("edk2", "boot/ipxe.efi", edk2, 4, 3.6),
        (
            "the shortest that is answered by an OACK",
            "a",
            shortest,
            4,
            4.2,
        ),
        (
            "no options",
            "boot/ipxe.efi",
            TransferOptions::default(),
            1,
            11.0,
        ),
    ] {
        let request = ReadRequest {
            name: name.into(),
            mode: Mode::Octet,
            options,
        };
        let asked = Packet::ReadRequest(request.clone()).encode().len() + HEADERS;
        let mut transfer = TftpTransfer::new(Instant(0), &request, 1 << 30, Limits::default());
        let (sent, answered) = opening_answers(&mut transfer);
        assert_eq!(sent, packets, "{who}");
        let ratio = answered as f64 / asked as f64;
        assert!(ratio <= limit, "{who}: {ratio:.1}");
    }
}

#[test]
fn t8_block_1_leaves_once_for_each_request_and_four_times_at_most() {
    let mut transfer = start(TransferOptions::default(), 5000);
    assert_eq!(sent(&mut transfer), [(1, 1, 512)]);
    assert_eq!(wait(&mut transfer, 11_000), [], "no timer sends it");
    let again = Packet::ReadRequest(request(TransferOptions::default())).encode();
    for _ in 0..3 {
        transfer.handle(Instant(11_000), &again).unwrap();
        assert_eq!(sent(&mut transfer), [(1, 1, 512)]);
    }
    transfer.handle_repeated_request();
    assert_eq!(sent(&mut transfer), []);
    assert!(!transfer.has_answered());
    ack(&mut transfer, 11_500, 1);
    assert!(transfer.has_answered());
    assert_eq!(sent(&mut transfer), [(2, 1, 512)]);
    transfer.handle_repeated_request();
    assert_eq!(sent(&mut transfer), [], "an old request that was late");
    let mut with_options = start(windowed(512, 4), 5000);
    assert_eq!(sent(&mut with_options), [OACK]);
    with_options.handle_repeated_request();
    assert_eq!(
        sent(&mut with_options),
        [],
        "PXELINUX asks twice; the timer is enough"
    );
}

#[test]
fn probes_are_not_failures() {
    let refused = |code| {
        Packet::Error {
            code,
            text: b"User aborted\x07the transfer",
        }
        .encode()
    };
    for code in [ErrorCode::OPTION_REFUSED, ErrorCode::NOT_DEFINED] {
        let mut transfer = start(windowed(1468, 4), 5000);
        sent(&mut transfer);
        transfer.handle(Instant(1), &refused(code)).unwrap();
        assert_eq!(transfer.poll_event(), Some(Event::Probe));
        assert!(transfer.is_over() && transfer.poll_transmit().is_none());
    }
    let mut transfer = start(windowed(1468, 4), 50_000);
    sent(&mut transfer);
    ack(&mut transfer, 1, 0);
    transfer
        .handle(Instant(2), &refused(ErrorCode::DISK_FULL))
        .unwrap();
    let text = "User aborted the transfer".to_owned();
    assert_eq!(
        transfer.poll_event(),
        Some(Event::ClientError {
            code: ErrorCode::DISK_FULL,
            text
        })
    );
}

#[test]
fn strange_packets_change_nothing() {
    let mut transfer = start(windowed(512, 4), 50_000);
    sent(&mut transfer);
    assert!(transfer.handle(Instant(1), &[0, 4]).is_err());
    assert!(transfer.handle(Instant(1), &[0, 3, 0, 1, 9]).is_ok());
    for block in [1, 2, 65535] {
        ack(&mut transfer, 1, block);
    }
    assert_eq!(sent(&mut transfer), [], "only ACK 0 answers an OACK");
    ack(&mut transfer, 1, 0);
    sent(&mut transfer);
    for block in [5, 100, 65535] {
        ack(&mut transfer, 1, block);
        assert_eq!(sent(&mut transfer), [], "{block} was never sent");
    }
}

#[test]
fn aborting_tells_the_client_why() {
    let mut transfer = start(TransferOptions::default(), 5000);
    transfer.abort("the file was withdrawn");
    let Some(Transmit::Error(bytes)) = transfer.poll_transmit() else {
        panic!()
    };
    let text = &b"the file was withdrawn"[..];
    assert_eq!(
        Packet::decode(&bytes),
        Ok(Packet::Error {
            code: ErrorCode::NOT_DEFINED,
            text
        })
    );
    assert!(transfer.is_over() && transfer.poll_event().is_none());
}

#[test]
fn a_second_gap_in_a_repeated_window_only_lets_new_blocks_out() {
    let mut transfer = start(windowed(512, 4), 1 << 20);
    ack(&mut transfer, 1, 0);
    sent(&mut transfer);
    ack(&mut transfer, 2, 1);
    assert_eq!(sent(&mut transfer), [(2, 4, 512)]);
    ack(&mut transfer, 3, 3);
    assert_eq!(sent(&mut transfer), [(6, 2, 512)], "4 and 5 are under way");
    ack(&mut transfer, 4, 7);
    assert_eq!(sent(&mut transfer), [(8, 4, 512)]);
    assert_eq!(
        wait(&mut transfer, 44),
        [44],
        "what is truly missing comes by the timer"
    );
}

#[test]
fn block_numbers_wrap_to_zero_or_one_between_runs() {
    for (after_wrap, expected) in [
        (0, [(65535, 1, 8), (0, 3, 8)]),
        (1, [(65535, 1, 8), (1, 3, 8)]),
    ] {
        let limits = Limits {
            first_block_after_wrap: after_wrap,
            ..Limits::default()
        };
        let mut transfer = TftpTransfer::new(Instant(0), &request(windowed(8, 4)), 1 << 24, limits);
        ack(&mut transfer, 0, 0);
        // A gap at first, so that a window comes to lie across the wrap.
        for block in (2..=65534).step_by(4) {
            sent(&mut transfer);
            ack(&mut transfer, 1, block);
        }
        assert_eq!(sent(&mut transfer), expected);
        ack(&mut transfer, 1, expected[1].0 + 2);
        assert_eq!(transfer.acknowledged_bytes(), 65_538 * 8);
    }
}
