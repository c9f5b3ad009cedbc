//! The leases of one subnet: whose each address is, and which one to lend next.

mod record;

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;

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
