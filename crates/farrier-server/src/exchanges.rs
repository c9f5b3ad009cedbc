//! Who has spoken DHCP with us of late.
//!
//! A request by TFTP may carry a forged address, and block 1 is larger than its request. A host that was just
//! answered by DHCP is likely to ask for itself, and what it said there pays for block 1: all in all nobody gets
//! more than five times what came in its name. What is kept is bounded, and known machines have a share of their
//! own, so that a flood of invented ones cannot push them out.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::mem;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use farrier_engine::WallTime;
use farrier_proto::MacAddr;

use crate::transfer::{FACTOR, on_the_wire};

/// The exchanges of the last minutes, by hardware address and, where the client has told it, by address.
#[derive(Debug, Default)]
pub struct Exchanges {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    known: Recent<Sign>,
    strangers: Recent<Sign>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Sign {
    Hardware(MacAddr),
    Address(Ipv4Addr),
}

impl Exchanges {
    /// Notes an exchange by DHCP, BOOTP, ProxyDHCP or RARP.
    pub fn saw(&self, exchange: &Exchange, now: WallTime) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = if exchange.known {
            &mut inner.known
        } else {
            &mut inner.strangers
        };
        let hardware = Sign::Hardware(exchange.mac);
        let address = exchange.address.map(Sign::Address);
        recent.put(hardware, now);
        if let Some(address) = address {
            recent.put(address, now);
        }
        recent.credit(address.unwrap_or(hardware), exchange.earns());
    }

    /// The bytes that may leave for the exchanges lately with this address or its hardware. They are spent then.
    pub fn spend(&self, address: IpAddr, mac: Option<MacAddr>, now: WallTime) -> u64 {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let Inner { known, strangers } = &mut *inner;
        let of = |sign| known.spend(sign, now) + strangers.spend(sign, now);
        signs(address, mac).map(of).sum()
    }

    /// Whether there was an exchange lately with this address, or with the hardware it belongs to.
    #[must_use]
    pub fn include(&self, address: IpAddr, mac: Option<MacAddr>, now: WallTime) -> bool {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        signs(address, mac).any(|sign| inner.known.has(sign, now) || inner.strangers.has(sign, now))
    }
}

fn signs(address: IpAddr, mac: Option<MacAddr>) -> impl Iterator<Item = Sign> {
    let address = match address {
        IpAddr::V4(ip) => Some(Sign::Address(ip)),
        // What is lent there has the hardware address in it.
        IpAddr::V6(_) => None,
    };
    [address, mac.map(Sign::Hardware)].into_iter().flatten()
}

/// One question and its answer.
#[derive(Clone, Copy, Debug)]
pub struct Exchange {
    pub mac: MacAddr,
    /// What the client calls its own, if it has told.
    pub address: Option<Ipv4Addr>,
    /// Whether the machine is on record.
    pub known: bool,
    /// Bytes that came, without the headers below.
    pub heard: usize,
    /// Bytes that went, or more.
    pub answered: usize,
}

impl Exchange {
    fn earns(&self) -> u64 {
        let paid = FACTOR.saturating_mul(on_the_wire(self.heard));
        paid.saturating_sub(on_the_wire(self.answered))
    }
}

/// A bounded set in which each is forgotten after a while.
#[derive(Debug)]
struct Recent<K> {
    seen: HashMap<K, Seen>,
    /// Oldest first, by when each came in.
    order: VecDeque<K>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    at: WallTime,
    /// What it has earned and not spent.
    credit: u64,
}

impl<K> Default for Recent<K> {
    fn default() -> Self {
        Self {
            seen: HashMap::new(),
            order: VecDeque::new(),
        }
    }
}

impl<K: Copy + Eq + Hash> Recent<K> {
    fn put(&mut self, key: K, now: WallTime) {
        if let Some(seen) = self.seen.get_mut(&key) {
            seen.at = now;
            return;
        }
        self.seen.insert(key, Seen { at: now, credit: 0 });
        self.order.push_back(key);
        if self.order.len() > MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
        }
    }

    fn has(&self, key: K, now: WallTime) -> bool {
        self.seen
            .get(&key)
            .is_some_and(|seen| now.since(seen.at) < REMEMBERED)
    }

    fn credit(&mut self, key: K, bytes: u64) {
        if let Some(seen) = self.seen.get_mut(&key) {
            seen.credit = seen.credit.saturating_add(bytes).min(MAX_CREDIT);
        }
    }

    fn spend(&mut self, key: K, now: WallTime) -> u64 {
        match self.seen.get_mut(&key) {
            Some(seen) if now.since(seen.at) < REMEMBERED => mem::take(&mut seen.credit),
            _ => 0,
        }
    }
}

/// From the lease to the last request of a loader that negotiates nothing, a person at a menu included.
const REMEMBERED: Duration = Duration::from_secs(600);
/// A dozen first blocks: what a ROM and its loader open before they have acknowledged anything.
const MAX_CREDIT: u64 = 8192;
/// Two signs each, so for four thousand machines.
const MAX: usize = 8192;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use farrier_engine::WallTime;
    use farrier_proto::MacAddr;

    use super::{Exchange, Exchanges, MAX, MAX_CREDIT};

    fn mac(n: usize) -> MacAddr {
        let [.., a, b, c] = n.to_be_bytes();
        MacAddr([2, 0, 0, a, b, c])
    }

    fn exchange(n: usize, address: Option<Ipv4Addr>, known: bool) -> Exchange {
        Exchange {
            mac: mac(n),
            address,
            known,
            heard: 300,
            answered: 548,
        }
    }

    #[test]
    fn t8_what_was_said_by_dhcp_is_spent_once() {
        let exchanges = Exchanges::default();
        let ours = Ipv4Addr::new(10, 0, 0, 1);
        let earned = 5 * (300 + 28) - (548 + 28);
        exchanges.saw(&exchange(1, None, false), WallTime(0));
        exchanges.saw(&exchange(1, Some(ours), true), WallTime(0));
        let spend = |at| exchanges.spend(ours.into(), Some(mac(1)), WallTime(at));
        assert_eq!(spend(1), 2 * earned, "the offer's and the lease's");
        assert_eq!(spend(1), 0);
        for _ in 0..100 {
            exchanges.saw(&exchange(1, Some(ours), true), WallTime(2));
        }
        assert_eq!(spend(3), MAX_CREDIT);
        exchanges.saw(&exchange(1, Some(ours), true), WallTime(4));
        assert_eq!(spend(600_004), 0, "too old");
    }

    #[test]
    fn t8_an_exchange_counts_for_ten_minutes() {
        let exchanges = Exchanges::default();
        let (ours, other) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        exchanges.saw(&exchange(1, Some(ours), false), WallTime(0));
        assert!(exchanges.include(ours.into(), None, WallTime(599_999)));
        assert!(exchanges.include(other.into(), Some(mac(1)), WallTime(599_999)));
        assert!(!exchanges.include(other.into(), Some(mac(2)), WallTime(0)));
        assert!(!exchanges.include(ours.into(), Some(mac(1)), WallTime(600_000)));
    }

    #[test]
    fn t10_invented_addresses_do_not_push_out_known_machines() {
        let exchanges = Exchanges::default();
        let ours = Ipv4Addr::new(10, 0, 0, 1);
        exchanges.saw(&exchange(1, Some(ours), true), WallTime(0));
        for n in 2..3 * MAX {
            exchanges.saw(&exchange(n, None, false), WallTime(1));
        }
        assert!(exchanges.include(ours.into(), None, WallTime(1)));
        let inner = exchanges.inner.lock().unwrap();
        assert_eq!(
            (inner.strangers.seen.len(), inner.strangers.order.len()),
            (MAX, MAX)
        );
    }
}
