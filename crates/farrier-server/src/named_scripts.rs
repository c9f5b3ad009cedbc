//! Scripts that were promised to one loader under a name of their own.
//!
//! Whoever says a machine's hardware address is told what that machine shall do, but what starts its agent has a
//! one-time token in it. So iPXE is only told a name that nobody can guess; behind it the script is made when it is
//! fetched: once, soon, from the address it was told to, and while the task is there. Kept in memory: a name that a
//! restart forgot makes the loader ask again.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use farrier_engine::WallTime;
use farrier_engine::model::MachineId;
use farrier_engine::policy::AgentPurpose;
use farrier_proto::MacAddr;

use crate::hex::hex;

/// What is behind a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promised {
    pub machine: MachineId,
    /// The card it boots from.
    pub mac: MacAddr,
    pub purpose: AgentPurpose,
    /// Who was told the name.
    pub told: IpAddr,
}

/// Why there is nothing behind a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Gone {
    #[error("There is no script of this name.")]
    Unknown,
    /// Somebody else asks; the first time it is news.
    #[error("There is no script of this name.")]
    Elsewhere { machine: MachineId, first: bool },
    #[error("This script was fetched already and is good once: ask again for another.")]
    Spent { machine: MachineId, first: bool },
    #[error("This script is too old: ask again for another.")]
    Expired,
    #[error("This script is for work that is over: ask again for another.")]
    Over,
}

/// The names that were told of late.
#[derive(Debug, Default)]
pub struct NamedScripts(Mutex<Names>);

#[derive(Debug, Default)]
struct Names {
    held: HashMap<String, Held>,
    /// The same, oldest first.
    order: VecDeque<String>,
}

#[derive(Debug)]
struct Held {
    promised: Promised,
    expires: WallTime,
    spent: bool,
    /// Somebody was told of a request that came to nothing.
    warned: bool,
}

impl NamedScripts {
    /// A new name; none while there are too many, or no random numbers.
    pub fn name(&self, promised: Promised, now: WallTime) -> Option<String> {
        let mut bytes = [0; 16];
        aws_lc_rs::rand::fill(&mut bytes).ok()?;
        let name: String = hex(&bytes);
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.forget(now);
        if names.held.len() >= MAX_NAMES {
            return None;
        }
        names.order.push_back(name.clone());
        let held = Held {
            promised,
            expires: now + LIFE,
            spent: false,
            warned: false,
        };
        names.held.insert(name.clone(), held);
        Some(name)
    }

    /// Uses a name up.
    pub fn take(&self, name: &str, asker: IpAddr, now: WallTime) -> Result<Promised, Gone> {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held = names.held.get_mut(name).ok_or(Gone::Unknown)?;
        let machine = held.promised.machine;
        if held.promised.told != asker {
            let first = !std::mem::replace(&mut held.warned, true);
            return Err(Gone::Elsewhere { machine, first });
        }
        if held.spent {
            let first = !std::mem::replace(&mut held.warned, true);
            return Err(Gone::Spent { machine, first });
        }
        if held.expires <= now {
            return Err(Gone::Expired);
        }
        held.spent = true;
        Ok(held.promised)
    }
}

impl Names {
    /// What nobody can use any more is remembered for a while, to say so; not where room is needed.
    fn forget(&mut self, now: WallTime) {
        while let Some(name) = self.order.front() {
            let full = self.held.len() >= MAX_NAMES;
            let over = self.held.get(name).is_none_or(|held| {
                held.expires + TOLD <= now || (full && (held.spent || held.expires <= now))
            });
            if !over {
                return;
            }
            self.held.remove(name);
            self.order.pop_front();
        }
    }
}

/// The loader fetches it as its very next step.
const LIFE: Duration = Duration::from_secs(120);
/// How long it is told apart from a name that never was.
const TOLD: Duration = Duration::from_secs(600);
/// A boot storm's worth.
const MAX_NAMES: usize = 16384;

#[cfg(test)]
mod tests {
    use super::{Gone, LIFE, MAX_NAMES, NamedScripts, Promised, TOLD};
    use farrier_engine::WallTime;
    use farrier_engine::model::{MachineId, TaskId};
    use farrier_engine::policy::AgentPurpose;
    use std::net::IpAddr;
    use uuid::Uuid;

    const NOW: WallTime = WallTime(1_000_000);
    const OWN: &str = "10.0.0.9";

    fn promised(n: u128) -> Promised {
        Promised {
            machine: MachineId(Uuid::from_u128(n)),
            mac: "52:54:00:00:00:01".parse().unwrap(),
            purpose: AgentPurpose::Task(TaskId(Uuid::from_u128(n))),
            told: ip(OWN),
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn z16_a_name_is_good_once_for_who_was_told_it() {
        let names = NamedScripts::default();
        let (one, other) = (
            names.name(promised(1), NOW).unwrap(),
            names.name(promised(1), NOW).unwrap(),
        );
        assert_ne!(one, other, "the same machine and task, another name");
        assert_eq!(one.len(), 32);
        let machine = promised(1).machine;
        for first in [true, false] {
            let refused = Err(Gone::Elsewhere { machine, first });
            assert_eq!(names.take(&one, ip("10.0.0.8"), NOW), refused);
        }
        assert_eq!(names.take(&one, ip(OWN), NOW), Ok(promised(1)), "not spent");
        let spent = Err(Gone::Spent {
            machine,
            first: false,
        });
        assert_eq!(names.take(&one, ip(OWN), NOW), spent);
        assert_eq!(names.take(&other, ip(OWN), NOW), Ok(promised(1)));
        assert_eq!(names.take("", ip(OWN), NOW), Err(Gone::Unknown));
    }

    #[test]
    fn z16_a_name_expires_and_is_forgotten() {
        let names = NamedScripts::default();
        let name = names.name(promised(1), NOW).unwrap();
        let late = NOW + LIFE;
        assert_eq!(names.take(&name, ip(OWN), late), Err(Gone::Expired));
        names.name(promised(2), late + TOLD).unwrap();
        assert_eq!(names.take(&name, ip(OWN), late), Err(Gone::Unknown));
    }

    #[test]
    fn t9_so_many_names_are_kept_and_no_more() {
        let names = NamedScripts::default();
        let first = names.name(promised(1), NOW).unwrap();
        for _ in 1..MAX_NAMES {
            names.name(promised(1), NOW).unwrap();
        }
        assert_eq!(names.name(promised(2), NOW), None);
        names.take(&first, ip(OWN), NOW).unwrap();
        assert!(names.name(promised(2), NOW).is_some(), "a spent one goes");
        assert_eq!(names.name(promised(2), NOW), None);
        assert!(names.name(promised(2), NOW + LIFE).is_some());
    }
}
