//! How often somebody may guess a password.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use farrier_engine::WallTime;

/// Counts failures by address and by name in a table of fixed size. Two keys may share a row: a stranger
/// may then wait for another's failures, and nobody gets more guesses.
#[derive(Debug)]
pub struct SignInLimit {
    rows: Mutex<Vec<Row>>,
    /// Makes rows unpredictable, so that nobody can aim at another's.
    key: [u8; 32],
}

#[derive(Clone, Copy, Debug, Default)]
struct Row {
    failures: u32,
    since: WallTime,
}

impl SignInLimit {
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Self {
            rows: Mutex::new(vec![Row::default(); ROWS]),
            key,
        }
    }

    /// Whether `name` may be tried from `from` now; if not, how long to wait.
    pub fn check(&self, now: WallTime, from: Option<IpAddr>, name: &str) -> Result<(), Duration> {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, most) in self.places(from, name) {
            let row = rows[index];
            let age = now.since(row.since);
            if row.failures >= most && age < WINDOW {
                return Err(WINDOW - age);
            }
        }
        Ok(())
    }

    /// Notes a wrong password.
    pub fn failed(&self, now: WallTime, from: Option<IpAddr>, name: &str) {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, _) in self.places(from, name) {
            let row = &mut rows[index];
            if row.failures == 0 || now.since(row.since) >= WINDOW {
                *row = Row {
                    failures: 0,
                    since: now,
                };
            }
            row.failures = row.failures.saturating_add(1);
        }
    }

    fn places(&self, from: Option<IpAddr>, name: &str) -> [(usize, u32); 2] {
        // An IPv6 host owns a whole /64 at least.
        let from = match from {
            Some(IpAddr::V6(v6)) => format!("6{:x}", v6.to_bits() >> 64),
            Some(IpAddr::V4(v4)) => format!("4{v4}"),
            None => "local".to_owned(),
        };
        [
            (self.row(&from), FROM_ONE_ADDRESS),
            (self.row(&format!("name {name}")), FOR_ONE_NAME),
        ]
    }

    fn row(&self, text: &str) -> usize {
        let hash = blake3::keyed_hash(&self.key, text.as_bytes());
        let [a, b, ..] = *hash.as_bytes();
        usize::from(u16::from_be_bytes([a, b])) % ROWS
    }
}

const ROWS: usize = 8192;
const WINDOW: Duration = Duration::from_secs(15 * 60);
const FROM_ONE_ADDRESS: u32 = 10;
/// Higher, so that a stranger cannot easily keep somebody from signing in elsewhere.
const FOR_ONE_NAME: u32 = 50;

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;

    use farrier_engine::WallTime;

    use super::{FOR_ONE_NAME, FROM_ONE_ADDRESS, SignInLimit, WINDOW};

    const NOW: WallTime = WallTime(1_000_000_000_000);

    fn address(last: u8) -> Option<IpAddr> {
        Some(Ipv4Addr::new(192, 0, 2, last).into())
    }

    #[test]
    fn one_address_gets_ten_guesses_and_then_waits() {
        let limit = SignInLimit::new([7; 32]);
        for n in 0..FROM_ONE_ADDRESS {
            assert_eq!(limit.check(NOW, address(1), &format!("user{n}")), Ok(()));
            limit.failed(NOW, address(1), &format!("user{n}"));
        }
        assert_eq!(limit.check(NOW, address(1), "other"), Err(WINDOW));
        assert_eq!(limit.check(NOW, address(2), "other"), Ok(()));
        assert_eq!(limit.check(NOW + WINDOW, address(1), "other"), Ok(()));
    }

    #[test]
    fn one_name_is_guarded_against_many_addresses() {
        let limit = SignInLimit::new([7; 32]);
        for n in 0..FOR_ONE_NAME {
            limit.failed(NOW, address(u8::try_from(n).unwrap()), "admin");
        }
        let later = NOW + Duration::from_secs(60);
        assert!(limit.check(later, address(200), "admin").is_err());
        assert_eq!(limit.check(later, address(200), "somebody"), Ok(()));
    }
}
