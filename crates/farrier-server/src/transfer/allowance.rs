//! How much may leave before anybody has acknowledged anything (`T8`).
//!
//! Until the first ACK the address of a request may be forged, and what we send hits whoever has it. Three
//! measures bound that, in bytes of IP packets: each address gets back five times what came under its name,
//! and a little more for first blocks; each network of 256 addresses and all together have a rate. What turns
//! out to be wanted is given back, so that real clients never notice. Half of a network's and of the whole
//! rate is kept for addresses that have proven themselves, so that forged ones cannot use it up for them.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use farrier_proto::Instant;

use crate::bucket::{Bucket, Buckets, Rate, network};

/// What may still leave, for all transfers of the server.
#[derive(Debug)]
pub(super) struct Allowance {
    ledgers: Mutex<Ledgers>,
    started: tokio::time::Instant,
}

#[derive(Debug)]
struct Ledgers {
    hosts: Buckets<IpAddr>,
    networks: Buckets<IpAddr>,
    all: Bucket,
}

impl Default for Allowance {
    fn default() -> Self {
        Self {
            ledgers: Mutex::new(Ledgers {
                hosts: Buckets::new(HOST, MAX_HOSTS),
                networks: Buckets::new(NETWORK, MAX_NETWORKS),
                all: Bucket::full(ALL, Instant(0)),
            }),
            started: tokio::time::Instant::now(),
        }
    }
}

/// What one client was sent before its first ACK.
#[derive(Debug)]
pub(super) struct Tab {
    allowance: Arc<Allowance>,
    ip: IpAddr,
    proven: bool,
    owed: u64,
}

impl Tab {
    pub(super) fn open(allowance: &Arc<Allowance>, ip: IpAddr, proven: bool) -> Self {
        Self {
            allowance: Arc::clone(allowance),
            ip,
            proven,
            owed: 0,
        }
    }

    pub(super) fn is_proven(&self) -> bool {
        self.proven
    }

    /// A request of so many bytes came.
    pub(super) fn heard(&self, payload: usize) {
        self.allowance.heard(self.ip, on_the_wire(payload));
    }

    /// Whether a packet of so many bytes may leave; it is noted then.
    pub(super) fn covers(&mut self, payload: usize) -> bool {
        let bytes = on_the_wire(payload);
        let covered = self.allowance.take(self.ip, self.proven, bytes);
        if covered {
            self.owed += bytes;
        }
        covered
    }

    /// The client has answered: nothing of this was unwanted.
    pub(super) fn settle(&mut self) {
        if self.owed > 0 {
            self.allowance.give_back(self.ip, self.owed);
            self.owed = 0;
        }
    }
}

impl Allowance {
    fn heard(&self, ip: IpAddr, bytes: u64) {
        let (mut ledgers, now) = (self.lock(), self.now());
        ledgers.hosts.of(ip, now).give_back(FACTOR * bytes);
    }

    fn take(&self, ip: IpAddr, proven: bool, bytes: u64) -> bool {
        let (mut ledgers, now) = (self.lock(), self.now());
        let Ledgers {
            hosts,
            networks,
            all,
        } = &mut *ledgers;
        let kept = |rate: Rate| if proven { 0 } else { rate.size / 2 };
        let (host, network) = (hosts.of(ip, now), networks.of(network(ip), now));
        let enough = host.left(now) >= bytes
            && network.left(now) >= bytes + kept(NETWORK)
            && all.left(now) >= bytes + kept(ALL);
        if enough {
            host.take(bytes);
            network.take(bytes);
            all.take(bytes);
        }
        enough
    }

    fn give_back(&self, ip: IpAddr, bytes: u64) {
        let (mut ledgers, now) = (self.lock(), self.now());
        ledgers.hosts.of(ip, now).give_back(bytes);
        ledgers.networks.of(network(ip), now).give_back(bytes);
        ledgers.all.give_back(bytes);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Ledgers> {
        self.ledgers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Instant {
        Instant(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

/// With the headers of UDP and IPv4, as it burdens whoever gets it.
fn on_the_wire(payload: usize) -> u64 {
    const HEADERS: u64 = 28;
    u64::try_from(payload)
        .unwrap_or(u64::MAX)
        .saturating_add(HEADERS)
}

/// Bytes out for each byte in.
const FACTOR: u64 = 5;
/// Three first blocks at once, and one every nine seconds.
const HOST: Rate = Rate {
    size: 2048,
    per_second: 64,
};
/// All machines of a network opening two files at once.
const NETWORK: Rate = Rate {
    size: 512 << 10,
    per_second: 64 << 10,
};
const ALL: Rate = Rate {
    size: 8 << 20,
    per_second: 1 << 20,
};
const MAX_HOSTS: usize = 16_384;
const MAX_NETWORKS: usize = 4096;

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;

    use super::{ALL, Allowance, HOST, NETWORK, Tab};

    const BLOCK: usize = 516;
    const REQUEST: usize = 32;

    fn host(n: u32) -> IpAddr {
        Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 0, 0)) + n).into()
    }

    #[test]
    fn t8_one_address_gets_five_times_what_came_under_its_name() {
        let allowance = Arc::new(Allowance::default());
        let (mut asked, mut sent) = (0, 0);
        for _ in 0..1000 {
            let mut tab = Tab::open(&allowance, host(1), true);
            tab.heard(REQUEST);
            asked += REQUEST + 28;
            sent += usize::from(tab.covers(BLOCK)) * (BLOCK + 28);
        }
        let spare = usize::try_from(HOST.size).unwrap() + 64 * 60;
        assert!(sent <= 5 * asked + spare, "{sent} for {asked}");
        assert!(sent > 4 * asked, "and not much less");
    }

    #[test]
    fn t8_who_acknowledges_never_notices() {
        let allowance = Arc::new(Allowance::default());
        for _ in 0..100_000 {
            let mut tab = Tab::open(&allowance, host(1), true);
            tab.heard(REQUEST);
            assert!(tab.covers(BLOCK));
            tab.settle();
        }
    }

    #[test]
    fn t8_networks_and_the_whole_have_a_rate_and_keep_half_for_who_has_proven_itself() {
        let allowance = Arc::new(Allowance::default());
        let flood = |networks: u32, proven: bool| {
            let mut sent = 0;
            for n in 0..networks * 256 {
                for _ in 0..6 {
                    let mut tab = Tab::open(&allowance, host(n), proven);
                    sent += u64::from(tab.covers(BLOCK)) * 544;
                }
            }
            sent
        };
        let slack = 64 << 10;
        let forged = flood(1, false);
        assert!(forged <= NETWORK.size / 2 + slack, "{forged}");
        let mut real = Tab::open(&allowance, Ipv4Addr::new(10, 0, 0, 1).into(), true);
        real.heard(REQUEST);
        real.settle();
        assert!(flood(1, true) > 0, "half was kept");
        let all = flood(64, false);
        assert!(all <= ALL.size / 2 + (2 << 20), "{all}");
    }
}
