//! What relay agents bring and take away, so that one that drops packets can be named.
//!
//! A relay that forwards requests but not our answers looks like dead machines: each asks again and again. From
//! here it looks like offers that nobody ever takes, from one `giaddr` only.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};

/// Counts for each relay agent; bounded, since a `giaddr` can be forged.
#[derive(Debug, Default)]
pub struct Relays {
    seen: Mutex<HashMap<Ipv4Addr, Traffic>>,
}

/// What came and went through one relay agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Offers sent to it.
    pub offers: u64,
    /// Requests that followed.
    pub requests: u64,
}

impl Traffic {
    /// Many offers and never a request: the way back is closed.
    #[must_use]
    pub fn is_one_way(self) -> bool {
        self.offers >= ENOUGH && self.requests == 0
    }
}

impl Relays {
    pub fn offered(&self, giaddr: Ipv4Addr) {
        self.count(giaddr, |traffic| traffic.offers += 1);
    }

    /// A DHCPREQUEST came, or a request on port 4011: an offer has arrived.
    pub fn requested(&self, giaddr: Ipv4Addr) {
        self.count(giaddr, |traffic| traffic.requests += 1);
    }

    fn count(&self, giaddr: Ipv4Addr, add: impl FnOnce(&mut Traffic)) {
        if giaddr.is_unspecified() {
            return;
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() < MAX || seen.contains_key(&giaddr) {
            add(seen.entry(giaddr).or_default());
        }
    }

    /// Each relay agent with its traffic since the start, by address.
    #[must_use]
    pub fn all(&self) -> Vec<(Ipv4Addr, Traffic)> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = seen
            .iter()
            .map(|(giaddr, traffic)| (*giaddr, *traffic))
            .collect();
        all.sort_unstable_by_key(|(giaddr, _)| *giaddr);
        all
    }
}

/// A machine that tries four times, or four machines.
const ENOUGH: u64 = 4;
const MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::{MAX, Relays};

    const RELAY: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);

    #[test]
    fn a_relay_is_one_way_when_offers_are_never_taken() {
        let relays = Relays::default();
        for _ in 0..3 {
            relays.offered(RELAY);
        }
        assert!(
            !relays.all()[0].1.is_one_way(),
            "one machine that was switched off"
        );
        relays.offered(RELAY);
        assert!(relays.all()[0].1.is_one_way());
        relays.requested(RELAY);
        assert!(!relays.all()[0].1.is_one_way());
    }

    #[test]
    fn t10_invented_relays_fill_no_more_than_their_table() {
        let relays = Relays::default();
        relays.offered(Ipv4Addr::UNSPECIFIED);
        for n in 1..=2 * u32::try_from(MAX).unwrap() {
            relays.offered(Ipv4Addr::from_bits(n));
        }
        assert_eq!(relays.all().len(), MAX);
    }
}
