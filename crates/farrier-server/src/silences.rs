//! What is awaited of each machine, so that its absence can be told.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use farrier_engine::WallTime;
use farrier_engine::silence::Awaited;
use farrier_engine::timeline::Entry;
use farrier_proto::MacAddr;

use crate::core::{Core, now};

/// Expectations by hardware address; bounded, and forgotten when told.
#[derive(Debug, Default)]
pub struct Silences {
    waiting: Mutex<HashMap<MacAddr, Expected>>,
}

#[derive(Clone, Copy, Debug)]
struct Expected {
    awaited: Awaited,
    since: WallTime,
    told: bool,
}

impl Silences {
    /// After an answer. The same expectation again keeps its first time: firmware that repeats its DHCPDISCOVER
    /// does not get on.
    pub fn expect(&self, mac: MacAddr, awaited: Awaited, now: WallTime) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let again = waiting.get(&mac).is_some_and(|before| {
            before.awaited == awaited && now.since(before.since) < awaited.patience() * 3
        });
        if !again && (waiting.len() < MAX || waiting.contains_key(&mac)) {
            let told = false;
            waiting.insert(
                mac,
                Expected {
                    awaited,
                    since: now,
                    told,
                },
            );
        }
    }

    /// Whatever was awaited came, or nothing is awaited any more.
    pub fn came(&self, mac: MacAddr) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.remove(&mac);
    }

    /// A file was asked for; the agent's own files are no sign of the agent yet.
    pub fn file_asked(&self, mac: MacAddr) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting
            .get(&mac)
            .is_some_and(|expected| expected.awaited != Awaited::Agent)
        {
            waiting.remove(&mac);
        }
    }

    /// What did not come in time, each once.
    #[must_use]
    pub fn overdue(&self, now: WallTime) -> Vec<(MacAddr, Awaited)> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut overdue = Vec::new();
        for (mac, expected) in waiting.iter_mut() {
            if !expected.told && now.since(expected.since) >= expected.awaited.patience() {
                expected.told = true;
                overdue.push((*mac, expected.awaited));
            }
        }
        waiting.retain(|_, expected| now.since(expected.since) < expected.awaited.patience() * 3);
        overdue
    }
}

/// Puts on the timelines what did not come.
pub fn tell(core: &Core) {
    let now = now();
    for (mac, awaited) in core.silences.overdue(now) {
        let machines = core.fleet.candidates(&[mac], None);
        let machine = match machines.as_slice() {
            [machine] => Some(machine.as_ref()),
            _ => None,
        };
        core.tell_of(mac, machine, |machine| {
            Entry::silence(machine, now, awaited)
        });
    }
}

/// More than a storm of ten thousand has under way at once.
const MAX: usize = 16_384;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use farrier_engine::WallTime;
    use farrier_engine::silence::Awaited;
    use farrier_proto::MacAddr;

    use super::{MAX, Silences};

    fn mac(n: usize) -> MacAddr {
        let [.., a, b, c] = n.to_be_bytes();
        MacAddr([2, 0, 0, a, b, c])
    }

    fn at(seconds: u64) -> WallTime {
        WallTime(0) + Duration::from_secs(seconds)
    }

    #[test]
    fn what_does_not_come_is_told_once_also_when_the_question_is_repeated() {
        let silences = Silences::default();
        silences.expect(mac(1), Awaited::Request, at(0));
        silences.expect(mac(1), Awaited::Request, at(4));
        assert!(silences.overdue(at(9)).is_empty());
        assert_eq!(silences.overdue(at(10)), [(mac(1), Awaited::Request)]);
        silences.expect(mac(1), Awaited::Request, at(12));
        assert!(silences.overdue(at(23)).is_empty());
    }

    #[test]
    fn what_comes_is_not_missed_and_the_next_step_is_awaited_anew() {
        let silences = Silences::default();
        silences.expect(mac(1), Awaited::Request, at(0));
        silences.expect(mac(1), Awaited::File, at(1));
        silences.came(mac(1));
        silences.expect(mac(2), Awaited::Loader, at(0));
        assert!(silences.overdue(at(59)).is_empty());
        assert_eq!(silences.overdue(at(60)), [(mac(2), Awaited::Loader)]);
    }

    #[test]
    fn t10_invented_addresses_fill_no_more_than_their_table() {
        let silences = Silences::default();
        for n in 0..2 * MAX {
            silences.expect(mac(n), Awaited::Request, at(0));
        }
        assert_eq!(silences.overdue(at(10)).len(), MAX);
        assert!(silences.overdue(at(31)).is_empty());
        silences.expect(mac(MAX + 1), Awaited::Request, at(31));
        assert_eq!(silences.overdue(at(41)).len(), 1);
    }
}
