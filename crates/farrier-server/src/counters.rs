//! How often each thing happened since the start.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use farrier_engine::{Reason, WallTime};

/// Counters of the boot plane.
#[derive(Debug)]
pub struct Counters {
    replies: AtomicU64,
    dropped: AtomicU64,
    ignored: [AtomicU64; Reason::ALL.len()],
    /// When the log last told of each.
    told: [AtomicI64; Reason::ALL.len()],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            replies: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            ignored: Reason::ALL.map(|_| AtomicU64::new(0)),
            told: Reason::ALL.map(|_| AtomicI64::new(i64::MIN)),
        }
    }
}

impl Counters {
    pub fn replied(&self) {
        self.replies.fetch_add(1, Ordering::Relaxed);
    }

    /// Not even looked at: too many at once, or from outside our networks.
    pub fn dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a refusal. A shortage is told in the log, too, once a minute: a flood must not fill it.
    pub fn ignored(&self, reason: Reason, now: WallTime) {
        let Some(at) = Reason::ALL.iter().position(|r| *r == reason) else {
            return;
        };
        let count = self.ignored[at].fetch_add(1, Ordering::Relaxed) + 1;
        if reason.is_shortage() && self.is_news(at, now) {
            tracing::warn!(reason = reason.label(), count, "{}", reason.sentence());
        }
    }

    fn is_news(&self, at: usize, now: WallTime) -> bool {
        let told = self.told[at].load(Ordering::Relaxed);
        // A clock that was put back must not silence the log.
        let fresh = told != i64::MIN && told <= now.0 && now.since(WallTime(told)) < TOLD_EVERY;
        if !fresh {
            self.told[at].store(now.0, Ordering::Relaxed);
        }
        !fresh
    }

    /// Name and value of each, for the metrics page and the dashboard.
    #[must_use]
    pub fn values(&self) -> Vec<(&'static str, u64)> {
        let fixed = [("replies", &self.replies), ("dropped", &self.dropped)];
        let ignored = Reason::ALL.iter().map(|r| r.label()).zip(&self.ignored);
        fixed
            .into_iter()
            .chain(ignored)
            .map(|(name, value)| (name, value.load(Ordering::Relaxed)))
            .collect()
    }
}

const TOLD_EVERY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use farrier_engine::{Reason, WallTime};

    use super::Counters;

    #[test]
    fn a_shortage_is_told_once_a_minute_and_counted_always() {
        let counters = Counters::default();
        assert!(counters.is_news(3, WallTime(0)));
        assert!(!counters.is_news(3, WallTime(59_999)));
        assert!(counters.is_news(4, WallTime(59_999)), "another reason");
        assert!(counters.is_news(3, WallTime(60_000)));
        assert!(counters.is_news(3, WallTime(5)), "the clock was put back");
        for _ in 0..5 {
            counters.ignored(Reason::PoolExhausted, WallTime(0));
        }
        assert!(counters.values().contains(&("pool_exhausted", 5)));
    }
}
