//! Many clients, a network that loses and doubles, a server that crashes: no address is lent twice.

use super::*;

#[derive(Clone, Debug)]
enum Op {
    Discover(u8),
    /// Takes up the last offer; the crash comes before the store, before the commit, or not.
    Request(u8, Crash),
    Renew(u8, Crash),
    Release(u8),
    Decline(u8),
    Wait(u16),
    Restart,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Crash {
    BeforeStore,
    BeforeCommit,
    BeforeAck,
    No,
}

fn op() -> impl Strategy<Value = Op> {
    let who = 0u8..6;
    let crash = || {
        prop_oneof![
            1 => Just(Crash::BeforeStore),
            1 => Just(Crash::BeforeCommit),
            1 => Just(Crash::BeforeAck),
            6 => Just(Crash::No),
        ]
    };
    prop_oneof![
        4 => who.clone().prop_map(Op::Discover),
        6 => (who.clone(), crash()).prop_map(|(w, c)| Op::Request(w, c)),
        3 => (who.clone(), crash()).prop_map(|(w, c)| Op::Renew(w, c)),
        1 => who.clone().prop_map(Op::Release),
        1 => who.prop_map(Op::Decline),
        3 => (0u16..4000).prop_map(Op::Wait),
        1 => Just(Op::Restart),
    ]
}

/// What the clients believe, what the disk holds, and the book under test.
struct World {
    book: LeaseBook,
    stored: HashMap<Ipv4Addr, Lease>,
    offers: HashMap<u8, Ipv4Addr>,
    believed: HashMap<u8, (Ipv4Addr, WallTime)>,
    now: WallTime,
}

impl World {
    fn fresh() -> LeaseBook {
        LeaseBook::new(vec![Subnet {
            reservations: vec![Reservation {
                ip: ip(12),
                holder: Holder::Mac(mac(5)),
            }],
            ..subnet(10, 13)
        }])
        .unwrap()
    }

    fn new() -> Self {
        Self {
            book: Self::fresh(),
            stored: HashMap::new(),
            offers: HashMap::new(),
            believed: HashMap::new(),
            now: at(0),
        }
    }

    /// Rows come back in the order of addresses or against it, so that no order is relied on.
    fn restart(&mut self) {
        self.book = Self::fresh();
        let mut rows: Vec<_> = self.stored.values().cloned().collect();
        rows.sort_by_key(|lease| lease.ip);
        if self.now.0 % 2000 != 0 {
            rows.reverse();
        }
        for lease in rows {
            self.book
                .commit(self.now, lease)
                .expect("stored leases do not clash");
        }
    }

    fn ask(&mut self, who: u8, case: RequestCase, crash: Crash) {
        let Answer::Grant(lease) = self.book.request(self.now, &client(who), OURS, case, OURS)
        else {
            return;
        };
        if crash == Crash::BeforeStore {
            return self.restart();
        }
        self.stored.insert(lease.ip, lease.clone());
        if crash == Crash::BeforeCommit {
            return self.restart();
        }
        self.book
            .commit(self.now, lease.clone())
            .expect("nobody came between");
        if crash == Crash::BeforeAck {
            return self.restart();
        }
        self.believed.insert(who, (lease.ip, lease.ends));
    }

    fn play(&mut self, op: &Op) {
        match *op {
            Op::Discover(who) => {
                if let Offered::Address { ip, .. } =
                    self.book.offer(self.now, &client(who), OURS, None)
                {
                    self.offers.insert(who, ip);
                }
            }
            Op::Request(who, crash) => {
                if let Some(requested) = self.offers.remove(&who) {
                    self.ask(
                        who,
                        RequestCase::Selecting {
                            server: OURS,
                            requested,
                        },
                        crash,
                    );
                }
            }
            Op::Renew(who, crash) => {
                if let Some(&(ciaddr, ends)) = self.believed.get(&who)
                    && ends > self.now
                {
                    self.ask(who, RequestCase::Renewing { ciaddr }, crash);
                }
            }
            Op::Release(who) | Op::Decline(who) => {
                if let Some((ip, ends)) = self.believed.remove(&who)
                    && ends > self.now
                {
                    let done = match op {
                        Op::Release(_) => self.book.release(self.now, mac(who), ip),
                        _ => self.book.decline(self.now, mac(who), ip),
                    };
                    if let Ok(lease) = done {
                        self.stored.insert(ip, lease);
                    }
                }
            }
            Op::Wait(seconds) => self.now = self.now + Duration::from_secs(seconds.into()),
            Op::Restart => self.restart(),
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let mut holders: HashMap<Ipv4Addr, u8> = HashMap::new();
        for (&who, &(ip, ends)) in &self.believed {
            if ends > self.now {
                prop_assert_eq!(holders.insert(ip, who), None, "{} is held twice", ip);
            }
        }
        for (ip, who) in holders {
            let stored = self.stored.get(&ip).map(|lease| lease.mac);
            prop_assert_eq!(stored, Some(mac(who)), "an acknowledged lease is on disk");
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_two_clients_ever_hold_one_address(ops in prop::collection::vec(op(), 1..120)) {
        let mut world = World::new();
        for op in &ops {
            world.play(op);
            world.check()?;
        }
    }
}
