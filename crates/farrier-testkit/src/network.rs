//! A network that loses, doubles and reorders, on a virtual clock and from a seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::random::Random;

/// What the network does to a packet, in thousandths, and how long it takes at most.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub lost: u64,
    pub doubled: u64,
    pub max_delay_ms: u64,
}

/// Everything arrives at once.
pub const CALM: Weather = Weather {
    lost: 0,
    doubled: 0,
    max_delay_ms: 0,
};

/// Time of arrival, order of sending, addressee, bytes.
type InFlight<A> = (u64, u64, A, Vec<u8>);

/// Packets under way to addressees of type `A`. Those that arrive together do so in the order of sending.
#[derive(Debug)]
pub struct Network<A> {
    weather: Weather,
    random: Random,
    in_flight: BinaryHeap<Reverse<InFlight<A>>>,
    carried: u64,
}

impl<A: Copy + Ord> Network<A> {
    #[must_use]
    pub fn new(weather: Weather, seed: u64) -> Self {
        Self {
            weather,
            random: Random::new(seed),
            in_flight: BinaryHeap::new(),
            carried: 0,
        }
    }

    /// Takes a packet at `now`, in milliseconds.
    pub fn send(&mut self, now: u64, to: A, bytes: &[u8]) {
        let copies = 1 + u64::from(self.random.chance(self.weather.doubled));
        for _ in 0..copies {
            self.carried += 1;
            if !self.random.chance(self.weather.lost) {
                let arrives = now + self.random.below(self.weather.max_delay_ms + 1);
                let packet = (arrives, self.carried, to, bytes.to_vec());
                self.in_flight.push(Reverse(packet));
            }
        }
    }

    /// When the next packet arrives.
    #[must_use]
    pub fn next_arrival(&self) -> Option<u64> {
        self.in_flight.peek().map(|Reverse((at, ..))| *at)
    }

    /// The next packet that arrives, with its time, if that is `until` or before.
    pub fn receive(&mut self, until: u64) -> Option<(u64, A, Vec<u8>)> {
        self.next_arrival().filter(|at| *at <= until)?;
        let Reverse((at, _, to, bytes)) = self.in_flight.pop()?;
        Some((at, to, bytes))
    }

    /// How many packets were sent, the doubled ones counted twice.
    #[must_use]
    pub fn carried(&self) -> u64 {
        self.carried
    }
}
