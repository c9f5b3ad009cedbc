//! When to send again, and when to give up.

use std::time::Duration;

use crate::Instant;

/// The one timer of a transfer.
#[derive(Debug)]
pub(super) struct Retransmission {
    /// When to send again; none once all retransmissions are spent.
    due: Option<Instant>,
    interval: Duration,
    left: u32,
    factor: u32,
    gives_up: Instant,
    /// The interval the client asked for (RFC 2349), which then binds; else the operator's, if there is one.
    negotiated: Option<Duration>,
    /// When the window now on its way left, unless part of it had been sent before (Karn).
    measuring_since: Option<Instant>,
    smoothed_rtt: Option<Duration>,
}

/// The first retransmission on a short path.
const MIN_INTERVAL: Duration = Duration::from_millis(40);
/// Growing stops here.
const MAX_INTERVAL: Duration = Duration::from_secs(1);
/// Clients open files, draw progress bars and clear memory before their first ACK. The few packets they
/// may get until then are spread over that: at 0, 0.1, 0.5 and 1.5 s.
const OPENING_INTERVAL: Duration = Duration::from_millis(100);
const OPENING_FACTOR: u32 = 4;
const SENDING_FACTOR: u32 = 2;

const OPENING_RETRANSMISSIONS: u32 = 3;
const SENDING_RETRANSMISSIONS: u32 = 5;

/// Silence after which a transfer is over, counted from the last progress.
const OPENING_PATIENCE: Duration = Duration::from_secs(5);
/// The same where only the client repeats itself, which tftp-hpa and atftp do every 5 s.
const REPEATS_PATIENCE: Duration = Duration::from_secs(12);
const SENDING_PATIENCE: Duration = Duration::from_secs(10);
/// Whatever `timeout` a client negotiates, its state is freed by then.
const MAX_PATIENCE: Duration = Duration::from_secs(45);

impl Retransmission {
    /// Until the first ACK, when all that is sent again is what the client asks for again.
    pub(super) fn awaiting_repeats(now: Instant, timeout_s: Option<u8>) -> Self {
        Self {
            due: None,
            left: 0,
            gives_up: now + REPEATS_PATIENCE,
            ..Self::opening(now, timeout_s)
        }
    }

    /// Until the first ACK.
    pub(super) fn opening(now: Instant, timeout_s: Option<u8>) -> Self {
        let negotiated = timeout_s.map(|seconds| Duration::from_secs(u64::from(seconds)));
        let interval = negotiated.unwrap_or(OPENING_INTERVAL);
        Self {
            due: Some(now + interval),
            interval,
            left: OPENING_RETRANSMISSIONS,
            factor: OPENING_FACTOR,
            gives_up: now + patience(OPENING_PATIENCE, OPENING_RETRANSMISSIONS, negotiated),
            negotiated,
            measuring_since: Some(now),
            smoothed_rtt: None,
        }
    }

    /// New blocks have arrived and the next window leaves now. `measurable` says that what arrived was
    /// sent only once, `fresh` that the next window holds nothing sent before.
    pub(super) fn progress(&mut self, now: Instant, measurable: bool, fresh: bool) {
        if let Some(since) = self.measuring_since.filter(|_| measurable) {
            let sample = now.since(since);
            let smoothed = self
                .smoothed_rtt
                .map_or(sample, |old| (old * 7 + sample) / 8);
            self.smoothed_rtt = Some(smoothed);
        }
        self.measuring_since = fresh.then_some(now);
        self.interval = self.negotiated.unwrap_or_else(|| self.measured_interval());
        self.due = Some(now + self.interval);
        self.left = SENDING_RETRANSMISSIONS;
        self.factor = SENDING_FACTOR;
        self.gives_up = now + patience(SENDING_PATIENCE, SENDING_RETRANSMISSIONS, self.negotiated);
    }

    /// A retransmission leaves now.
    pub(super) fn back_off(&mut self, now: Instant) {
        self.measuring_since = None;
        self.left = self.left.saturating_sub(1);
        if self.negotiated.is_none() {
            self.interval = (self.interval * self.factor).min(MAX_INTERVAL);
        }
        self.due = (self.left > 0).then(|| now + self.interval);
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// No retransmission is left; what happens now is up to the client.
    pub(super) fn is_spent(&self) -> bool {
        self.due.is_none()
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.gives_up <= now
    }

    pub(super) fn wakes(&self) -> Instant {
        self.due.map_or(self.gives_up, |due| due.min(self.gives_up))
    }

    fn measured_interval(&self) -> Duration {
        (self.smoothed_rtt.unwrap_or_default() * 4).clamp(MIN_INTERVAL, MAX_INTERVAL)
    }
}

/// At least `usual`, and long enough for all retransmissions at the negotiated interval.
fn patience(usual: Duration, retransmissions: u32, negotiated: Option<Duration>) -> Duration {
    let needed = negotiated.unwrap_or_default() * (retransmissions + 1);
    usual.max(needed).min(MAX_PATIENCE)
}
