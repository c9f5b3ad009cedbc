//! Whole streams to many clients over a network that loses, doubles and reorders, on a virtual clock.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use farrier_proto::Instant;
use farrier_proto::session::multicast::{Dialect, Event, MulticastStream, Transmit};
use farrier_proto::wire::tftp::{Multicast, Packet, TransferOptions, data_header};
use farrier_testkit::network::{CALM, Network, Weather};
use farrier_testkit::random::Random;

const GROUP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 255, 67, 1), 1758);
/// Sub-option 5, in milliseconds, and how often clients of RFC 2090 repeat themselves.
const DELAY_MS: u64 = 1000;
const CLIENT_TIMER_MS: u64 = 2000;

#[derive(Clone, Debug)]
struct Case {
    mtftp: bool,
    blocks: usize,
    /// When each client asks, in milliseconds.
    clients: Vec<u64>,
    /// Who is switched off when, by its place in `clients`.
    dies: Option<(usize, u64)>,
    weather: Weather,
    seed: u64,
}

fn peer(who: usize) -> SocketAddrV4 {
    let [.., a, b] = u32::try_from(who).unwrap().to_be_bytes();
    SocketAddrV4::new(Ipv4Addr::new(10, 0, a, b), 1758)
}

/// A client of either kind, by the book.
struct Client {
    mtftp: bool,
    begins: u64,
    blocks: BTreeMap<u16, Vec<u8>>,
    last: Option<u16>,
    /// Its turn: it acknowledges.
    master: bool,
    /// MTFTP, between its request and the answer.
    opening: bool,
    done: bool,
    wakes: u64,
}

impl Client {
    fn new(mtftp: bool, begins: u64) -> Self {
        // An MTFTP client listens first.
        let listens = if mtftp { DELAY_MS } else { 0 };
        Self {
            mtftp,
            begins,
            blocks: BTreeMap::new(),
            last: None,
            master: false,
            opening: false,
            done: false,
            wakes: begins + listens,
        }
    }

    fn is_whole(&self) -> bool {
        self.last
            .is_some_and(|last| self.blocks.len() == usize::from(last))
    }

    /// The block before the first that it lacks.
    fn before_gap(&self) -> u16 {
        let held = self.blocks.keys().zip(1..).take_while(|(a, b)| **a == *b);
        u16::try_from(held.count()).unwrap()
    }

    fn acknowledge(&mut self, now: u64) -> Vec<u8> {
        self.wakes = now
            + if self.mtftp {
                DELAY_MS
            } else {
                CLIENT_TIMER_MS
            };
        self.done = self.is_whole();
        let block = self.before_gap();
        Packet::Ack { block }.encode()
    }

    fn request(&mut self, now: u64) -> Vec<u8> {
        self.wakes = now
            + if self.mtftp {
                DELAY_MS
            } else {
                CLIENT_TIMER_MS
            };
        self.opening = true;
        let options = TransferOptions {
            multicast: (!self.mtftp).then_some(Multicast::Asked),
            ..TransferOptions::default()
        };
        Packet::ReadRequest(farrier_proto::wire::tftp::ReadRequest {
            name: b"x".to_vec(),
            options,
            ..Default::default()
        })
        .encode()
    }

    fn wake(&mut self, now: u64) -> Vec<u8> {
        if self.mtftp {
            // Nothing was heard: it opens the stream itself.
            self.master = false;
            return self.request(now);
        }
        if self.master {
            self.acknowledge(now)
        } else {
            self.request(now)
        }
    }

    fn handle(&mut self, now: u64, to_group: bool, bytes: &[u8]) -> Option<Vec<u8>> {
        if now < self.begins || self.done {
            return None;
        }
        match Packet::decode(bytes).unwrap() {
            Packet::OptionAck(options) => {
                let Some(Multicast::Joined { master, .. }) = options.multicast else {
                    panic!("{options:?}");
                };
                self.opening = false;
                self.master = master;
                self.wakes = now + CLIENT_TIMER_MS;
                master.then(|| self.acknowledge(now))
            }
            Packet::Data { block, data } => {
                if self.mtftp && !to_group && self.opening {
                    self.master = true;
                }
                self.opening = false;
                self.blocks.insert(block, data.to_vec());
                if data.len() < 512 {
                    self.last = Some(block);
                }
                self.wakes = now
                    + if self.mtftp {
                        DELAY_MS
                    } else {
                        CLIENT_TIMER_MS
                    };
                // Its first block comes twice, for itself and for all.
                let answers = self.master && !(self.mtftp && to_group && block == 1);
                if !answers && self.mtftp && self.is_whole() {
                    self.done = true;
                }
                answers.then(|| {
                    if self.mtftp {
                        self.done = self.is_whole();
                        Packet::Ack { block }.encode()
                    } else {
                        self.acknowledge(now)
                    }
                })
            }
            other => panic!("{other:?}"),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Towards {
    Server(usize),
    Client(usize, bool),
}

struct Outcome {
    /// Blocks that went to the group.
    blocks: u64,
    ended_ms: u64,
}

/// Runs all clients to their end; panics unless each that lives has every byte.
fn run(case: &Case) -> Outcome {
    let content = Random::new(case.seed ^ 0x5eed).bytes(case.blocks * 512 - 100);
    let dialect = if case.mtftp {
        Dialect::Mtftp {
            delay: Duration::from_millis(DELAY_MS),
        }
    } else {
        Dialect::Rfc2090 {
            gather: Duration::from_millis(100),
        }
    };
    let fresh = |now| MulticastStream::new(now, dialect, GROUP, (content.len() as u64, 512));
    let mut stream = fresh(Instant(0));
    let begins = case.clients.iter();
    let mut clients: Vec<_> = begins.map(|at| Client::new(case.mtftp, *at)).collect();
    let mut network = Network::new(case.weather, case.seed);
    let (mut now, mut blocks) = (0, 0);
    let alive = |who: usize, now: u64| case.dies.is_none_or(|(dead, at)| who != dead || now < at);
    loop {
        while let Some(transmit) = stream.poll_transmit() {
            let (to, bytes) = match transmit {
                Transmit::Packet { to, bytes } => (to, bytes),
                Transmit::Block {
                    to,
                    block,
                    offset,
                    len,
                } => {
                    let offset = usize::try_from(offset).unwrap();
                    let data = &content[offset..offset + usize::from(len)];
                    (to, [&data_header(block)[..], data].concat())
                }
            };
            blocks += u64::from(to == GROUP);
            for who in 0..clients.len() {
                if to == GROUP || to == peer(who) {
                    network.send(now, Towards::Client(who, to == GROUP), &bytes);
                }
            }
        }
        while let Some(event) = stream.poll_event() {
            if matches!(event, Event::Over { .. }) {
                stream = fresh(Instant(now));
            }
        }
        let ended = |(who, client): (usize, &Client)| client.done || !alive(who, now);
        if clients.iter().enumerate().all(ended) {
            break;
        }
        assert!(now < 600_000, "{case:?} does not end");
        now = next_moment(&stream, &clients, &network, now, alive);
        while let Some((_, to, bytes)) = network.receive(now) {
            match to {
                Towards::Client(who, group) if alive(who, now) => {
                    if let Some(answer) = clients[who].handle(now, group, &bytes) {
                        network.send(now, Towards::Server(who), &answer);
                    }
                }
                Towards::Client(..) => {}
                Towards::Server(who) => match Packet::decode(&bytes).unwrap() {
                    Packet::ReadRequest(request) => {
                        stream.request(Instant(now), peer(who), &request.options);
                    }
                    _ => stream.handle(Instant(now), peer(who), &bytes).unwrap(),
                },
            }
        }
        for (who, client) in clients.iter_mut().enumerate() {
            if !client.done && alive(who, now) && client.wakes <= now {
                let bytes = client.wake(now);
                network.send(now, Towards::Server(who), &bytes);
            }
        }
        stream.handle_timeout(Instant(now));
    }
    for (who, client) in clients.iter().enumerate() {
        if alive(who, now) {
            let received: Vec<u8> = client.blocks.values().flatten().copied().collect();
            assert!(received == content, "client {who} of {case:?}");
        }
    }
    Outcome {
        blocks,
        ended_ms: now,
    }
}

fn next_moment(
    stream: &MulticastStream,
    clients: &[Client],
    network: &Network<Towards>,
    now: u64,
    alive: impl Fn(usize, u64) -> bool,
) -> u64 {
    let arrival = network.next_arrival();
    let timer = stream.poll_timeout().map(|at| at.0);
    let waking = clients.iter().enumerate();
    let waking = waking.filter(|(who, client)| !client.done && alive(*who, now));
    let moments = waking
        .map(|(_, client)| client.wakes)
        .chain(arrival)
        .chain(timer);
    moments.min().unwrap_or(now).max(now)
}

fn case(mtftp: bool, clients: &[u64]) -> Case {
    Case {
        mtftp,
        blocks: 60,
        clients: clients.to_vec(),
        dies: None,
        weather: CALM,
        seed: 1,
    }
}

#[test]
fn rfc2090_one_copy_of_each_block_for_sixteen_clients() {
    let outcome = run(&case(
        false,
        &[0, 1, 2, 3, 5, 8, 13, 21, 34, 50, 60, 70, 80, 90, 95, 99],
    ));
    assert_eq!(outcome.blocks, 60);
    assert!(outcome.ended_ms < 200, "{} ms", outcome.ended_ms);
}

#[test]
fn t12_one_copy_of_each_block_for_all_mtftp_clients_that_listen() {
    // The first opens after a second; all the others hear it.
    let outcome = run(&case(true, &[0, 10, 200, 500, 999]));
    assert_eq!(outcome.blocks, 60);
}

#[test]
fn t12_a_late_mtftp_client_gets_what_it_missed_from_a_stream_it_opens() {
    let mut late = case(true, &[0, 1040]);
    late.weather.max_delay_ms = 2;
    let outcome = run(&late);
    assert!((61..=125).contains(&outcome.blocks), "{}", outcome.blocks);
}

#[test]
fn rfc2090_a_dead_master_costs_less_than_two_seconds() {
    let weather = Weather {
        max_delay_ms: 4,
        ..CALM
    };
    let alive = run(&Case {
        weather,
        ..case(false, &[0, 1, 2])
    });
    let dead = run(&Case {
        weather,
        dies: Some((0, 200)),
        ..case(false, &[0, 1, 2])
    });
    let cost = dead.ended_ms.saturating_sub(alive.ended_ms);
    assert!((1..2000).contains(&cost), "{cost} ms");
}

#[test]
fn bad_weather_delays_and_never_damages() {
    for seed in 0..120 {
        let mut random = Random::new(seed);
        let weather = Weather {
            lost: random.below(80),
            doubled: random.below(60),
            max_delay_ms: random.below(30),
        };
        let clients: Vec<u64> = (0..=random.below(6)).map(|_| random.below(3000)).collect();
        let dies = random
            .chance(500)
            .then(|| (0, random.below(4000)))
            .filter(|_| clients.len() > 1);
        run(&Case {
            mtftp: seed % 2 == 0,
            blocks: 1 + usize::try_from(random.below(50)).unwrap(),
            clients,
            dies,
            weather,
            seed,
        });
    }
}
