//! Which addresses a client is lent: the one that is kept for it, and computed ones.

use std::collections::{HashMap, VecDeque};
use std::net::Ipv6Addr;
use std::sync::{Mutex, PoisonError};

use farrier_engine::address6::{self, Client6};
use farrier_engine::facts::BootFacts;
use farrier_proto::reply::dhcpv6::IaAnswer;
use farrier_proto::wire::dhcpv6_option::{Duid, IaNa};

use super::{Asked, MAX_SETS};

impl Asked<'_> {
    /// What it gets for each set of addresses that it asks for.
    pub(super) fn sets(&self) -> Vec<(u32, IaAnswer)> {
        let ias: Vec<IaNa> = self.request.ia_nas().take(MAX_SETS).collect();
        let kept = self.kept().map(|kept| {
            // One address is for one set: for the one that has it, else for the first.
            let has = |ia: &IaNa| ia.addresses().any(|held| held.address == kept);
            (ias.iter().position(has).unwrap_or(0), kept)
        });
        let answers = ias.iter().enumerate().map(|(n, ia)| {
            let kept = kept.filter(|(at, _)| *at == n).map(|(_, kept)| kept);
            (ia.iaid, self.set(ia, kept))
        });
        answers.collect()
    }

    fn set(&self, ia: &IaNa, kept: Option<Ipv6Addr>) -> IaAnswer {
        let tries = self.port.declined.tries(self.digest(ia.iaid, 0));
        // Where somebody else has it, the client gets on with another.
        let mine = kept
            .filter(|_| tries == 0)
            .unwrap_or_else(|| self.computed(ia.iaid, tries));
        let (prefix, seconds) = (self.subnet.prefix, self.subnet.lease_seconds);
        address6::answer(prefix, self.request.kind, ia, mine, seconds)
    }

    /// The address of a set; never one that is kept for anybody.
    fn computed(&self, iaid: u32, tries: u32) -> Ipv6Addr {
        let address = |tries| {
            let digest = self.digest(iaid, tries);
            self.subnet.prefix.address(self.mac, digest)
        };
        let is_free = |address: &Ipv6Addr| self.subnet.reserved.holder(*address).is_none();
        (tries..=u32::MAX)
            .take(MAX_KEPT_ROW)
            .map(address)
            .find(is_free)
            .unwrap_or_else(|| address(tries))
    }

    fn kept(&self) -> Option<Ipv6Addr> {
        self.subnet.reserved.address_for(&Client6 {
            mac: self.mac,
            uuid: self.facts.as_ref().and_then(BootFacts::usable_uuid),
            duid: self.duid(),
        })
    }

    fn duid(&self) -> &[u8] {
        let id = self.request.client_id();
        id.map_or(&[][..], |Duid(bytes)| bytes)
    }

    /// DECLINE: somebody else has the address; the next one will be another.
    pub(super) fn next_addresses(&self) {
        for ia in self.request.ia_nas().take(MAX_SETS) {
            self.port.declined.again(self.digest(ia.iaid, 0));
        }
        let kept = self.kept();
        tracing::warn!(mac = ?self.mac, ?kept, "a client found its IPv6 address in use by another");
    }

    /// RFC 7943: the same set gets the same address, also after a restart.
    fn digest(&self, iaid: u32, tries: u32) -> u64 {
        let key = blake3::derive_key(
            "farrier 2026 addresses of DHCPv6 clients",
            self.port.core.ca.fingerprint().as_bytes(),
        );
        let mut hasher = blake3::Hasher::new_keyed(&key);
        hasher.update(&iaid.to_be_bytes());
        hasher.update(&tries.to_be_bytes());
        hasher.update(self.duid());
        let [a, b, c, d, e, f, g, h, ..] = *hasher.finalize().as_bytes();
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

/// How often a set of addresses was found in use. A restart forgets it, and the client says it again.
#[derive(Debug, Default)]
pub struct Declined {
    inner: Mutex<(HashMap<u64, u32>, VecDeque<u64>)>,
}

impl Declined {
    fn tries(&self, set: u64) -> u32 {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.0.get(&set).copied().unwrap_or(0)
    }

    fn again(&self, set: u64) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let (tries, order) = &mut *inner;
        if !tries.contains_key(&set) {
            if order.len() >= MAX_DECLINED
                && let Some(oldest) = order.pop_front()
            {
                tries.remove(&oldest);
            }
            order.push_back(set);
        }
        *tries.entry(set).or_default() += 1;
    }
}

/// Anybody can decline; what is full pushes out its oldest.
const MAX_DECLINED: usize = 4096;
/// As many computed addresses of one set are not all kept for others by chance.
const MAX_KEPT_ROW: usize = 16;

#[cfg(test)]
mod tests {
    use super::{Declined, MAX_DECLINED};

    #[test]
    fn t10_declines_are_counted_and_bounded() {
        let declined = Declined::default();
        for set in 0..=MAX_DECLINED as u64 {
            declined.again(set);
        }
        declined.again(5);
        assert_eq!((declined.tries(0), declined.tries(5)), (0, 2));
        assert_eq!(declined.inner.lock().unwrap().0.len(), MAX_DECLINED);
    }
}
