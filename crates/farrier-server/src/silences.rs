//! What is awaited of each machine, so that its absence can be told.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use farrier_engine::WallTime;
use farrier_engine::silence::{Awaited, By};
use farrier_engine::timeline::Entry;
use farrier_proto::MacAddr;

use crate::core::{Core, now};

/// Expectations by hardware address and by what was asked; bounded, and forgotten when told.
#[derive(Debug, Default)]
pub struct Silences {
    waiting: Mutex<HashMap<Key, Expected>>,
}

type Key = (MacAddr, By);

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
        let key = (mac, awaited.by());
        let mut waiting = self.lock();
        for over in ends(awaited.by()) {
            waiting.remove(&(mac, *over));
        }
        let again = waiting.get(&key).is_some_and(|before| {
            before.awaited == awaited && now.since(before.since) < awaited.patience() * 3
        });
        if !again && (waiting.len() < MAX || waiting.contains_key(&key)) {
            let told = false;
            waiting.insert(
                key,
                Expected {
                    awaited,
                    since: now,
                    told,
                },
            );
        }
    }

    /// The answer was one after which nothing is awaited of who asked so.
    pub fn nothing(&self, mac: MacAddr, by: By) {
        let mut waiting = self.lock();
        waiting.remove(&(mac, by));
        for over in ends(by) {
            waiting.remove(&(mac, *over));
        }
    }

    /// Whatever was awaited came, or nothing is awaited any more.
    pub fn came(&self, mac: MacAddr) {
        self.nothing(mac, By::Fetching);
    }

    /// A file was asked for; the agent's own files are no sign of the agent yet.
    pub fn file_asked(&self, mac: MacAddr) {
        let mut waiting = self.lock();
        for by in [By::Dhcp, By::Dhcpv6, By::Fetching] {
            let expected = waiting.get(&(mac, by));
            if expected.is_some_and(|expected| expected.awaited != Awaited::Agent) {
                waiting.remove(&(mac, by));
            }
        }
    }

    /// Whether the machine was told by DHCP what to load, just now, and has not asked for it yet. Beside another DHCP
    /// server it may know that from our offer alone.
    #[must_use]
    pub fn awaits_file(&self, mac: MacAddr, now: WallTime) -> bool {
        let waiting = self.lock();
        waiting.get(&(mac, By::Dhcp)).is_some_and(|expected| {
            matches!(expected.awaited, Awaited::File | Awaited::Choice)
                && now.since(expected.since) < expected.awaited.patience()
        })
    }

    /// What did not come in time, each once.
    #[must_use]
    pub fn overdue(&self, now: WallTime) -> Vec<(MacAddr, Awaited)> {
        let mut waiting = self.lock();
        let mut overdue = Vec::new();
        for ((mac, _), expected) in waiting.iter_mut() {
            if !expected.told && now.since(expected.since) >= expected.awaited.patience() {
                expected.told = true;
                overdue.push((*mac, expected.awaited));
            }
        }
        waiting.retain(|_, expected| now.since(expected.since) < expected.awaited.patience() * 3);
        overdue
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Expected>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is over when a machine asks so: who asks for an address has left the program that ran before, and who runs a
/// program has all that it asked for by DHCP.
fn ends(by: By) -> &'static [By] {
    match by {
        By::Dhcp | By::Dhcpv6 => &[By::Fetching],
        By::Fetching => &[By::Dhcp, By::Dhcpv6],
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

/// More than a storm of ten thousand has under way at once, by DHCP and DHCPv6.
const MAX: usize = 32_768;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use farrier_engine::WallTime;
    use farrier_engine::silence::{Awaited, By};
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
    fn dhcp_and_dhcpv6_are_awaited_beside_each_other_and_end_together() {
        let both = [Awaited::Request, Awaited::Request6];
        let expect = |silences: &Silences, second| {
            for awaited in both {
                silences.expect(mac(1), awaited, at(second));
            }
        };
        let overdue = |silences: &Silences| {
            let mut overdue = silences.overdue(at(20));
            overdue.sort_by_key(|(_, awaited)| awaited.label());
            overdue
        };
        let silences = Silences::default();
        for second in [0, 1, 3, 7] {
            expect(&silences, second);
        }
        assert_eq!(overdue(&silences), both.map(|awaited| (mac(1), awaited)));

        let silences = Silences::default();
        expect(&silences, 0);
        silences.nothing(mac(1), By::Dhcpv6);
        assert_eq!(overdue(&silences), [(mac(1), Awaited::Request)]);

        let silences = Silences::default();
        expect(&silences, 0);
        silences.file_asked(mac(1));
        assert_eq!(overdue(&silences), []);
    }

    #[test]
    fn a_file_is_awaited_from_the_answer_until_it_is_asked_for_or_overdue() {
        let silences = Silences::default();
        assert!(!silences.awaits_file(mac(1), at(0)));
        silences.expect(mac(1), Awaited::Request, at(0));
        assert!(!silences.awaits_file(mac(1), at(0)), "it has only an offer");
        for told in [Awaited::Choice, Awaited::File] {
            silences.expect(mac(1), told, at(1));
            assert!(silences.awaits_file(mac(1), at(10)));
            assert!(!silences.awaits_file(mac(1), at(1) + told.patience()));
        }
        assert!(!silences.awaits_file(mac(2), at(10)));
        silences.file_asked(mac(1));
        assert!(!silences.awaits_file(mac(1), at(10)));
        silences.expect(mac(1), Awaited::Agent, at(2));
        assert!(!silences.awaits_file(mac(1), at(10)));
    }

    #[test]
    fn who_asks_by_dhcpv6_has_left_its_loader_and_who_fetched_a_loader_has_its_address() {
        let silences = Silences::default();
        silences.expect(mac(1), Awaited::Loader, at(0));
        silences.expect(mac(1), Awaited::Request6, at(0));
        assert_eq!(silences.overdue(at(60)), [(mac(1), Awaited::Request6)]);
        silences.expect(mac(2), Awaited::File6, at(0));
        silences.expect(mac(2), Awaited::Agent, at(0));
        silences.file_asked(mac(2));
        assert_eq!(silences.overdue(at(180)), [(mac(2), Awaited::Agent)]);
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
