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
    Address { ip: Ipv4Addr, lease_time: Duration },
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
        let Some(pages) = self.pages_of(link) else {
            return Offered::Silent(Reason::NoSubnet);
        };
        pages.expire(now);
        match pages.find(now, client, requested) {
            Ok(ip) => Offered::Address {
                ip,
                lease_time: pages.subnet.lease_time,
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
        // A renewing client speaks to us directly, past the relay: only its address tells its subnet.
        let link = match case {
            RequestCase::Renewing { ciaddr } if self.subnet_of(ciaddr).is_some() => ciaddr,
            _ => link,
        };
        let Some(pages) = self.pages_of(link) else {
            return Answer::Silent(Reason::NoSubnet);
        };
        pages.expire(now);
        let answer = match case {
            RequestCase::Selecting { server, requested } => {
                pages.selecting(now, client, (server == ours).then_some(requested))
            }
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
        let Some(pages) = self.pages_of(link) else {
            return Answer::Silent(Reason::NoSubnet);
        };
        pages.expire(now);
        if !client.known && pages.reserved_for(client).is_none() {
            return Answer::Silent(Reason::BootpNeedsReservation);
        }
        match pages.find(now, client, None) {
            Ok(ip) => Answer::Grant(Lease {
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
        let pages = self.subnets.iter().find(|p| p.subnet.contains(ip))?;
        let lease = pages.lease_of(ip)?;
        (lease.state == LeaseState::Active && lease.ends > now).then_some(lease.mac)
    }

    /// Every lease on record, run out ones included, in no order.
    pub fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.subnets.iter().flat_map(Pages::leases)
    }

    fn pages_of(&mut self, ip: Ipv4Addr) -> Option<&mut Pages> {
        self.subnets.iter_mut().find(|p| p.subnet.contains(ip))
    }
}

/// What a BOOTP client's lease ends at.
const FOR_EVER: WallTime = WallTime(i64::MAX);
