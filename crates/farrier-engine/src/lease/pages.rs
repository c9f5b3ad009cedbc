//! The leases of one subnet: whose each address is, and which one to lend next.

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::time::Duration;

use farrier_proto::MacAddr;

use super::book::Answer;
use super::reserved::Reserved;
use super::subnet::Pool;
use super::{Client, Lease, LeaseState, Subnet};
use crate::{Reason, WallTime};

/// The leases of one subnet.
#[derive(Debug)]
pub(super) struct Pages {
    pub(super) subnet: Subnet,
    /// Those for some classes first.
    pools: Vec<Pool>,
    reserved: Reserved,
    slots: HashMap<Ipv4Addr, Slot>,
    by_mac: HashMap<MacAddr, Ipv4Addr>,
    /// When what is taken runs out; one entry for each address that is not free.
    timers: BTreeSet<(WallTime, Ipv4Addr)>,
    /// Offers to unknown clients that are not taken up.
    open_offers: usize,
    /// Pool addresses that unknown clients hold in any way.
    unknown: usize,
}

/// One address that is or was in use.
#[derive(Debug)]
struct Slot {
    mac: MacAddr,
    known: bool,
    taken: Taken,
    lease: Option<Lease>,
    /// An entry for it waits in the queue of freed addresses.
    is_queued: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    Free,
    /// Offered, or granted and not yet stored.
    Held(WallTime),
    Lent(WallTime),
    Declined(WallTime),
}

impl Taken {
    fn until(self) -> Option<WallTime> {
        match self {
            Self::Free => None,
            Self::Held(until) | Self::Lent(until) | Self::Declined(until) => Some(until),
        }
    }

    fn is_busy(self, now: WallTime) -> bool {
        self.until().is_some_and(|until| until > now)
    }
}

impl Pages {
    pub(super) fn new(subnet: Subnet) -> Self {
        Self {
            pools: Pool::all_of(&subnet),
            reserved: Reserved::of(&subnet.reservations),
            subnet,
            slots: HashMap::new(),
            by_mac: HashMap::new(),
            timers: BTreeSet::new(),
            open_offers: 0,
            unknown: 0,
        }
    }

    pub(super) fn address_of(&self, now: WallTime, mac: MacAddr) -> Option<Ipv4Addr> {
        let ip = *self.by_mac.get(&mac)?;
        self.slots
            .get(&ip)
            .filter(|slot| slot.taken.is_busy(now))
            .map(|_| ip)
    }

    pub(super) fn lease_of(&self, ip: Ipv4Addr) -> Option<&Lease> {
        self.slots.get(&ip)?.lease.as_ref()
    }

    pub(super) fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.slots.values().filter_map(|slot| slot.lease.as_ref())
    }

    /// Frees what was offered to `mac` and not taken up.
    pub(super) fn let_go(&mut self, mac: MacAddr) {
        if let Some(ip) = self.held_by(mac)
            && matches!(self.slots[&ip].taken, Taken::Held(_))
        {
            self.set_taken(ip, Taken::Free);
        }
    }

    pub(super) fn selecting(
        &mut self,
        now: WallTime,
        client: &Client,
        requested: Ipv4Addr,
    ) -> Answer {
        let held = self.held_by(client.mac);
        match held {
            Some(ip) if ip == requested => self.grant(now, client, ip),
            Some(_) => Answer::Nak(Reason::WrongAddress),
            // The offer ran out, or we were restarted after it. The address may still be free.
            None => match self.find(now, client, Some(requested)) {
                Ok(ip) if ip == requested => self.grant(now, client, ip),
                Ok(_) | Err(_) => Answer::Nak(Reason::WrongAddress),
            },
        }
    }

    pub(super) fn init_reboot(
        &mut self,
        now: WallTime,
        client: &Client,
        requested: Ipv4Addr,
    ) -> Answer {
        if !self.subnet.contains(requested) {
            return Answer::Nak(Reason::WrongNetwork);
        }
        match self.on_record(client) {
            Some(ip) if ip == requested && self.take(now, client, ip).is_ok() => {
                self.grant(now, client, ip)
            }
            Some(_) => Answer::Nak(Reason::WrongAddress),
            // "If the server has no record of this client, then it MUST remain silent."
            None => Answer::Silent(Reason::NoLeaseOnRecord),
        }
    }

    /// The client says it has the address from us. If we have lost the record (a restored backup)
    /// and the address is free, prolonging it is the harmless answer.
    pub(super) fn renewing(&mut self, now: WallTime, client: &Client, ciaddr: Ipv4Addr) -> Answer {
        if !self.subnet.contains(ciaddr) {
            return Answer::Nak(Reason::WrongNetwork);
        }
        match self.held_by(client.mac) {
            Some(ip) if ip == ciaddr => self.grant(now, client, ip),
            Some(_) => Answer::Nak(Reason::WrongAddress),
            None => match self.find(now, client, Some(ciaddr)) {
                Ok(ip) if ip == ciaddr => self.grant(now, client, ip),
                Ok(_) | Err(_) => Answer::Nak(Reason::LeaseNotOurs),
            },
        }
    }

    /// The client asks everybody: what we have no record of may be another server's.
    pub(super) fn rebinding(&mut self, now: WallTime, client: &Client, ciaddr: Ipv4Addr) -> Answer {
        match self.on_record(client) {
            Some(ip) if ip == ciaddr && self.take(now, client, ip).is_ok() => {
                self.grant(now, client, ip)
            }
            Some(_) => Answer::Nak(Reason::WrongAddress),
            None => Answer::Silent(Reason::NoLeaseOnRecord),
        }
    }

    fn grant(&mut self, now: WallTime, client: &Client, ip: Ipv4Addr) -> Answer {
        match self.take(now, client, ip) {
            Ok(()) => Answer::Grant(self.draft(now, client, ip)),
            Err(reason) => Answer::Nak(reason),
        }
    }

    pub(super) fn draft(&self, now: WallTime, client: &Client, ip: Ipv4Addr) -> Lease {
        let running = self.slots.get(&ip).and_then(|slot| slot.lease.as_ref());
        let starts = running
            .filter(|lease| {
                lease.mac == client.mac && lease.state == LeaseState::Active && lease.ends > now
            })
            .map_or(now, |lease| lease.starts);
        Lease {
            ip,
            mac: client.mac,
            client_id: client.client_id.clone(),
            hostname: client.hostname.clone(),
            state: LeaseState::Active,
            starts,
            ends: now + self.subnet.lease_time,
        }
    }

    /// Takes an address for `client`: its reserved one, the one it has or had, the one it asks for,
    /// one never used, the one longest unused.
    pub(super) fn find(
        &mut self,
        now: WallTime,
        client: &Client,
        requested: Option<Ipv4Addr>,
    ) -> Result<Ipv4Addr, Reason> {
        if let Some(ip) = self.reserved_for(client)
            && self.take(now, client, ip).is_ok()
        {
            return Ok(ip);
        }
        let had = self.by_mac.get(&client.mac).copied();
        for ip in [had, requested].into_iter().flatten() {
            if self.lends(ip, client) && self.is_open_to(ip, client.mac) {
                return self.take(now, client, ip).map(|()| ip);
            }
        }
        self.check_share(client)?;
        let ip = self.next_free(client).ok_or(Reason::PoolExhausted)?;
        self.take(now, client, ip).map(|()| ip)
    }

    pub(super) fn reserved_for(&self, client: &Client) -> Option<Ipv4Addr> {
        self.reserved.address_for(client)
    }

    /// Whether a pool has `ip` for clients like this one.
    fn lends(&self, ip: Ipv4Addr, client: &Client) -> bool {
        let mut open = self
            .pools
            .iter()
            .filter(|pool| pool.admits.admits(client.classes));
        open.any(|pool| pool.contains(ip))
    }

    fn pool_of(&self, ip: Ipv4Addr) -> Option<usize> {
        self.pools.iter().position(|pool| pool.contains(ip))
    }

    fn next_free(&mut self, client: &Client) -> Option<Ipv4Addr> {
        let Self { pools, slots, .. } = self;
        let mut open = pools
            .iter_mut()
            .filter(|pool| pool.admits.admits(client.classes));
        open.find_map(|pool| next_of(pool, slots))
    }

    /// The address `mac` has now.
    fn held_by(&self, mac: MacAddr) -> Option<Ipv4Addr> {
        let ip = *self.by_mac.get(&mac)?;
        (self.slots[&ip].taken != Taken::Free).then_some(ip)
    }

    /// Whether `ip` is lent, not only held.
    pub(super) fn is_lent(&self, ip: Ipv4Addr) -> bool {
        let slot = self.slots.get(&ip);
        slot.is_some_and(|slot| matches!(slot.taken, Taken::Lent(_)))
    }

    /// The address `client` has or had, or that is reserved for it.
    pub(super) fn on_record(&self, client: &Client) -> Option<Ipv4Addr> {
        self.reserved_for(client)
            .or_else(|| self.by_mac.get(&client.mac).copied())
    }

    /// Whether nobody but `mac` is in the way. Addresses in the slot table are free or in use by
    /// their owner, since what has run out is freed before each question.
    fn is_open_to(&self, ip: Ipv4Addr, mac: MacAddr) -> bool {
        self.slots.get(&ip).is_none_or(|slot| match slot.taken {
            Taken::Free => true,
            Taken::Held(_) | Taken::Lent(_) => slot.mac == mac,
            Taken::Declined(_) => false,
        })
    }

    /// Holds `ip` for `client` for a minute more, or for longer if it is lent to it.
    fn take(&mut self, now: WallTime, client: &Client, ip: Ipv4Addr) -> Result<(), Reason> {
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
    fn check_share(&self, client: &Client) -> Result<(), Reason> {
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
    pub(super) fn enter(&mut self, now: WallTime, lease: Lease) -> Option<()> {
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

    pub(super) fn end(
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

    pub(super) fn give_back(&mut self, now: WallTime, ip: Ipv4Addr) -> Result<Lease, Reason> {
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
    fn set_taken(&mut self, ip: Ipv4Addr, taken: Taken) {
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
    pub(super) fn expire(&mut self, now: WallTime) {
        while let Some(&(until, ip)) = self.timers.first()
            && until <= now
        {
            self.set_taken(ip, Taken::Free);
        }
    }
}

fn next_of(pool: &mut Pool, slots: &mut HashMap<Ipv4Addr, Slot>) -> Option<Ipv4Addr> {
    // Skips addresses that were taken out of turn. Each is skipped once only.
    while let Some(ip) = pool.next_fresh() {
        if !slots.contains_key(&ip) {
            return Some(ip);
        }
    }
    while let Some(ip) = pool.next_freed() {
        let Some(slot) = slots.get_mut(&ip) else {
            continue;
        };
        slot.is_queued = false;
        if slot.taken == Taken::Free {
            return Some(ip);
        }
    }
    None
}

/// At least a minute (`protocols.md` 2): firmware may take its time between offer and request.
const OFFER_HOLD: Duration = Duration::from_secs(60);
/// Long enough for somebody to find the device with the fixed address.
const DECLINED_FOR: Duration = Duration::from_secs(3600);
