//! How often each thing happened since the start.

use std::sync::atomic::{AtomicU64, Ordering};

use farrier_engine::Reason;

/// Counters of the boot plane.
#[derive(Debug)]
pub struct Counters {
    replies: AtomicU64,
    dropped: AtomicU64,
    ignored: [AtomicU64; Reason::ALL.len()],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            replies: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            ignored: Reason::ALL.map(|_| AtomicU64::new(0)),
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

    pub fn ignored(&self, reason: Reason) {
        if let Some(at) = Reason::ALL.iter().position(|r| *r == reason) {
            self.ignored[at].fetch_add(1, Ordering::Relaxed);
        }
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
