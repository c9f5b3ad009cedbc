//! Which way of offering each machine is being tried with; what worked is stored with the machine.
//!
//! Kept by hardware address and bounded. Known machines have a share of their own, so that invented ones cannot
//! make us forget what was tried with them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use farrier_engine::WallTime;
use farrier_engine::strategy::{Change, Given, Strategy, Trial};
use farrier_proto::MacAddr;

use crate::notes::Notes;

#[derive(Debug, Default)]
pub struct Strategies {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    known: Notes<MacAddr, Trial>,
    strangers: Notes<MacAddr, Trial>,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            known: Notes::new(MAX, KEPT),
            strangers: Notes::new(MAX, KEPT),
        }
    }
}

impl Strategies {
    /// How to offer now, and whether that is another way than before.
    pub fn offer(
        &self,
        mac: MacAddr,
        known: bool,
        given: &Given,
        now: WallTime,
    ) -> (Strategy, Option<Change>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        // A stranger becomes a machine in the midst of its boot.
        let before = match known {
            true => inner.known.get(&mac),
            false => None,
        };
        let before = before.or_else(|| inner.strangers.get(&mac));
        let (trial, change) = given.offer(before.map(|note| note.what), now);
        let table = match known {
            true => &mut inner.known,
            false => &mut inner.strangers,
        };
        table.put(mac, trial, now);
        (trial.strategy, change)
    }

    /// What an answer that is no offer goes by.
    #[must_use]
    pub fn current(&self, mac: MacAddr, given: &Given, now: WallTime) -> Strategy {
        given.current(self.trial(mac).as_ref(), now)
    }

    /// The machine took an offer.
    pub fn went_on(&self, mac: MacAddr, now: WallTime) {
        self.change(mac, |trial| trial.went_on(now));
    }

    /// The machine asks for a file or runs a loader, so the way it was offered in works.
    pub fn fetched(&self, mac: MacAddr, now: WallTime) {
        self.change(mac, |trial| trial.fetched(now));
    }

    /// What has worked lately.
    #[must_use]
    pub fn worked(&self, mac: MacAddr) -> Option<Strategy> {
        let trial = self.trial(mac).filter(Trial::worked)?;
        Some(trial.strategy)
    }

    /// Somebody wants it found out anew.
    pub fn forget(&self, macs: &[MacAddr]) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        for mac in macs {
            inner.known.remove(mac);
            inner.strangers.remove(mac);
        }
    }

    fn trial(&self, mac: MacAddr) -> Option<Trial> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let stranger = || inner.strangers.get(&mac);
        let note = inner.known.get(&mac).or_else(stranger);
        note.map(|note| note.what)
    }

    fn change(&self, mac: MacAddr, change: impl Fn(&mut Trial)) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.known.amend(&mac, &change);
        inner.strangers.amend(&mac, &change);
    }
}

/// More than a storm of ten thousand machines.
const MAX: usize = 16_384;
/// Under pressure only those that asked within this are kept.
const KEPT: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use farrier_engine::WallTime;
    use farrier_engine::strategy::{Given, Strategy};
    use farrier_proto::MacAddr;

    use super::{MAX, Strategies};

    const GIVEN: Given = Given {
        order: &[Strategy::B, Strategy::C],
        pinned: None,
        learned: None,
    };

    fn mac(n: usize) -> MacAddr {
        let [.., a, b, c] = n.to_be_bytes();
        MacAddr([2, 0, 0, a, b, c])
    }

    fn at(seconds: u64) -> WallTime {
        WallTime(1_000_000) + Duration::from_secs(seconds)
    }

    fn asks(strategies: &Strategies, n: usize, known: bool, seconds: &[u64]) -> Strategy {
        let asked = seconds
            .iter()
            .map(|s| strategies.offer(mac(n), known, &GIVEN, at(*s)).0);
        asked.last().unwrap()
    }

    #[test]
    fn z4_what_was_tried_goes_on_when_a_stranger_becomes_a_machine() {
        let strategies = Strategies::default();
        assert_eq!(asks(&strategies, 1, false, &[0, 4, 12]), Strategy::B);
        assert_eq!(asks(&strategies, 1, true, &[30]), Strategy::C);
        assert_eq!(strategies.worked(mac(1)), None);
        strategies.fetched(mac(1), at(31));
        assert_eq!(strategies.worked(mac(1)), Some(Strategy::C));
        strategies.forget(&[mac(1)]);
        assert_eq!(asks(&strategies, 1, true, &[40]), Strategy::B);
    }

    #[test]
    fn t10_invented_addresses_do_not_push_out_known_machines() {
        let strategies = Strategies::default();
        asks(&strategies, 1, true, &[0, 4, 12]);
        for n in 2..2 * MAX {
            strategies.offer(mac(n), false, &GIVEN, at(13));
        }
        let strangers = strategies.inner.lock().unwrap().strangers.all().count();
        assert_eq!(strangers, MAX);
        assert_eq!(asks(&strategies, 1, true, &[30]), Strategy::C);
        // Later ones take the places of those that went away.
        strategies.offer(mac(3 * MAX), false, &GIVEN, at(300));
        assert_eq!(strategies.inner.lock().unwrap().strangers.all().count(), 1);
    }
}
