//! How much may leave before anybody has acknowledged anything (`T8`).
//!
//! Until the first ACK the address of a request may be forged, and what we send hits whoever has it. Three
//! measures bound that, in bytes of IP packets: each address gets back five times what came under its name, by
//! TFTP and by DHCP before it, and not one byte more; each network of 256 addresses and all together have a rate.
//! What turns out to be wanted is given back, so that real clients never notice. Half of a network's and of the
//! whole rate is kept for addresses that have proven themselves, so that forged ones cannot use it up for them.
//!
//! RFC 1350's smallest first answer has 544 bytes and its requests have some 70: without an exchange by DHCP lately
//! a client that negotiates nothing is answered when it asks for the second time.

use std::collections::HashMap;
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
    hosts: Credits,
    networks: Buckets<IpAddr>,
    all: Bucket,
}

impl Default for Allowance {
    fn default() -> Self {
        Self {
            ledgers: Mutex::new(Ledgers {
                hosts: Credits::default(),
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
        self.allowance
            .earned(self.ip, FACTOR.saturating_mul(on_the_wire(payload)));
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
    /// So many bytes may leave for what came from there.
    pub(super) fn earned(&self, ip: IpAddr, bytes: u64) {
        self.lock().hosts.add(ip, bytes);
    }

    fn take(&self, ip: IpAddr, proven: bool, bytes: u64) -> bool {
        let (mut ledgers, now) = (self.lock(), self.now());
        let Ledgers {
            hosts,
            networks,
            all,
        } = &mut *ledgers;
        let kept = |rate: Rate| if proven { 0 } else { rate.size / 2 };
        let network = networks.of(network(ip), now);
        let enough = hosts.left(ip) >= bytes
            && network.left(now) >= bytes + kept(NETWORK)
            && all.left(now) >= bytes + kept(ALL);
        if enough {
            hosts.take(ip, bytes);
            network.take(bytes);
            all.take(bytes);
        }
        enough
    }

    fn give_back(&self, ip: IpAddr, bytes: u64) {
        let (mut ledgers, now) = (self.lock(), self.now());
        ledgers.hosts.add(ip, bytes);
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

/// What each address has earned and not got, in a table of bounded size.
#[derive(Debug, Default)]
struct Credits(HashMap<IpAddr, u64>);

impl Credits {
    fn left(&self, ip: IpAddr) -> u64 {
        self.0.get(&ip).copied().unwrap_or(0)
    }

    /// A full table begins anew, at nobody's gain: those in it have to ask once more.
    fn add(&mut self, ip: IpAddr, bytes: u64) {
        if self.0.len() >= MAX_HOSTS && !self.0.contains_key(&ip) {
            self.0.clear();
        }
        let left = self.0.entry(ip).or_default();
        *left = left.saturating_add(bytes).min(MAX_CREDIT);
    }

    fn take(&mut self, ip: IpAddr, bytes: u64) {
        if let Some(left) = self.0.get_mut(&ip) {
            *left = left.saturating_sub(bytes);
        }
    }
}

/// With the headers of UDP and IPv4, as it burdens whoever gets it.
pub(crate) fn on_the_wire(payload: usize) -> u64 {
    const HEADERS: u64 = 28;
    u64::try_from(payload)
        .unwrap_or(u64::MAX)
        .saturating_add(HEADERS)
}

/// Bytes out for each byte in.
pub(crate) const FACTOR: u64 = 5;
/// What requests that were not answered may add up to.
const MAX_CREDIT: u64 = 16 << 10;
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

    use super::{ALL, Allowance, MAX_HOSTS, NETWORK, Rate, Tab};

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
        assert!(sent <= 5 * asked, "{sent} for {asked}");
        assert!(sent > 4 * asked, "and not much less");
    }

    #[test]
    fn t8_who_acknowledges_never_notices() {
        let allowance = Arc::new(Allowance::default());
        allowance.earned(host(1), 544);
        for _ in 0..100_000 {
            let mut tab = Tab::open(&allowance, host(1), true);
            tab.heard(REQUEST);
            assert!(tab.covers(BLOCK));
            tab.settle();
        }
    }

    #[test]
    fn t8_block_1_is_paid_by_dhcp_or_by_asking_twice() {
        let allowance = Arc::new(Allowance::default());
        let ask = |n, earned| {
            allowance.earned(host(n), earned);
            let mut tab = Tab::open(&allowance, host(n), true);
            tab.heard(REQUEST);
            tab.covers(BLOCK)
        };
        assert!(ask(1, 5 * 328 - 604), "after BOOTP, the shortest exchange");
        assert!(!ask(2, 0), "out of nowhere");
        assert!(ask(2, 0), "again");
    }

    #[test]
    fn t9_the_table_of_addresses_is_bounded() {
        let allowance = Arc::new(Allowance::default());
        for n in 0..3 * u32::try_from(MAX_HOSTS).unwrap() {
            Tab::open(&allowance, host(n), false).heard(REQUEST);
            assert!(allowance.lock().hosts.0.len() <= MAX_HOSTS);
        }
    }

    #[test]
    fn t8_networks_and_the_whole_have_a_rate_and_keep_half_for_who_has_proven_itself() {
        let allowance = Arc::new(Allowance::default());
        let flood = |networks: u32, proven: bool| {
            let mut sent = 0;
            for n in 0..networks * 256 {
                for _ in 0..6 {
                    allowance.earned(host(n), 544);
                    let mut tab = Tab::open(&allowance, host(n), proven);
                    sent += u64::from(tab.covers(BLOCK)) * 544;
                }
            }
            sent
        };
        // While a busy machine does this, some of it comes back.
        let most = |rate: Rate, slack: u64| {
            let back = allowance.now().0 * rate.per_second / 1000;
            rate.size / 2 + slack + back
        };
        let forged = flood(1, false);
        assert!(forged <= most(NETWORK, 64 << 10), "{forged}");
        let mut real = Tab::open(&allowance, Ipv4Addr::new(10, 0, 0, 1).into(), true);
        real.heard(REQUEST);
        real.settle();
        assert!(flood(1, true) > 0, "half was kept");
        let all = flood(64, false);
        assert!(all <= most(ALL, 2 << 20), "{all}");
    }
}
