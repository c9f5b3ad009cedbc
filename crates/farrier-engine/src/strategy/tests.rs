//! Scripted firmware against the choice, on a virtual clock, over a network that loses, doubles and reorders.

use std::collections::BTreeSet;
use std::time::Duration;

use farrier_proto::MacAddr;
use farrier_proto::wire::dhcpv4::{Message, Xid};
use farrier_proto::wire::option;
use farrier_testkit::random::Random;

use super::*;

/// Seconds at which firmware asks in one boot (PXE 2.1 2.2.1; edk2 does nearly the same).
const SCHEDULE: [u64; 4] = [0, 4, 12, 30];
const BOOT: u64 = 90;

struct Network {
    random: Random,
    lost: u64,
    doubled: u64,
    late: u64,
}

/// Firmware that understands some ways, and the server's memory of it.
struct Scene {
    standing: Standing,
    facts: BootFacts,
    understands: &'static [Strategy],
    network: Network,
    trial: Option<Trial>,
    learned: Option<Strategy>,
    pinned: Option<Strategy>,
    now: WallTime,
    changes: Vec<(Strategy, Strategy)>,
}

fn facts(class: &str, code: u16) -> BootFacts {
    let mut message = Message::request(Xid(1), MacAddr([2, 0, 0, 0, 0, 1]));
    message.options.set(option::DHCP_MESSAGE_TYPE, [1]);
    let options = &mut message.options;
    options.set(option::VENDOR_CLASS_IDENTIFIER, class.as_bytes());
    options.set(option::CLIENT_SYSTEM_ARCHITECTURE, code.to_be_bytes());
    BootFacts::from_dhcp(&message).unwrap()
}

fn bios() -> BootFacts {
    facts("PXEClient:Arch:00000:UNDI:002001", 0)
}

fn uefi() -> BootFacts {
    facts("PXEClient:Arch:00007:UNDI:003016", 7)
}

fn scene(facts: BootFacts, standing: Standing, understands: &'static [Strategy]) -> Scene {
    let network = Network {
        random: Random::new(1),
        lost: 0,
        doubled: 0,
        late: 0,
    };
    Scene {
        standing,
        facts,
        understands,
        network,
        trial: None,
        learned: None,
        pinned: None,
        now: WallTime(1_000_000),
        changes: Vec::new(),
    }
}

impl Network {
    fn arrives(&mut self) -> bool {
        !self.random.chance(self.lost)
    }
}

impl Scene {
    /// The server hears a question; what it offers, if that arrives.
    fn asks(&mut self) -> Option<Strategy> {
        if !self.network.arrives() {
            return None;
        }
        let given = Given {
            order: order(&self.facts, self.standing),
            pinned: self.pinned,
            learned: self.learned,
        };
        let (trial, change) = given.offer(self.trial, self.now);
        self.changes.extend(change.map(|c| (c.from, c.to)));
        self.trial = Some(trial);
        self.network.arrives().then_some(trial.strategy)
    }

    /// One power-on; whether the loader came to run. Four tries each at port 4011 and at the file.
    fn boots(&mut self) -> bool {
        let began = self.now;
        let mut got_on = false;
        for at in SCHEDULE {
            self.now = began + Duration::from_secs(at);
            let doubled = self.network.random.chance(self.network.doubled);
            let mut offers = vec![self.asks()];
            if doubled {
                offers.push(self.asks());
            }
            let understood = offers.into_iter().flatten();
            got_on = understood.filter(|s| self.understands.contains(s)).count() > 0;
            if got_on {
                break;
            }
        }
        if got_on && self.hears_of(Trial::went_on) && self.hears_of(Trial::fetched) {
            let worked = self.trial.map(|trial| trial.strategy);
            self.learned = worked;
        } else {
            got_on = false;
        }
        // A question that was under way while the machine got on.
        if self.network.random.chance(self.network.late) {
            self.asks();
        }
        self.now = began + Duration::from_secs(BOOT);
        got_on
    }

    fn hears_of(&mut self, sign: fn(&mut Trial, WallTime)) -> bool {
        let heard = (0..4).any(|_| self.network.arrives());
        if let Some(trial) = self.trial.as_mut().filter(|_| heard) {
            sign(trial, self.now);
        }
        heard
    }
}

#[test]
fn every_boot_path_finds_its_way_and_keeps_it() {
    use Standing::{Beside, BesideWithPool, Server};
    use Strategy::{A, B, C, D};
    let http = || facts("HTTPClient:Arch:00016:UNDI:003016", 16);
    // What the firmware is, where we stand, what it understands, the way that is found, boots until then.
    let rows: [(BootFacts, Standing, &'static [Strategy], Strategy, usize); 11] = [
        (bios(), Beside, &[A], A, 1),
        (bios(), Beside, &[B], B, 1),
        (bios(), BesideWithPool, &[D], D, 2),
        (uefi(), Beside, &[B, C], B, 1),
        (uefi(), Beside, &[C], C, 1),
        (uefi(), BesideWithPool, &[D], D, 2),
        (uefi(), Server, &[D, C], D, 1),
        (uefi(), Server, &[C], C, 1),
        (uefi(), Server, &[B], B, 2),
        (http(), Beside, &[A], A, 1),
        (http(), BesideWithPool, &[D], D, 1),
    ];
    for (facts, standing, understands, expected, boots) in rows {
        let row = format!("{standing:?} {understands:?} {:?}", facts.firmware);
        let mut scene = scene(facts, standing, understands);
        let found = (1..=4).find(|_| scene.boots());
        assert_eq!(found, Some(boots), "{row}");
        assert_eq!(scene.learned, Some(expected), "{row}");
        let changes = scene.changes.len();
        // Also after the memory of it is gone.
        scene.trial = None;
        assert!((0..20).all(|_| scene.boots()), "{row}");
        assert_eq!(scene.changes.len(), changes, "{row}: no more changes");
    }
}

#[test]
fn one_way_alone_is_never_left() {
    let mut scene = scene(facts("HTTPClient", 16), Standing::Beside, &[]);
    assert!((0..5).all(|_| !scene.boots()));
    assert_eq!(scene.changes, []);
}

#[test]
fn all_ways_are_tried_in_their_order_and_again_from_the_first() {
    use Strategy::{B, C, D};
    let mut scene = scene(uefi(), Standing::BesideWithPool, &[]);
    assert!((0..5).all(|_| !scene.boots()));
    assert_eq!(scene.changes[..4], [(B, C), (C, D), (D, B), (B, C)]);
}

#[test]
fn loss_alone_changes_nothing_that_has_worked() {
    for seed in 0..200 {
        let mut scene = scene(uefi(), Standing::Beside, &[Strategy::B, Strategy::C]);
        assert!(scene.boots());
        scene.network = Network {
            random: Random::new(seed),
            lost: 200,
            doubled: 100,
            late: 100,
        };
        let booted = (0..50).filter(|_| scene.boots()).count();
        assert!(booted > 40, "seed {seed}: {booted} of 50 boots");
        assert_eq!(scene.changes, [], "seed {seed}");
        assert_eq!(scene.learned, Some(Strategy::B), "seed {seed}");
    }
}

#[test]
fn two_lost_offers_of_an_unknown_machine_change_nothing() {
    let mut scene = scene(uefi(), Standing::Beside, &[Strategy::B]);
    for at in [0, 4] {
        scene.now = WallTime(1_000_000) + Duration::from_secs(at);
        scene.asks();
    }
    scene.now = WallTime(1_000_000) + Duration::from_secs(12);
    assert_eq!(scene.asks(), Some(Strategy::B));
    scene.hears_of(Trial::went_on);
    scene.hears_of(Trial::fetched);
    assert_eq!(scene.changes, []);
}

#[test]
fn machines_find_their_way_on_a_bad_network_too() {
    let mut found = BTreeSet::new();
    for seed in 0..200 {
        let mut scene = scene(uefi(), Standing::BesideWithPool, &[Strategy::C]);
        scene.network = Network {
            random: Random::new(seed),
            lost: 200,
            doubled: 200,
            late: 200,
        };
        let booted = (0..30).filter(|_| scene.boots()).count();
        assert!(booted > 20, "seed {seed}: {booted} of 30 boots");
        assert_eq!(scene.learned, Some(Strategy::C), "seed {seed}");
        found.insert(scene.changes.len());
    }
    assert!(found.contains(&1), "{found:?}");
}

#[test]
fn a_doubled_question_counts_once() {
    let mut scene = scene(uefi(), Standing::Beside, &[]);
    for _ in 0..20 {
        assert_eq!(scene.asks(), Some(Strategy::B));
        scene.now = scene.now + Duration::from_millis(90);
    }
    scene.now = scene.now + Duration::from_secs(20);
    assert_eq!(scene.asks(), Some(Strategy::B), "two questions so far");
    assert_eq!(scene.changes, []);
}

#[test]
fn what_people_pin_is_kept_and_what_cannot_be_is_not() {
    let mut scene = scene(uefi(), Standing::Beside, &[]);
    scene.pinned = Some(Strategy::C);
    (0..5).for_each(|_| assert!(!scene.boots()));
    assert_eq!(scene.changes, []);
    assert_eq!(scene.asks(), Some(Strategy::C));
    // Without addresses of ours there is no complete offer.
    scene.pinned = Some(Strategy::D);
    scene.trial = None;
    assert_eq!(scene.asks(), Some(Strategy::B));
}

#[test]
fn firmware_that_was_updated_is_found_out_anew() {
    let mut scene = scene(uefi(), Standing::Beside, &[Strategy::B]);
    assert!(scene.boots());
    scene.understands = &[Strategy::C];
    let boots = (1..=6).find(|_| scene.boots());
    assert_eq!(boots, Some(3), "two boots that fail are no change yet");
    assert_eq!(scene.learned, Some(Strategy::C));
}

#[test]
fn a_clock_that_is_put_back_starts_over() {
    let mut scene = scene(uefi(), Standing::Beside, &[]);
    assert!((0..2).all(|_| !scene.boots()));
    scene.now = WallTime(0);
    assert_eq!(scene.asks(), Some(Strategy::B));
    assert!(scene.trial.is_some_and(|trial| trial.unanswered == 1));
}
