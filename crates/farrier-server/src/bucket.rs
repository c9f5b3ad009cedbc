//! What is used up and comes back with time: the measure behind every limit by rate.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};

use farrier_proto::Instant;

/// How much there is, and how fast it comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub size: u64,
    pub per_second: u64,
}

/// One measure, full at first.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    rate: Rate,
    left: u64,
    at: Instant,
}

impl Bucket {
    #[must_use]
    pub fn full(rate: Rate, now: Instant) -> Self {
        Self {
            rate,
            left: rate.size,
            at: now,
        }
    }

    /// What may be taken now.
    pub fn left(&mut self, now: Instant) -> u64 {
        let Rate { size, per_second } = self.rate;
        let elapsed = u64::try_from(now.since(self.at).as_millis()).unwrap_or(u64::MAX);
        let back = elapsed.saturating_mul(per_second) / 1000;
        if back > 0 {
            self.left = self.left.saturating_add(back).min(size);
            // What was too short for one more counts the next time.
            self.at.0 += back.saturating_mul(1000).div_ceil(per_second).min(elapsed);
        }
        self.left
    }

    /// Takes `amount`, down to nothing; ask [`Self::left`] first.
    pub fn take(&mut self, amount: u64) {
        self.left = self.left.saturating_sub(amount);
    }

    /// Puts back what turned out not to count.
    pub fn give_back(&mut self, amount: u64) {
        self.left = self.left.saturating_add(amount).min(self.rate.size);
    }
}

/// A measure for each of many, in a table of bounded size.
#[derive(Debug)]
pub struct Buckets<K> {
    rate: Rate,
    max: usize,
    of: HashMap<K, Bucket>,
}

impl<K: Eq + Hash + Copy> Buckets<K> {
    #[must_use]
    pub fn new(rate: Rate, max: usize) -> Self {
        Self {
            rate,
            max,
            of: HashMap::new(),
        }
    }

    /// The measure of `key`. A full table forgets those that are full, which changes nothing for them, and
    /// begins anew when that frees no place: there must be a wider limit behind this one.
    pub fn of(&mut self, key: K, now: Instant) -> &mut Bucket {
        if self.of.len() >= self.max && !self.of.contains_key(&key) {
            let size = self.rate.size;
            self.of.retain(|_, bucket| bucket.left(now) < size);
            if self.of.len() >= self.max {
                self.of.clear();
            }
        }
        self.of
            .entry(key)
            .or_insert_with(|| Bucket::full(self.rate, now))
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.of.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }
}

/// The network that an address is counted with: the 256 addresses around it; over IPv6 the network of 64 bits.
#[must_use]
pub fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => farrier_net::interface::network(ip, 24).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use farrier_proto::Instant;

    use super::{Bucket, Buckets, Rate};

    const RATE: Rate = Rate {
        size: 10,
        per_second: 2,
    };

    #[test]
    fn what_is_taken_comes_back_and_no_more() {
        let mut bucket = Bucket::full(RATE, Instant(0));
        bucket.take(10);
        assert_eq!(bucket.left(Instant(400)), 0);
        assert_eq!(bucket.left(Instant(500)), 1);
        for now in 500..1000 {
            bucket.left(Instant(now));
        }
        assert_eq!(bucket.left(Instant(1000)), 2, "small steps are not lost");
        assert_eq!(bucket.left(Instant(60_000)), 10);
        bucket.take(4);
        bucket.give_back(100);
        assert_eq!(bucket.left(Instant(60_000)), 10);
        bucket.take(1);
        assert_eq!(bucket.left(Instant(0)), 9, "a clock that goes back");
    }

    #[test]
    fn a_full_table_forgets_the_unused_first() {
        let mut buckets = Buckets::new(RATE, 3);
        for key in 0..3 {
            buckets.of(key, Instant(0));
        }
        buckets.of(1, Instant(0)).take(5);
        buckets.of(7, Instant(0));
        assert_eq!(buckets.len(), 2);
        assert_eq!(buckets.of(1, Instant(0)).left(Instant(0)), 5);
        for key in 10..10_000 {
            buckets.of(key, Instant(0)).take(1);
            assert!(buckets.len() <= 3);
        }
    }
}
