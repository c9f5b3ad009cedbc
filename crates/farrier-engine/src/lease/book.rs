//! The book of leases: who holds which address now.

use std::net::Ipv4Addr;
use std::time::Duration;

use farrier_proto::MacAddr;

use super::pages::Pages;
use super::{Client, Lease, LeaseState, RequestCase, Subnet, SubnetError};
use crate::{Reason, WallTime};

/// All subnets and their leases. See the [module](super) for the order of storing and answering.
#[derive(Debug)]
pub struct LeaseBook {
    subnets: Vec<Pages>,
}

/// The answer to a DHCPDISCOVER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    Address {
        ip: Ipv4Addr,
        lease_time: Duration,
        /// It has no lease on it that runs, so somebody else may have taken the address.
        fresh: bool,
    },
    Silent(Reason),
}

/// The answer to a DHCPREQUEST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Store this lease, commit it, then send the DHCPACK.
    Grant(Lease),
    Nak(Reason),
    Silent(Reason),
}

/// The lease was not entered: do not send the DHCPACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    #[error("{0} is in no configured subnet")]
    NoSubnet(Ipv4Addr),
    /// Storing took longer than the address was held.
    #[error("{0} went to another client while the lease was being stored")]
    TakenMeanwhile(Ipv4Addr),
}

impl LeaseBook {
    /// # Errors
    ///
    /// When a subnet is wrong in itself or overlaps another.
    pub fn new(subnets: Vec<Subnet>) -> Result<Self, SubnetError> {
        for (i, subnet) in subnets.iter().enumerate() {
            subnet.check()?;
            if let Some(other) = subnets[..i]
                .iter()
                .find(|other| other.contains(subnet.network) || subnet.contains(other.network))
            {
                return Err(SubnetError::Overlap {
                    a: other.network,
                    b: subnet.network,
                });
            }
            let on_the_wire = subnets[..i].iter().filter(|other| is_shared(subnet, other));
            for one in on_the_wire.flat_map(|other| &other.reservations) {
                let own = &subnet.reservations;
                if let Some(twice) = own.iter().find(|own| own.holder == one.holder) {
                    return Err(SubnetError::HolderTwice { ip: twice.ip });
                }
            }
        }
        Ok(Self {
            subnets: subnets.into_iter().map(Pages::new).collect(),
        })
    }

    /// The subnet that holds `ip`.
    #[must_use]
    pub fn subnet_of(&self, ip: Ipv4Addr) -> Option<&Subnet> {
        self.subnets
            .iter()
            .map(|p| &p.subnet)
            .find(|s| s.contains(ip))
    }

    /// Answers a DHCPDISCOVER. `link` is the relay's address (`giaddr`), or else our own on the
    /// interface; `requested` is option 50. The address is held for a minute.
    pub fn offer(
        &mut self,
        now: WallTime,
        client: &Client,
        link: Ipv4Addr,
        requested: Option<Ipv4Addr>,
    ) -> Offered {
        match self.find(now, client, link, requested) {
            Ok((pages, ip)) => Offered::Address {
                ip,
                lease_time: pages.subnet.lease_time,
                fresh: !pages.is_lent(ip),
            },
            Err(reason) => Offered::Silent(reason),
        }
    }

    /// Answers a DHCPREQUEST (RFC 2131 4.3.2). `ours` is our address as option 54 names it.
    pub fn request(
        &mut self,
        now: WallTime,
        client: &Client,
        link: Ipv4Addr,
        case: RequestCase,
        ours: Ipv4Addr,
    ) -> Answer {
        let link = match case {
            // A renewing client speaks to us directly, past the relay: only its address tells its subnet.
            RequestCase::Renewing { ciaddr } if self.subnet_of(ciaddr).is_some() => ciaddr,
            RequestCase::Selecting { requested: ip, .. }
            | RequestCase::InitReboot { requested: ip }
            | RequestCase::Rebinding { ciaddr: ip }
                if self.is_on_wire_of(link, ip) =>
            {
                ip
            }
            _ => link,
        };
        if let RequestCase::Selecting { server, .. } = case
            && server != ours
        {
            return self.chose_other(now, client, link);
        }
        let Some(pages) = self.pages_of(link) else {
            return Answer::Silent(Reason::NoSubnet);
        };
        pages.expire(now);
        let answer = match case {
            RequestCase::Selecting { requested, .. } => pages.selecting(now, client, requested),
            RequestCase::InitReboot { requested } => pages.init_reboot(now, client, requested),
            RequestCase::Renewing { ciaddr } => pages.renewing(now, client, ciaddr),
            RequestCase::Rebinding { ciaddr } => pages.rebinding(now, client, ciaddr),
            RequestCase::Malformed => Answer::Silent(Reason::Malformed),
        };
        match answer {
            Answer::Nak(reason) if client.never_nak => Answer::Silent(reason),
            answer => answer,
        }
    }

    /// Answers a BOOTP request (RFC 951). The address is for ever, so strangers get none without a
    /// reservation: each would cost the pool one address that never comes back.
    pub fn bootp(&mut self, now: WallTime, client: &Client, link: Ipv4Addr) -> Answer {
        let kept = |pages: &Pages| pages.reserved_for(client).is_some();
        if self.index_of(link).is_some() && !client.known && !self.on_wire(link).any(kept) {
            return Answer::Silent(Reason::BootpNeedsReservation);
        }
        match self.find(now, client, link, None) {
            Ok((pages, ip)) => Answer::Grant(Lease {
                ends: FOR_EVER,
                ..pages.draft(now, client, ip)
            }),
            Err(reason) => Answer::Silent(reason),
        }
    }

    /// Enters a stored lease: after [`Self::request`] granted it, and for each stored one at start.
    ///
    /// # Errors
    ///
    /// When the address is another client's by now; then the DHCPACK must not be sent.
    pub fn commit(&mut self, now: WallTime, lease: Lease) -> Result<(), CommitError> {
        let ip = lease.ip;
        let pages = self.pages_of(ip).ok_or(CommitError::NoSubnet(ip))?;
        pages.expire(now);
        pages
            .enter(now, lease)
            .ok_or(CommitError::TakenMeanwhile(ip))
    }

    /// DHCPRELEASE: the address is free at once. Returns the lease to store.
    pub fn release(&mut self, now: WallTime, mac: MacAddr, ip: Ipv4Addr) -> Result<Lease, Reason> {
        let pages = self.pages_of(ip).ok_or(Reason::NoSubnet)?;
        pages.expire(now);
        pages.end(now, mac, ip, LeaseState::Free)
    }

    /// DHCPDECLINE: somebody else uses the address. It is set aside for an hour. Returns the lease
    /// to store.
    pub fn decline(&mut self, now: WallTime, mac: MacAddr, ip: Ipv4Addr) -> Result<Lease, Reason> {
        let pages = self.pages_of(ip).ok_or(Reason::NoSubnet)?;
        pages.expire(now);
        pages.end(now, mac, ip, LeaseState::Declined)
    }

    /// An operator gives the address back to the pool, whoever has it or set it aside. Returns the lease to store.
    pub fn give_back(&mut self, now: WallTime, ip: Ipv4Addr) -> Result<Lease, Reason> {
        let pages = self.pages_of(ip).ok_or(Reason::NoSubnet)?;
        pages.expire(now);
        pages.give_back(now, ip)
    }

    /// DHCPINFORM: the client has an address and wants the rest (RFC 2131 4.3.5).
    pub fn inform(&self, ciaddr: Ipv4Addr) -> Result<&Subnet, Reason> {
        if ciaddr.is_unspecified() {
            return Err(Reason::Malformed);
        }
        self.subnet_of(ciaddr).ok_or(Reason::NoSubnet)
    }

    /// The address `mac` holds at `now`, by lease or by offer.
    #[must_use]
    pub fn address_of(&self, now: WallTime, mac: MacAddr) -> Option<Ipv4Addr> {
        self.subnets
            .iter()
            .find_map(|pages| pages.address_of(now, mac))
    }

    /// Who holds `ip` by an active lease at `now`. This is how a request by address becomes a machine.
    #[must_use]
    pub fn holder(&self, now: WallTime, ip: Ipv4Addr) -> Option<MacAddr> {
        self.active(now, ip).map(|lease| lease.mac)
    }

    /// The lease by which somebody holds `ip` at `now`.
    #[must_use]
    pub fn active(&self, now: WallTime, ip: Ipv4Addr) -> Option<&Lease> {
        let pages = self.subnets.iter().find(|p| p.subnet.contains(ip))?;
        let lease = pages.lease_of(ip)?;
        (lease.state == LeaseState::Active && lease.ends > now).then_some(lease)
    }

    /// Every lease on record, run out ones included, in no order.
    pub fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.subnets.iter().flat_map(Pages::leases)
    }

    /// Takes an address for `client` in the subnet of `link`, or in another one on the same wire: where one is kept
    /// for it, where it has or had one, where it wants one, where there is one.
    fn find(
        &mut self,
        now: WallTime,
        client: &Client,
        link: Ipv4Addr,
        requested: Option<Ipv4Addr>,
    ) -> Result<(&Pages, Ipv4Addr), Reason> {
        let home = self.index_of(link).ok_or(Reason::NoSubnet)?;
        let order = self.order(home, client, requested);
        let mut refused = Reason::PoolExhausted;
        for (turn, at) in order.into_iter().enumerate() {
            let pages = &mut self.subnets[at];
            pages.expire(now);
            match pages.find(now, client, requested) {
                Ok(ip) => return Ok((&self.subnets[at], ip)),
                Err(reason) if turn == 0 => refused = reason,
                Err(_) => {}
            }
        }
        Err(refused)
    }

    fn order(&self, home: usize, client: &Client, requested: Option<Ipv4Addr>) -> Vec<usize> {
        if self.subnets[home].subnet.shared.is_none() {
            return vec![home];
        }
        let wire = |at: &usize| is_shared(&self.subnets[home].subnet, &self.subnets[*at].subnet);
        let others = (0..self.subnets.len())
            .filter(|at| *at != home)
            .filter(wire);
        let mut order: Vec<usize> = std::iter::once(home).chain(others).collect();
        order.sort_by_key(|at| {
            let pages = &self.subnets[*at];
            let wanted = requested.is_some_and(|ip| pages.subnet.contains(ip));
            match (pages.reserved_for(client), pages.on_record(client)) {
                (Some(_), _) => 0,
                (None, Some(_)) => 1,
                (None, None) if wanted => 2,
                (None, None) => 3,
            }
        });
        order
    }

    /// The client took another server's offer: what was held for it here is free.
    fn chose_other(&mut self, now: WallTime, client: &Client, link: Ipv4Addr) -> Answer {
        let Some(home) = self.index_of(link) else {
            return Answer::Silent(Reason::NoSubnet);
        };
        for at in self.order(home, client, None) {
            self.subnets[at].expire(now);
            self.subnets[at].let_go(client.mac);
        }
        Answer::Silent(Reason::ChoseOtherServer)
    }

    fn is_on_wire_of(&self, link: Ipv4Addr, ip: Ipv4Addr) -> bool {
        self.on_wire(link).any(|pages| pages.subnet.contains(ip))
    }

    /// The subnet of `link` and those on the same wire.
    fn on_wire(&self, link: Ipv4Addr) -> impl Iterator<Item = &Pages> {
        let home = self.index_of(link).map(|at| &self.subnets[at]);
        self.subnets.iter().filter(move |pages| {
            home.is_some_and(|home| {
                home.subnet.network == pages.subnet.network
                    || is_shared(&home.subnet, &pages.subnet)
            })
        })
    }

    fn index_of(&self, ip: Ipv4Addr) -> Option<usize> {
        self.subnets.iter().position(|p| p.subnet.contains(ip))
    }

    fn pages_of(&mut self, ip: Ipv4Addr) -> Option<&mut Pages> {
        self.subnets.iter_mut().find(|p| p.subnet.contains(ip))
    }
}

fn is_shared(a: &Subnet, b: &Subnet) -> bool {
    a.shared.is_some() && a.shared == b.shared
}

/// What a BOOTP client's lease ends at.
const FOR_EVER: WallTime = WallTime(i64::MAX);
