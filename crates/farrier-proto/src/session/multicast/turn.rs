//! One client's turn: it acknowledges, and is waited for.

use std::net::SocketAddrV4;
use std::time::Duration;

use crate::Instant;

#[derive(Debug)]
pub(super) struct Turn {
    peer: SocketAddrV4,
    waiting: Waiting,
    /// When to send again; none once all retransmissions are spent.
    due: Option<Instant>,
    interval: Duration,
    left: u8,
    progress: Instant,
    /// The block it asks for has not left yet: others may still come.
    held: bool,
    /// It is likely to be there.
    expected: bool,
}

/// For what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// For its first ACK.
    Invited,
    /// For the ACK of the block after this one.
    After(u16),
}

impl Turn {
    pub(super) fn new(now: Instant, peer: SocketAddrV4, expected: bool) -> Self {
        Self {
            peer,
            waiting: Waiting::Invited,
            due: Some(now + FIRST_INTERVAL),
            interval: FIRST_INTERVAL,
            left: RETRANSMISSIONS,
            progress: now,
            held: false,
            expected,
        }
    }

    pub(super) fn peer(&self) -> SocketAddrV4 {
        self.peer
    }

    pub(super) fn waiting(&self) -> Waiting {
        self.waiting
    }

    pub(super) fn is_invited(&self) -> bool {
        self.waiting == Waiting::Invited
    }

    /// What it waits for must not leave yet.
    pub(super) fn is_held(&self) -> bool {
        self.held
    }

    /// The client has every block up to `block` that it needs. Whether that is news, or it asks again for what was
    /// sent for the last time.
    pub(super) fn asks_after(&mut self, now: Instant, opens: Instant, block: u16) -> bool {
        if let Waiting::After(old) = self.waiting {
            if block < old {
                return false;
            }
            if block == old {
                // Still there after our last retransmission.
                return self.due.is_none();
            }
        }
        self.waiting = Waiting::After(block);
        self.held = block == 0 && now < opens;
        self.progress = if self.held { opens } else { now };
        self.interval = FIRST_INTERVAL;
        self.left = RETRANSMISSIONS;
        let due = if self.held {
            opens
        } else {
            now + self.interval
        };
        self.due = Some(due);
        true
    }

    /// What it waits for leaves now, for the first time or again.
    pub(super) fn back_off(&mut self, now: Instant) {
        if self.held {
            self.held = false;
            self.due = Some(now + self.interval);
            return;
        }
        self.left = self.left.saturating_sub(1);
        self.interval *= 2;
        self.due = (self.left > 0).then(|| now + self.interval);
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// Nothing has come of it for so long that somebody else may have the turn who asks for it.
    pub(super) fn is_stuck(&self, now: Instant) -> bool {
        now.since(self.progress) >= STUCK
    }

    /// The turn has passed. With `others` waiting it passes sooner.
    pub(super) fn is_over(&self, now: Instant, others: bool) -> bool {
        self.ends(others) <= now
    }

    pub(super) fn wakes(&self, others: bool) -> Instant {
        let ends = self.ends(others);
        self.due.map_or(ends, |due| due.min(ends))
    }

    fn ends(&self, others: bool) -> Instant {
        let patience = match (others, self.waiting) {
            (false, _) => ALONE,
            (true, Waiting::Invited) if !self.expected => INVITED,
            (true, _) => AMONG_OTHERS,
        };
        self.progress + patience
    }
}

/// Twice what an emulated machine takes; doubled each time.
const FIRST_INTERVAL: Duration = Duration::from_millis(200);
/// At 0.2, 0.6 and 1.4 s.
const RETRANSMISSIONS: u8 = 3;
/// A client that has the whole file and went on to start it does not answer: a room full of them must not keep the
/// last one waiting.
const INVITED: Duration = Duration::from_millis(300);
const AMONG_OTHERS: Duration = Duration::from_millis(1500);
/// As with a single transfer.
const ALONE: Duration = Duration::from_secs(10);
const STUCK: Duration = Duration::from_secs(1);
