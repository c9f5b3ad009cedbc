//! In which way firmware is told what to boot, and which way is tried next when it does not act on it.
//!
//! Firmware differs in which offers it understands, and an offer that is not understood looks like one that was
//! lost. So a way is given up only after several offers over some time, and one that has worked before only after
//! about two boots. What brought a loader is remembered with the machine.
//!
//! | | what is sent | understood by |
//! |---|---|---|
//! | A | an offer beside the other server's, whose file is final (43.6 = 8) | BIOS ROMs |
//! | B | the same without option 43: the client asks port 4011 | most UEFI |
//! | C | A, to UEFI | edk2 without the bug of an uncached offer (edk2#6944) |
//! | D | one offer with address and file | firmware that ignores a second offer |

use std::fmt;
use std::time::Duration;

use farrier_proto::reply::BootStyle;
use serde::{Deserialize, Serialize};

use crate::WallTime;
use crate::facts::{BootFacts, Protocol, Stage};
use crate::model::FirmwareKind;

/// A way to announce a boot file (`docs/concepts/booting.md`, section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    A,
    B,
    C,
    D,
}

/// What people set: one way for good, or whatever turns out to work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StrategyChoice {
    Auto,
    A,
    B,
    C,
    D,
}

/// What we may do on the network that a request came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// We are its DHCP server.
    Server,
    /// Another server lends the addresses.
    Beside,
    /// The same, but some addresses are left to us.
    BesideWithPool,
}

/// What brought a loader to a machine's firmware, for its next boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Learned {
    pub strategy: Strategy,
    /// One machine has several kinds of firmware when its boot mode is changed; each has its own habits.
    pub firmware: Option<FirmwareKind>,
    pub since: WallTime,
}

/// What the choice rests on.
#[derive(Clone, Copy, Debug)]
pub struct Given {
    /// What can be tried, the most likely first.
    pub order: &'static [Strategy],
    pub pinned: Option<Strategy>,
    pub learned: Option<Strategy>,
}

/// The offers that a machine got in one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trial {
    pub strategy: Strategy,
    /// Offers since the machine last got on.
    unanswered: u16,
    first: WallTime,
    last: WallTime,
    worked: bool,
}

/// Another way is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub from: Strategy,
    pub to: Strategy,
    /// Offers that led to nothing.
    pub offers: u16,
    pub over: Duration,
}

/// So many offers without a sign, over at least [`PATIENCE`], and the way is given up: firmware asks again after 4,
/// 12 and 30 s, so the fourth question of the same boot is answered in another way.
pub const OFFERS: u16 = 3;
pub const PATIENCE: Duration = Duration::from_secs(10);
/// The same for a way that has worked, which are two whole boots: a fifth of all packets may be lost for a while.
pub const OFFERS_PROVEN: u16 = 8;
pub const PATIENCE_PROVEN: Duration = Duration::from_secs(60);
/// Two questions within this are one: the network doubled it, or a relay did.
const TOGETHER: Duration = Duration::from_secs(2);
/// What was tried so long ago does not count any more.
const FORGOTTEN: Duration = Duration::from_secs(30 * 60);

impl Strategy {
    /// How this way is written.
    #[must_use]
    pub fn style(self, facts: &BootFacts, standing: Standing) -> BootStyle {
        match (&facts.stage, facts.protocol, self) {
            (Stage::Ipxe { .. }, ..) if standing == Standing::Server => BootStyle::Ipxe {
                no_proxy_wait: true,
            },
            (Stage::Ipxe { .. }, ..) => BootStyle::PxeFinal,
            (_, Protocol::Http, _) => BootStyle::HttpUrl,
            (_, Protocol::PlainDhcp | Protocol::Bootp | Protocol::Script, _) => BootStyle::Plain,
            // Without option 60 nobody insists on port 4011 (`firmware.md` T1).
            (.., Self::D) if standing == Standing::Server => BootStyle::Plain,
            (.., Self::B) => BootStyle::AskPort4011,
            // Beside another server's offer, edk2 ranks ours first only with option 60.
            (.., Self::A | Self::C | Self::D) => BootStyle::PxeFinal,
        }
    }

    /// What it does, as a clause.
    #[must_use]
    pub const fn clause(self) -> &'static str {
        match self {
            Self::A | Self::C => "an offer whose file is final",
            Self::B => "an offer that sends it to port 4011",
            Self::D => "one offer with address and file",
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "A",
            Self::B => "B",
            Self::C => "C",
            Self::D => "D",
        })
    }
}

impl StrategyChoice {
    /// The one that is set for good.
    #[must_use]
    pub const fn pinned(self) -> Option<Strategy> {
        match self {
            Self::Auto => None,
            Self::A => Some(Strategy::A),
            Self::B => Some(Strategy::B),
            Self::C => Some(Strategy::C),
            Self::D => Some(Strategy::D),
        }
    }
}

/// The order in which ways are tried for such a client.
#[must_use]
pub fn order(facts: &BootFacts, standing: Standing) -> &'static [Strategy] {
    use Standing::{Beside, BesideWithPool, Server};
    use Strategy::{A, B, C, D};
    let is_pxe = facts.stage == Stage::Firmware && facts.protocol == Protocol::Pxe;
    let is_uefi = facts.firmware == Some(FirmwareKind::Uefi);
    match (standing, is_pxe, is_uefi) {
        (Server, true, true) => &[D, C, B],
        (Server, true, false) => &[D, A, B],
        (Server, false, _) => &[D],
        (Beside, true, true) => &[B, C],
        (Beside, true, false) => &[A, B],
        (Beside, false, _) => &[A],
        (BesideWithPool, true, true) => &[B, C, D],
        (BesideWithPool, true, false) => &[A, B, D],
        (BesideWithPool, false, _) if facts.stage == Stage::Firmware => &[A, D],
        (BesideWithPool, false, _) => &[A],
    }
}

impl Given {
    /// What is used when nothing was tried lately.
    fn first(&self) -> Strategy {
        let can = |strategy: &Strategy| self.order.contains(strategy);
        let learned = || self.learned.filter(can);
        let wished = self.pinned.filter(can).or_else(learned);
        wished.unwrap_or_else(|| self.order.first().copied().unwrap_or(Strategy::D))
    }

    fn is_pinned(&self) -> bool {
        self.pinned
            .is_some_and(|pinned| self.order.contains(&pinned))
    }

    fn after(&self, strategy: Strategy) -> Option<Strategy> {
        let at = self.order.iter().position(|other| *other == strategy)?;
        let next = self.order[(at + 1) % self.order.len()];
        (next != strategy).then_some(next)
    }

    /// What an answer that is no offer goes by.
    #[must_use]
    pub fn current(&self, trial: Option<&Trial>, now: WallTime) -> Strategy {
        trial
            .filter(|trial| self.goes_on(trial, now))
            .map_or_else(|| self.first(), |trial| trial.strategy)
    }

    /// How to offer now, and whether that is another way than before.
    #[must_use]
    pub fn offer(&self, trial: Option<Trial>, now: WallTime) -> (Trial, Option<Change>) {
        let Some(mut trial) = trial.filter(|trial| self.goes_on(trial, now)) else {
            return (Trial::begin(self.first(), now), None);
        };
        if trial.unanswered > 0 && now.since(trial.last) < TOGETHER {
            return (trial, None);
        }
        if trial.unanswered == 0 {
            trial.first = now;
        }
        let over = now.since(trial.first);
        let trusted = trial.worked || self.learned == Some(trial.strategy);
        let (offers, patience) = if trusted {
            (OFFERS_PROVEN, PATIENCE_PROVEN)
        } else {
            (OFFERS, PATIENCE)
        };
        let failed = !self.is_pinned() && trial.unanswered >= offers && over >= patience;
        if let Some(to) = self.after(trial.strategy).filter(|_| failed) {
            let change = Change {
                from: trial.strategy,
                to,
                offers: trial.unanswered,
                over,
            };
            return (Trial::begin(to, now), Some(change));
        }
        trial.unanswered = trial.unanswered.saturating_add(1);
        trial.last = now;
        (trial, None)
    }

    /// Whether what was tried before still says something. A clock that was put back says nothing.
    fn goes_on(&self, trial: &Trial, now: WallTime) -> bool {
        let is_recent = now >= trial.last && now.since(trial.last) < FORGOTTEN;
        let is_allowed = match self.is_pinned() {
            true => self.pinned == Some(trial.strategy),
            false => self.order.contains(&trial.strategy),
        };
        is_recent && is_allowed
    }
}

impl Trial {
    fn begin(strategy: Strategy, now: WallTime) -> Self {
        Self {
            strategy,
            unanswered: 1,
            first: now,
            last: now,
            worked: false,
        }
    }

    /// The machine took the offer: it asked us for the address, or port 4011 for the file.
    pub fn went_on(&mut self, now: WallTime) {
        self.unanswered = 0;
        self.last = self.last.max(now);
    }

    /// It asked for the file, or runs the loader.
    pub fn fetched(&mut self, now: WallTime) {
        self.went_on(now);
        self.worked = true;
    }

    /// Whether it brought a file to the machine.
    #[must_use]
    pub const fn worked(&self) -> bool {
        self.worked
    }
}

#[cfg(test)]
mod tests;
