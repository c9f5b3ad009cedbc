//! Boot programs that wait for an IPv6 router where there is none.
//!
//! iPXE asks over IPv4 and IPv6 side by side and goes on when both have come to an end: without a router some 13 s
//! after it knew over IPv4 what to load (`firmware.md` T8). It solicits 0, 0.25, 0.8, 1.85, 3.9 and 8 s after its
//! start, and any advertisement ends the wait, one that says that there is nothing too.

use std::collections::HashMap;
use std::time::Duration;

use farrier_proto::MacAddr;

use crate::WallTime;

/// What was heard on one link.
#[derive(Debug, Default)]
pub struct RouterWaits {
    /// When somebody advertised.
    router: Option<WallTime>,
    waiting: HashMap<MacAddr, Wait>,
    swept: Option<WallTime>,
}

/// A machine that solicits routers.
#[derive(Clone, Copy, Debug)]
struct Wait {
    since: WallTime,
    last: WallTime,
    /// How often it was told that there is none.
    told: u8,
}

/// What to do about a solicitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Solicited {
    /// Nothing: there is a router, or it may still answer.
    Leave,
    /// The first of a start: ask for routers as well, since one may answer only who asks.
    AskToo,
    /// Tell it that there is none.
    Tell { again: bool },
}

impl RouterWaits {
    /// Somebody advertises a router, a network or DHCPv6.
    pub fn advertised(&mut self, now: WallTime) {
        self.router = Some(now);
    }

    /// A machine solicits routers; `boots` is whether it waits for nothing else. It is told that there is none where
    /// nobody advertises, and a router would have answered it by now.
    pub fn solicited(&mut self, mac: MacAddr, boots: bool, now: WallTime) -> Solicited {
        let advertised = self
            .router
            .is_some_and(|heard| now.since(heard) < ADVERTISED_AGAIN_WITHIN);
        if advertised || !self.has_room(mac, now) {
            return Solicited::Leave;
        }
        let start = Wait {
            since: now,
            last: now,
            told: 0,
        };
        let known = self.waiting.get(&mac).copied();
        let Some(mut wait) = known.filter(|wait| now.since(wait.last) < NEXT_WITHIN) else {
            self.waiting.insert(mac, start);
            return Solicited::AskToo;
        };
        wait.last = now;
        let told = wait.told;
        let tell = boots && now.since(wait.since) >= ANSWERED_WITHIN && told < MAX_TOLD;
        if tell {
            wait.told += 1;
        }
        self.waiting.insert(mac, wait);
        match tell {
            true => Solicited::Tell { again: told > 0 },
            false => Solicited::Leave,
        }
    }

    fn has_room(&mut self, mac: MacAddr, now: WallTime) -> bool {
        if self.waiting.len() < MAX || self.waiting.contains_key(&mac) {
            return true;
        }
        // A flood must not cost a walk through the table for each of its packets.
        if self.swept.is_some_and(|at| now.since(at) < SWEEP_EACH) {
            return false;
        }
        self.swept = Some(now);
        self.waiting
            .retain(|_, wait| now.since(wait.last) < NEXT_WITHIN);
        self.waiting.len() < MAX
    }
}

/// A router answers after half a second at most (MAX_RA_DELAY_TIME of RFC 4861 section 10). Twice that, for busy ones.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);
/// It advertises itself unasked every half an hour, as a rule (section 6.2.1). Twice that, since one may get lost.
const ADVERTISED_AGAIN_WITHIN: Duration = Duration::from_hours(1);
/// iPXE solicits again after 4.1 s at most. After more than this it was started anew.
const NEXT_WITHIN: Duration = Duration::from_secs(5);
/// One may get lost, and so may the next.
const MAX_TOLD: u8 = 3;
const SWEEP_EACH: Duration = Duration::from_secs(1);
/// More than a link has at the same time.
const MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    /// Of one start of iPXE, in milliseconds.
    const SOLICITATIONS: [u64; 6] = [0, 250, 800, 1850, 3900, 8000];
    const FIRST: Solicited = Solicited::Tell { again: false };
    const AGAIN: Solicited = Solicited::Tell { again: true };

    fn at(milliseconds: u64) -> WallTime {
        WallTime(1_000_000_000) + Duration::from_millis(milliseconds)
    }

    /// What is done in a start at `start`, in which DHCP is over after so many milliseconds.
    fn done(waits: &mut RouterWaits, start: u64, dhcp: u64) -> [Solicited; 6] {
        SOLICITATIONS.map(|after| waits.solicited(MAC, after >= dhcp, at(start + after)))
    }

    #[test]
    fn t8_a_router_has_a_second_to_answer_in_each_start() {
        use Solicited::{AskToo, Leave};
        let mut waits = RouterWaits::default();
        let expected = [AskToo, Leave, Leave, FIRST, AGAIN, AGAIN];
        assert_eq!(done(&mut waits, 0, 0), expected);
        // By a reset, and by the next loader.
        assert_eq!(done(&mut waits, 14_000, 0), expected);
        // Another machine has its own time.
        let other = MacAddr([2, 0, 0, 0, 0, 2]);
        assert_eq!(waits.solicited(other, true, at(23_000)), AskToo);
    }

    #[test]
    fn t8_only_who_waits_for_nothing_else_is_told_and_three_times_at_most() {
        use Solicited::{AskToo, Leave};
        let mut waits = RouterWaits::default();
        let late = [AskToo, Leave, Leave, Leave, FIRST, AGAIN];
        assert_eq!(done(&mut waits, 0, 3000), late);
        let never = [AskToo, Leave, Leave, Leave, Leave, Leave];
        assert_eq!(done(&mut waits, 20_000, 60_000), never);
        assert_eq!(done(&mut waits, 40_000, 0)[5], AGAIN);
        let more = (0..100).map(|n| waits.solicited(MAC, true, at(48_100 + n)));
        assert_eq!(more.filter(|done| *done != Leave).count(), 0);
    }

    #[test]
    fn t8_where_somebody_advertises_nobody_is_told_that_there_is_nothing() {
        let mut waits = RouterWaits::default();
        waits.advertised(at(0));
        for start in [0, 3_500_000] {
            assert_eq!(done(&mut waits, start, 0), [Solicited::Leave; 6]);
        }
        // It was taken away.
        assert_eq!(done(&mut waits, 3_700_000, 0)[3], FIRST);
        // It answers us.
        assert_eq!(waits.solicited(MAC, true, at(3_800_000)), Solicited::AskToo);
        waits.advertised(at(3_800_001));
        assert_eq!(waits.solicited(MAC, true, at(3_801_850)), Solicited::Leave);
    }

    #[test]
    fn what_is_kept_is_bounded_and_makes_room() {
        let mut waits = RouterWaits::default();
        let mac = |n: usize| {
            let [.., a, b, c] = n.to_be_bytes();
            MacAddr([2, 0, 0, a, b, c])
        };
        for n in 0..2 * MAX {
            waits.solicited(mac(n), true, at(0));
        }
        assert_eq!(waits.waiting.len(), MAX);
        assert_eq!(waits.solicited(mac(7), true, at(2000)), FIRST);
        assert_eq!(waits.solicited(mac(MAX), true, at(4000)), Solicited::Leave);
        assert_eq!(waits.solicited(mac(MAX), true, at(4900)), Solicited::Leave);
        assert_eq!(
            waits.swept,
            Some(at(4000)),
            "once a second, however many ask"
        );
        assert_eq!(waits.solicited(mac(MAX), true, at(5000)), Solicited::AskToo);
    }
}
