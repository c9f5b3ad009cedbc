//! A network we give addresses in, and the addresses of it that may be lent.

use std::collections::{HashSet, VecDeque};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use super::class::{Admits, ClassRange};
use super::reserved::Holder;

/// One network, as the operator describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    pub network: Ipv4Addr,
    pub prefix: u8,
    /// Several networks on one wire have the same name here: a client that finds no address in one gets one of
    /// another.
    pub shared: Option<Arc<str>>,
    /// For everybody.
    pub ranges: Vec<AddressRange>,
    /// For some classes of clients; they are no part of `ranges`, even where they lie inside.
    pub class_ranges: Vec<ClassRange>,
    /// Never lent: our own address, routers, printers.
    pub exclusions: Vec<AddressRange>,
    pub reservations: Vec<Reservation>,
    pub lease_time: Duration,
    /// How much of the ranges is kept for known machines, so that a flood of invented addresses
    /// cannot keep ours from booting (`T10`).
    pub known_share_percent: u8,
    /// How many unknown clients may hold an offer at once.
    pub max_open_offers: usize,
}

/// Addresses from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    pub first: Ipv4Addr,
    pub last: Ipv4Addr,
}

/// An address kept for one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    pub ip: Ipv4Addr,
    pub holder: Holder,
}

/// The subnet cannot be used as described.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubnetError {
    #[error(
        "{network}/{prefix} is not a network: clear the host bits and use a prefix from 8 to 30"
    )]
    NotANetwork { network: Ipv4Addr, prefix: u8 },
    #[error("{first}-{last} is not inside {network}/{prefix}: correct the range or the network")]
    RangeOutside {
        first: Ipv4Addr,
        last: Ipv4Addr,
        network: Ipv4Addr,
        prefix: u8,
    },
    #[error("{ip} is reserved outside {network}/{prefix}: correct the reservation or the network")]
    ReservationOutside {
        ip: Ipv4Addr,
        network: Ipv4Addr,
        prefix: u8,
    },
    #[error("{ip} is reserved twice: keep one of the reservations")]
    ReservedTwice { ip: Ipv4Addr },
    #[error("one client has two reserved addresses, {ip} is the second: keep one of them")]
    HolderTwice { ip: Ipv4Addr },
    #[error("{first}-{last} overlaps another range that is kept for a class: make them distinct")]
    ClassRanges { first: Ipv4Addr, last: Ipv4Addr },
    #[error("{a} and {b} overlap: make them distinct networks")]
    Overlap { a: Ipv4Addr, b: Ipv4Addr },
}

impl Subnet {
    /// A subnet with the customary limits and no addresses to lend.
    #[must_use]
    pub fn new(network: Ipv4Addr, prefix: u8) -> Self {
        Self {
            network,
            prefix,
            shared: None,
            ranges: Vec::new(),
            class_ranges: Vec::new(),
            exclusions: Vec::new(),
            reservations: Vec::new(),
            lease_time: DEFAULT_LEASE_TIME,
            known_share_percent: DEFAULT_KNOWN_SHARE_PERCENT,
            max_open_offers: DEFAULT_MAX_OPEN_OFFERS,
        }
    }

    #[must_use]
    pub fn mask(&self) -> Ipv4Addr {
        Ipv4Addr::from(
            u32::MAX
                .checked_shl(32 - u32::from(self.prefix.min(32)))
                .unwrap_or(0),
        )
    }

    #[must_use]
    pub fn broadcast(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network) | !u32::from(self.mask()))
    }

    #[must_use]
    pub fn contains(&self, ip: Ipv4Addr) -> bool {
        u32::from(ip) & u32::from(self.mask()) == u32::from(self.network)
    }

    pub(super) fn check(&self) -> Result<(), SubnetError> {
        let (network, prefix) = (self.network, self.prefix);
        // edk2 refuses /31 (`protocols.md` 2), and a /32 has nobody to talk to.
        if !(8..=30).contains(&prefix) || !self.contains(network) {
            return Err(SubnetError::NotANetwork { network, prefix });
        }
        let class_ranges = self.class_ranges.iter().map(|kept| &kept.range);
        let all = self.ranges.iter().chain(&self.exclusions);
        for &AddressRange { first, last } in all.chain(class_ranges) {
            if first > last || !self.contains(first) || !self.contains(last) {
                return Err(SubnetError::RangeOutside {
                    first,
                    last,
                    network,
                    prefix,
                });
            }
        }
        for (i, ClassRange { range, .. }) in self.class_ranges.iter().enumerate() {
            let mut earlier = self.class_ranges[..i].iter();
            if earlier
                .any(|other| other.range.first <= range.last && range.first <= other.range.last)
            {
                let AddressRange { first, last } = *range;
                return Err(SubnetError::ClassRanges { first, last });
            }
        }
        let mut ips = HashSet::new();
        let mut holders = HashSet::new();
        for Reservation { ip, holder } in &self.reservations {
            let ip = *ip;
            if !self.contains(ip) || ip == network || ip == self.broadcast() {
                return Err(SubnetError::ReservationOutside {
                    ip,
                    network,
                    prefix,
                });
            }
            if !ips.insert(ip) {
                return Err(SubnetError::ReservedTwice { ip });
            }
            if !holders.insert(holder) {
                return Err(SubnetError::HolderTwice { ip });
            }
        }
        Ok(())
    }
}

/// The addresses of a subnet that may be lent to anybody, and which to lend next. Costs the same
/// for ten addresses and for ten million: never-used ones come from a cursor, used ones from a
/// queue with the longest unused in front, so that a client that comes back late finds its own.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) admits: Admits,
    /// Sorted, disjoint, without exclusions and reservations.
    spans: Vec<(u32, u32)>,
    size: usize,
    cursor: Option<(usize, u32)>,
    freed: VecDeque<Ipv4Addr>,
}

impl Pool {
    /// Those of the ranges that some may have, and the one of the rest.
    pub(super) fn all_of(subnet: &Subnet) -> Vec<Self> {
        let kept = subnet.class_ranges.iter();
        let open: Vec<AddressRange> = kept.clone().map(|kept| kept.range).collect();
        kept.map(|kept| Self::of(subnet, &[kept.range], &[], kept.admits))
            .chain([Self::of(subnet, &subnet.ranges, &open, Admits::default())])
            .collect()
    }

    fn of(
        subnet: &Subnet,
        ranges: &[AddressRange],
        apart: &[AddressRange],
        admits: Admits,
    ) -> Self {
        let mut holes: Vec<(u32, u32)> = subnet
            .exclusions
            .iter()
            .chain(apart)
            .map(|r| (u32::from(r.first), u32::from(r.last)))
            .chain(
                subnet
                    .reservations
                    .iter()
                    .map(|r| (u32::from(r.ip), u32::from(r.ip))),
            )
            .chain([subnet.network, subnet.broadcast()].map(|ip| (u32::from(ip), u32::from(ip))))
            .collect();
        holes.sort_unstable();
        let mut ranges: Vec<(u32, u32)> = ranges
            .iter()
            .map(|r| (u32::from(r.first), u32::from(r.last)))
            .collect();
        ranges.sort_unstable();

        let mut spans = Vec::new();
        // Everything below `next` is either in a span or left out.
        let mut next = 0;
        for (first, last) in ranges {
            next = next.max(first);
            for &(hole_first, hole_last) in &holes {
                if hole_last < next || hole_first > last {
                    continue;
                }
                if hole_first > next {
                    spans.push((next, hole_first - 1));
                }
                next = next.max(hole_last.saturating_add(1));
            }
            if next <= last {
                spans.push((next, last));
                next = last.saturating_add(1);
            }
        }
        let size = spans
            .iter()
            .map(|(first, last)| (last - first) as usize + 1)
            .sum();
        let cursor = spans.first().map(|&(first, _)| (0, first));
        Self {
            admits,
            spans,
            size,
            cursor,
            freed: VecDeque::new(),
        }
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    pub(super) fn contains(&self, ip: Ipv4Addr) -> bool {
        let ip = u32::from(ip);
        let after = self.spans.partition_point(|&(first, _)| first <= ip);
        after > 0 && self.spans[after - 1].1 >= ip
    }

    /// The next address the cursor has not passed yet.
    pub(super) fn next_fresh(&mut self) -> Option<Ipv4Addr> {
        let (span, ip) = self.cursor?;
        self.cursor = if ip < self.spans[span].1 {
            Some((span, ip + 1))
        } else {
            self.spans
                .get(span + 1)
                .map(|&(first, _)| (span + 1, first))
        };
        Some(Ipv4Addr::from(ip))
    }

    pub(super) fn next_freed(&mut self) -> Option<Ipv4Addr> {
        self.freed.pop_front()
    }

    pub(super) fn give_back(&mut self, ip: Ipv4Addr) {
        self.freed.push_back(ip);
    }
}

/// Long enough that machines switched off over lunch keep theirs, short enough that a lab of guests
/// does not fill the range in a day.
const DEFAULT_LEASE_TIME: Duration = Duration::from_secs(8 * 3600);
const DEFAULT_KNOWN_SHARE_PERCENT: u8 = 25;
/// A hundred unknown machines switched on at the same moment still all get an offer.
const DEFAULT_MAX_OPEN_OFFERS: usize = 128;

#[cfg(test)]
mod tests;
