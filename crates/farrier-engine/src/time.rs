//! Calendar time as the domain sees it.

use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01 UTC.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct WallTime(pub i64);

impl WallTime {
    /// Time since `earlier`, zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl Add<Duration> for WallTime {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(rhs.as_millis()).unwrap_or(i64::MAX)),
        )
    }
}

impl Sub<Duration> for WallTime {
    type Output = Self;

    fn sub(self, rhs: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(i64::try_from(rhs.as_millis()).unwrap_or(i64::MAX)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_time_hold() {
        let second = Duration::from_secs(1);
        assert_eq!(WallTime(5) + second, WallTime(1005));
        assert_eq!(WallTime(5) - second, WallTime(-995));
        assert_eq!(WallTime(i64::MAX) + Duration::MAX, WallTime(i64::MAX));
        assert_eq!(WallTime(i64::MIN) - Duration::MAX, WallTime(i64::MIN));
        assert_eq!(WallTime(1500).since(WallTime(500)), second);
        assert_eq!(
            WallTime(0).since(WallTime(500)),
            Duration::ZERO,
            "a clock that was put back"
        );
    }
}
