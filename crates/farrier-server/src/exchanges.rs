//! Who has spoken DHCP with us of late.
//!
//! A request by TFTP may carry a forged address, and block 1 is larger than its request. A host that was just
//! answered by DHCP is likely to ask for itself. What is kept is bounded, and known machines have a share of
//! their own, so that a flood of invented ones cannot push them out.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use farrier_engine::WallTime;
use farrier_proto::MacAddr;

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
    /// Notes an exchange by DHCP, BOOTP or ProxyDHCP.
    pub fn saw(&self, mac: MacAddr, address: Option<Ipv4Addr>, known: bool, now: WallTime) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = if known {
            &mut inner.known
        } else {
            &mut inner.strangers
        };
        recent.put(Sign::Hardware(mac), now);
        if let Some(address) = address {
            recent.put(Sign::Address(address), now);
        }
    }

    /// Whether there was an exchange lately with this address, or with the hardware it belongs to.
    #[must_use]
    pub fn include(&self, address: IpAddr, mac: Option<MacAddr>, now: WallTime) -> bool {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let address = match address {
            IpAddr::V4(ip) => Some(Sign::Address(ip)),
            // What is lent there has the hardware address in it.
            IpAddr::V6(_) => None,
        };
        let signs = [address, mac.map(Sign::Hardware)];
        signs
            .into_iter()
            .flatten()
            .any(|sign| inner.known.has(sign, now) || inner.strangers.has(sign, now))
    }
}

/// A bounded set in which each is forgotten after a while.
#[derive(Debug)]
struct Recent<K> {
    seen: HashMap<K, WallTime>,
    /// Oldest first, by when each came in.
    order: VecDeque<K>,
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
        if self.seen.insert(key, now).is_some() {
            return;
        }
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
            .is_some_and(|at| now.since(*at) < REMEMBERED)
    }
}

/// From the lease to the last request of a loader that negotiates nothing, a person at a menu included.
const REMEMBERED: Duration = Duration::from_secs(600);
/// Two signs each, so for four thousand machines.
const MAX: usize = 8192;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use farrier_engine::WallTime;
    use farrier_proto::MacAddr;

    use super::{Exchanges, MAX};

    fn mac(n: usize) -> MacAddr {
        let [.., a, b, c] = n.to_be_bytes();
        MacAddr([2, 0, 0, a, b, c])
    }

    #[test]
    fn t8_an_exchange_counts_for_ten_minutes() {
        let exchanges = Exchanges::default();
        let (ours, other) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        exchanges.saw(mac(1), Some(ours), false, WallTime(0));
        assert!(exchanges.include(ours.into(), None, WallTime(599_999)));
        assert!(exchanges.include(other.into(), Some(mac(1)), WallTime(599_999)));
        assert!(!exchanges.include(other.into(), Some(mac(2)), WallTime(0)));
        assert!(!exchanges.include(ours.into(), Some(mac(1)), WallTime(600_000)));
    }

    #[test]
    fn t10_invented_addresses_do_not_push_out_known_machines() {
        let exchanges = Exchanges::default();
        let ours = Ipv4Addr::new(10, 0, 0, 1);
        exchanges.saw(mac(1), Some(ours), true, WallTime(0));
        for n in 2..3 * MAX {
            exchanges.saw(mac(n), None, false, WallTime(1));
        }
        assert!(exchanges.include(ours.into(), None, WallTime(1)));
        let inner = exchanges.inner.lock().unwrap();
        assert_eq!(
            (inner.strangers.seen.len(), inner.strangers.order.len()),
            (MAX, MAX)
        );
    }
}
