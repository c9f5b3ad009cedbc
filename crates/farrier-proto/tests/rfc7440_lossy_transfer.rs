//! Whole transfers over a network that loses, doubles and reorders, on a virtual clock.

use farrier_proto::Instant;
use farrier_proto::session::tftp_transfer::{Event, Limits, TftpTransfer, Transmit};
use farrier_proto::wire::tftp::{Packet, ReadRequest, TransferOptions, data_header};
use farrier_testkit::network::{CALM, Network, Weather};
use farrier_testkit::random::Random;

#[derive(Clone, Copy, Debug)]
struct Case {
    blksize: Option<u16>,
    windowsize: Option<u16>,
    content_len: usize,
    after_wrap: u16,
    weather: Weather,
    seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Client,
    Server,
}

/// A reader by the book: acknowledges whole windows and gaps, repeats itself after a second, and
/// lingers after the last block.
struct Client {
    blksize: usize,
    windowsize: u16,
    after_wrap: u16,
    received: Vec<u8>,
    /// Number of the last block in order.
    last: u16,
    since_ack: u16,
    gap_told: bool,
    started: bool,
    finished: bool,
    repeats_at: u64,
}

const CLIENT_TIMER_MS: u64 = 1000;

impl Client {
    fn handle(&mut self, now: u64, bytes: &[u8]) -> Option<u16> {
        match Packet::decode(bytes).unwrap() {
            Packet::OptionAck(options) => {
                if self.started {
                    return None;
                }
                self.blksize = options.blksize.map_or(512, usize::from);
                self.windowsize = options.windowsize.unwrap_or(1);
                self.acknowledge(now)
            }
            Packet::Data { block, data } => self.handle_data(now, block, data),
            other => panic!("{other:?}"),
        }
    }

    fn handle_data(&mut self, now: u64, block: u16, data: &[u8]) -> Option<u16> {
        self.started = true;
        if self.finished {
            return self.acknowledge(now);
        }
        let expected = if self.last == u16::MAX {
            self.after_wrap
        } else {
            self.last + 1
        };
        if block != expected {
            // In lock step our ACK was lost. RFC 7440 section 4: a gap is told at once, and here once.
            if self.windowsize == 1 {
                return (block == self.last)
                    .then(|| self.acknowledge(now))
                    .flatten();
            }
            if self.gap_told {
                return None;
            }
            self.gap_told = true;
            return self.acknowledge(now);
        }
        assert!(data.len() <= self.blksize);
        self.received.extend_from_slice(data);
        self.last = block;
        self.gap_told = false;
        self.since_ack += 1;
        self.finished = data.len() < self.blksize;
        (self.finished || self.since_ack == self.windowsize)
            .then(|| self.acknowledge(now))
            .flatten()
    }

    fn acknowledge(&mut self, now: u64) -> Option<u16> {
        self.since_ack = 0;
        self.repeats_at = now + CLIENT_TIMER_MS;
        Some(self.last)
    }
}

struct Outcome {
    event: Event,
    carried: u64,
    ended_ms: u64,
}

fn content(case: &Case) -> Vec<u8> {
    Random::new(case.seed ^ 0x5eed).bytes(case.content_len)
}

/// Runs one transfer to its end; panics unless the client has every byte.
fn run(case: &Case) -> Outcome {
    let content = content(case);
    let options = TransferOptions {
        blksize: case.blksize,
        windowsize: case.windowsize,
        ..TransferOptions::default()
    };
    let request = ReadRequest {
        name: b"x".to_vec(),
        options,
        ..ReadRequest::default()
    };
    let limits = Limits {
        max_blksize: 65464,
        first_block_after_wrap: case.after_wrap,
        ..Limits::default()
    };
    let mut server = TftpTransfer::new(Instant(0), &request, content.len() as u64, limits);
    let mut client = Client {
        blksize: 512,
        windowsize: 1,
        after_wrap: case.after_wrap,
        received: Vec::with_capacity(content.len()),
        last: 0,
        since_ack: 0,
        gap_told: false,
        started: false,
        finished: false,
        repeats_at: CLIENT_TIMER_MS,
    };
    let mut network = Network::new(case.weather, case.seed);
    let mut now = 0;
    loop {
        transmit(&mut server, &content, now, &mut network);
        if let Some(event) = server.poll_event() {
            // What is under way to the client still arrives.
            while let Some((at, to, bytes)) = network.receive(u64::MAX) {
                if to == Side::Client {
                    client.handle(at, &bytes);
                }
            }
            assert!(
                client.received == content,
                "{case:?}: the client has something else"
            );
            return Outcome {
                event,
                carried: network.carried(),
                ended_ms: now,
            };
        }
        let wake = server.poll_timeout().unwrap().0.min(client.repeats_at);
        match network.receive(wake) {
            Some((at, to, bytes)) => {
                now = at;
                match to {
                    Side::Server => server.handle(Instant(now), &bytes).unwrap(),
                    Side::Client => {
                        if let Some(block) = client.handle(now, &bytes) {
                            network.send(now, Side::Server, &Packet::Ack { block }.encode());
                        }
                    }
                }
            }
            None => {
                now = wake;
                server.handle_timeout(Instant(now));
                if client.repeats_at <= now {
                    client.repeats_at = now + CLIENT_TIMER_MS;
                    let packet = if client.started {
                        Packet::Ack { block: client.last }
                    } else {
                        Packet::ReadRequest(request.clone())
                    };
                    network.send(now, Side::Server, &packet.encode());
                }
            }
        }
        assert!(now < 3_600_000, "{case:?}: still not done after an hour");
    }
}

fn transmit(server: &mut TftpTransfer, content: &[u8], now: u64, network: &mut Network<Side>) {
    while let Some(transmit) = server.poll_transmit() {
        match transmit {
            Transmit::Oack(bytes) | Transmit::Error(bytes) => {
                network.send(now, Side::Client, &bytes)
            }
            Transmit::Blocks {
                first_block,
                offset,
                blksize,
                count,
                last_len,
            } => {
                let offset = usize::try_from(offset).unwrap();
                for i in 0..count {
                    let start = offset + usize::from(i) * usize::from(blksize);
                    let len = if i + 1 == count { last_len } else { blksize };
                    let mut packet = data_header(first_block + i).to_vec();
                    packet.extend_from_slice(&content[start..start + usize::from(len)]);
                    network.send(now, Side::Client, &packet);
                }
            }
        }
    }
}

fn done(case: &Case) -> Outcome {
    let outcome = run(case);
    assert!(
        matches!(outcome.event, Event::Done { .. }),
        "{case:?}: {:?}",
        outcome.event
    );
    outcome
}

const BASE: Case = Case {
    blksize: Some(512),
    windowsize: Some(1),
    content_len: 100_000,
    after_wrap: 0,
    weather: CALM,
    seed: 1,
};

#[test]
fn every_shape_of_file_and_window_arrives_whole() {
    for blksize in [8, 9, 511, 512, 513, 1024, 1432, 1468, 9000, 65464] {
        for windowsize in [1, 2, 3, 4, 7, 16, 63, 64] {
            let (block, window) = (
                usize::from(blksize),
                usize::from(blksize) * usize::from(windowsize),
            );
            let sizes = [
                0,
                1,
                block - 1,
                block,
                block + 1,
                window - 1,
                window,
                window + 1,
                2 * window + 5,
            ];
            for content_len in sizes {
                if content_len > 1 << 20 {
                    continue;
                }
                let case = Case {
                    blksize: Some(blksize),
                    windowsize: Some(windowsize),
                    content_len,
                    ..BASE
                };
                let Event::Done {
                    bytes, retransmits, ..
                } = done(&case).event
                else {
                    unreachable!()
                };
                assert_eq!((bytes, retransmits), (content_len as u64, 0), "{case:?}");
            }
        }
    }
}

#[test]
fn a_client_without_options_is_served_by_rfc1350() {
    for content_len in [0, 1, 511, 512, 513, 51_200] {
        done(&Case {
            blksize: None,
            windowsize: None,
            content_len,
            ..BASE
        });
    }
}

#[test]
fn rfc2348_every_block_size_tiles_the_file() {
    const LEN: u64 = 20_000;
    for blksize in 8..=65464 {
        let options = TransferOptions {
            blksize: Some(blksize),
            ..TransferOptions::default()
        };
        let request = ReadRequest {
            name: b"x".to_vec(),
            options,
            ..ReadRequest::default()
        };
        let limits = Limits {
            max_blksize: 65464,
            ..Limits::default()
        };
        let mut server = TftpTransfer::new(Instant(0), &request, LEN, limits);
        let mut next = 0;
        let mut block = 0;
        while server.poll_event().is_none() {
            if let Some(Transmit::Blocks {
                first_block,
                offset,
                last_len,
                ..
            }) = server.poll_transmit()
            {
                assert_eq!((first_block, offset), (block, next), "{blksize}");
                next += u64::from(last_len);
            }
            server
                .handle(Instant(0), &Packet::Ack { block }.encode())
                .unwrap();
            block += 1;
        }
        assert_eq!(next, LEN, "{blksize}");
    }
}

#[test]
fn block_numbers_wrap_in_good_and_bad_weather() {
    for (windowsize, after_wrap) in [(1, 0), (1, 1), (64, 0), (64, 1), (63, 0)] {
        let weather = Weather {
            lost: 2,
            doubled: 2,
            max_delay_ms: 1,
        };
        let weather = if windowsize == 1 { CALM } else { weather };
        let content_len = 8 * 66_000 + 3;
        done(&Case {
            blksize: Some(8),
            windowsize: Some(windowsize),
            content_len,
            after_wrap,
            weather,
            ..BASE
        });
    }
}

#[test]
fn r13_bad_weather_delays_and_never_damages() {
    let weathers = [
        Weather {
            lost: 3,
            doubled: 0,
            max_delay_ms: 1,
        },
        Weather {
            lost: 20,
            doubled: 20,
            max_delay_ms: 3,
        },
        Weather {
            lost: 0,
            doubled: 300,
            max_delay_ms: 0,
        },
        Weather {
            lost: 0,
            doubled: 50,
            max_delay_ms: 20,
        },
        Weather {
            lost: 100,
            doubled: 50,
            max_delay_ms: 10,
        },
        Weather {
            lost: 200,
            doubled: 0,
            max_delay_ms: 5,
        },
    ];
    for weather in weathers {
        for (blksize, windowsize) in [(512, 1), (1468, 4), (1432, 16), (8, 64), (1468, 64)] {
            for seed in 0..12 {
                let content_len = usize::from(blksize) * 150 + usize::try_from(seed).unwrap();
                let case = Case {
                    blksize: Some(blksize),
                    windowsize: Some(windowsize),
                    content_len,
                    weather,
                    seed,
                    ..BASE
                };
                let outcome = run(&case);
                let opening_lost = matches!(outcome.event, Event::TimedOut { .. });
                // Four packets and no answer happen in such weather; the file was then never begun.
                assert!(
                    !opening_lost || weather.lost >= 100,
                    "{case:?}: {:?}",
                    outcome.event
                );
            }
        }
    }
}

/// Doubled packets must not make more doubled packets: the Sorcerer's Apprentice.
#[test]
fn rfc1123_4_2_3_1_doubling_does_not_grow() {
    for windowsize in [1, 4, 16, 64] {
        let weather = Weather {
            lost: 0,
            doubled: 0,
            max_delay_ms: 0,
        };
        let calm = done(&Case {
            windowsize: Some(windowsize),
            weather,
            content_len: 1 << 20,
            ..BASE
        });
        for doubled in [100, 1000] {
            let weather = Weather {
                lost: 0,
                doubled,
                max_delay_ms: 0,
            };
            let case = Case {
                windowsize: Some(windowsize),
                weather,
                content_len: 1 << 20,
                ..BASE
            };
            let outcome = done(&case);
            assert!(
                outcome.carried <= calm.carried * 4,
                "{case:?}: {} packets instead of {}",
                outcome.carried,
                calm.carried
            );
        }
    }
}

/// With 0.3 % loss each way the 1 MiB of the published comparison takes others seconds.
#[test]
fn g3_loss_costs_tens_of_milliseconds() {
    for (windowsize, limit_ms) in [(1, 1000), (16, 250)] {
        let mut times: Vec<u64> = (0..50)
            .map(|seed| {
                let weather = Weather {
                    lost: 3,
                    doubled: 0,
                    max_delay_ms: 0,
                };
                let case = Case {
                    blksize: Some(1468),
                    windowsize: Some(windowsize),
                    content_len: 1 << 20,
                    weather,
                    seed,
                    ..BASE
                };
                done(&case).ended_ms
            })
            .collect();
        times.sort_unstable();
        assert!(
            times[49] <= limit_ms,
            "window {windowsize}: worst {} ms",
            times[49]
        );
    }
}
