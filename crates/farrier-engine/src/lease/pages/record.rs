//! What is entered on the pages: an address is taken, lent, given back, or free again because its time ran out.

use std::net::Ipv4Addr;
use std::time::Duration;

use farrier_proto::MacAddr;

use super::{Pages, Slot, Taken};
use crate::lease::subnet::Pool;
use crate::lease::{Client, Lease, LeaseState};
use crate::{Reason, WallTime};

impl Pages {
    /// Frees what was offered to `mac` and not taken up.
    pub(in crate::lease) fn let_go(&mut self, mac: MacAddr) {
        if let Some(ip) = self.held_by(mac)
            && matches!(self.slots[&ip].taken, Taken::Held(_))
        {
            self.set_taken(ip, Taken::Free);
        }
    }

    /// Holds `ip` for `client` for a minute more, or for longer if it is lent to it.
    pub(super) fn take(
        &mut self,
        now: WallTime,
        client: &Client,
        ip: Ipv4Addr,
    ) -> Result<(), Reason> {
        if !self.is_open_to(ip, client.mac) {
            return Err(Reason::WrongAddress);
        }
        let is_reserved = self.reserved.is_for(ip, client);
        if !is_reserved && !self.lends(ip, client) {
            return Err(Reason::WrongAddress);
        }
        let until = now + OFFER_HOLD;
        let taken = match self.slots.get(&ip).map(|slot| slot.taken) {
            Some(Taken::Lent(ends)) => Taken::Lent(ends.max(until)),
            Some(Taken::Held(_)) => Taken::Held(until),
            _ => {
                if !is_reserved {
                    self.check_share(client)?;
                }
                Taken::Held(until)
            }
        };
        self.own(ip, client.mac, client.known);
        self.set_taken(ip, taken);
        Ok(())
    }

    /// Whether an unknown client may take one more address of the pool (`T10`).
    pub(super) fn check_share(&self, client: &Client) -> Result<(), Reason> {
        if client.known {
            return Ok(());
        }
        if self.open_offers >= self.subnet.max_open_offers {
            return Err(Reason::OfferLimit);
        }
        let percent = usize::from(self.subnet.known_share_percent.min(100));
        let size: usize = self.pools.iter().map(Pool::size).sum();
        let kept = size * percent / 100;
        if self.unknown < size - kept {
            return Ok(());
        }
        Err(if kept == 0 {
            Reason::PoolExhausted
        } else {
            Reason::PoolReserved
        })
    }

    /// Enters a stored lease; none when the address is in another client's hands.
    pub(in crate::lease) fn enter(&mut self, now: WallTime, lease: Lease) -> Option<()> {
        let ip = lease.ip;
        if !self.is_open_to(ip, lease.mac) && lease.state != LeaseState::Declined {
            return None;
        }
        let known = self
            .slots
            .get(&ip)
            .is_some_and(|slot| slot.mac == lease.mac && slot.known);
        let taken = match lease.state {
            LeaseState::Active if lease.ends > now => Taken::Lent(lease.ends),
            LeaseState::Declined if lease.ends > now => Taken::Declined(lease.ends),
            _ => Taken::Free,
        };
        // At start the rows come in any order, and after a crash there can be two for one client, of
        // which it may use either: both stay lent, and the one that ends later is the one it is known by.
        let is_older = self
            .by_mac
            .get(&lease.mac)
            .is_some_and(|other| *other != ip && self.slots[other].taken.until() > taken.until());
        if is_older || lease.state == LeaseState::Declined {
            self.slot(ip, lease.mac, known);
            if self.by_mac.get(&lease.mac) == Some(&ip) {
                self.by_mac.remove(&lease.mac);
            }
        } else {
            self.own(ip, lease.mac, known);
        }
        self.set_taken(ip, taken);
        if let Some(slot) = self.slots.get_mut(&ip) {
            slot.lease = Some(lease);
        }
        Some(())
    }

    pub(in crate::lease) fn end(
        &mut self,
        now: WallTime,
        mac: MacAddr,
        ip: Ipv4Addr,
        state: LeaseState,
    ) -> Result<Lease, Reason> {
        if self.held_by(mac) != Some(ip) {
            return Err(Reason::LeaseNotOurs);
        }
        let client = Client::new(mac);
        let running = self.slots[&ip]
            .lease
            .clone()
            .filter(|lease| lease.mac == mac);
        let lease = running.unwrap_or_else(|| self.draft(now, &client, ip));
        let ends = if state == LeaseState::Declined {
            now + DECLINED_FOR
        } else {
            now
        };
        let lease = Lease {
            state,
            ends,
            ..lease
        };
        let taken = if state == LeaseState::Declined {
            Taken::Declined(ends)
        } else {
            Taken::Free
        };
        self.set_taken(ip, taken);
        if state == LeaseState::Declined {
            self.by_mac.remove(&mac);
        }
        if let Some(slot) = self.slots.get_mut(&ip) {
            slot.lease = Some(lease.clone());
        }
        Ok(lease)
    }

    pub(in crate::lease) fn give_back(
        &mut self,
        now: WallTime,
        ip: Ipv4Addr,
    ) -> Result<Lease, Reason> {
        let slot = self.slots.get_mut(&ip).ok_or(Reason::NoLeaseOnRecord)?;
        let lease = slot.lease.as_mut().ok_or(Reason::NoLeaseOnRecord)?;
        lease.state = LeaseState::Free;
        lease.ends = now;
        let lease = lease.clone();
        self.set_taken(ip, Taken::Free);
        Ok(lease)
    }

    /// Makes `ip` the address that `mac` is known by. Another one it was offered becomes free; one it
    /// was lent stays so until the end, since it may still use it.
    fn own(&mut self, ip: Ipv4Addr, mac: MacAddr, known: bool) {
        if let Some(other) = self.by_mac.insert(mac, ip)
            && other != ip
            && matches!(self.slots[&other].taken, Taken::Held(_))
        {
            self.set_taken(other, Taken::Free);
        }
        self.slot(ip, mac, known);
    }

    /// Writes `mac` on the slot of `ip`, which becomes one if it is none yet.
    fn slot(&mut self, ip: Ipv4Addr, mac: MacAddr, known: bool) {
        let before = self.slots.get(&ip).map(|slot| (slot.mac, slot.taken));
        if let Some((owner, taken)) = before {
            if owner != mac && self.by_mac.get(&owner) == Some(&ip) {
                self.by_mac.remove(&owner);
            }
            self.count(ip, taken, Taken::Free);
        }
        let slot = self.slots.entry(ip).or_insert(Slot {
            mac,
            known,
            taken: Taken::Free,
            lease: None,
            is_queued: false,
        });
        slot.mac = mac;
        slot.known = known;
        let taken = slot.taken;
        self.count(ip, Taken::Free, taken);
    }

    /// The only place where an address changes hands, so that the counts and timers stay true.
    pub(super) fn set_taken(&mut self, ip: Ipv4Addr, taken: Taken) {
        let pool = self.pool_of(ip);
        let Some(slot) = self.slots.get_mut(&ip) else {
            return;
        };
        let before = std::mem::replace(&mut slot.taken, taken);
        if let Some(until) = before.until() {
            self.timers.remove(&(until, ip));
        }
        match taken.until() {
            Some(until) => {
                self.timers.insert((until, ip));
            }
            None => {
                if let Some(pool) = pool.filter(|_| !slot.is_queued) {
                    slot.is_queued = true;
                    self.pools[pool].give_back(ip);
                }
            }
        }
        self.count(ip, before, taken);
    }

    fn count(&mut self, ip: Ipv4Addr, before: Taken, after: Taken) {
        let Some(slot) = self.slots.get(&ip) else {
            return;
        };
        if slot.known || self.pool_of(ip).is_none() {
            return;
        }
        let held = |taken| usize::from(matches!(taken, Taken::Held(_)));
        let used = |taken| usize::from(taken != Taken::Free);
        self.open_offers = (self.open_offers + held(after)).saturating_sub(held(before));
        self.unknown = (self.unknown + used(after)).saturating_sub(used(before));
    }

    /// Frees what has run out.
    pub(in crate::lease) fn expire(&mut self, now: WallTime) {
        while let Some(&(until, ip)) = self.timers.first()
            && until <= now
        {
            self.set_taken(ip, Taken::Free);
        }
    }
}

/// At least a minute (`protocols.md` 2): firmware may take its time between offer and request.
const OFFER_HOLD: Duration = Duration::from_secs(60);
/// Long enough for somebody to find the device with the fixed address.
const DECLINED_FOR: Duration = Duration::from_secs(3600);
