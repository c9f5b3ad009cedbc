//! The lease book, as people see it, and addresses they give back.

use std::net::Ipv4Addr;

use farrier_api::admin::{Lease, LeaseQuery, Plan};
use farrier_engine::lease::LeaseState;
use farrier_proto::MacAddr;

use super::plan::{Draft, require};
use super::{Desk, Refusal};
use crate::auth::Action;
use crate::core::now;

impl Desk {
    /// Addresses on record, by address.
    pub async fn leases(&self, query: &LeaseQuery) -> Result<Vec<Lease>, Refusal> {
        self.allow(Action::Look)?;
        let wanted = WantedLeases::of(query)?;
        let mut leases = Vec::new();
        let mut after = None;
        // What nobody wants to see does not count, so a filter looks at all of them, a page at a time.
        loop {
            let page = self.core.db.leases(after, MAX_LEASES).await?;
            let is_last = page.len() < MAX_LEASES as usize;
            after = page.last().map(|lease| lease.ip);
            leases.extend(self.shown(page).filter(|lease| wanted.has(lease)));
            leases.truncate(MAX_LEASES as usize);
            if is_last || leases.len() == MAX_LEASES as usize {
                return Ok(leases);
            }
        }
    }

    fn shown(&self, leases: Vec<farrier_engine::lease::Lease>) -> impl Iterator<Item = Lease> {
        let at = now();
        leases.into_iter().map(move |lease| Lease {
            ip: lease.ip.to_string(),
            mac: lease.mac.to_string(),
            hostname: lease.hostname,
            state: match lease.state {
                LeaseState::Active if lease.ends > at => "active",
                LeaseState::Active | LeaseState::Free => "free",
                LeaseState::Declined => "declined",
            }
            .to_owned(),
            starts: lease.starts.0,
            ends: lease.ends.0,
            machine: self
                .core
                .fleet
                .candidates(&[lease.mac], None)
                .first()
                .map(|m| m.id.0),
        })
    }

    pub async fn plan_release_lease(&self, ip: &str) -> Result<Plan, Refusal> {
        self.allow(Action::ReleaseLease)?;
        let lease = self
            .leases(&LeaseQuery {
                subnet: Some(ip.to_owned()),
                ..LeaseQuery::default()
            })
            .await?
            .pop();
        let lease = lease.ok_or_else(|| Refusal::missing("lease", ip))?;
        Ok(Draft {
            summary: format!("Give {ip} back to the pool."),
            steps: vec![format!(
                "{} ({}) loses the address",
                lease.mac,
                lease.hostname.as_deref().unwrap_or("no name")
            )],
            warnings: vec![
                "If the client still uses it, another one may get the same address.".to_owned(),
            ],
            destructive: true,
            touches: vec![lease.starts.to_string()],
            ..Draft::default()
        }
        .finish())
    }

    pub async fn release_lease(&self, ip: &str, confirm: Option<&str>) -> Result<(), Refusal> {
        let plan = self.plan_release_lease(ip).await?;
        require(&plan, confirm)?;
        let address: Ipv4Addr = ip
            .parse()
            .map_err(|_| Refusal::bad("not an IPv4 address"))?;
        let released = self.core.leases.give_back(address, now()).await?;
        released.map_err(|reason| Refusal::new(super::Code::NotPossible, reason.sentence()))?;
        self.audit(Action::ReleaseLease, ip).await;
        Ok(())
    }
}

const MAX_LEASES: u32 = 10_000;

/// Which leases somebody wants to see.
struct WantedLeases<'a> {
    subnet: Option<(Ipv4Addr, u8)>,
    state: Option<&'a str>,
    mac: Option<String>,
}

impl<'a> WantedLeases<'a> {
    fn of(query: &'a LeaseQuery) -> Result<Self, Refusal> {
        let subnet = query.subnet.as_deref().map(|text| {
            let (network, prefix) = text.split_once('/').unwrap_or((text, "32"));
            let prefix = prefix.parse().ok().filter(|prefix| *prefix <= 32);
            let network = network.parse().ok();
            network
                .zip(prefix)
                .ok_or_else(|| Refusal::bad("subnet is a network such as 10.0.0.0/24"))
        });
        let state = query.state.as_deref();
        if state.is_some_and(|state| !["active", "declined", "free"].contains(&state)) {
            return Err(Refusal::bad("state is active, declined or free"));
        }
        let mac = query.mac.as_deref().map(|text| {
            let mac: Result<MacAddr, _> = text.parse();
            mac.map(|mac| mac.to_string())
                .map_err(|_| Refusal::bad("mac is a hardware address such as 52:54:00:12:34:56"))
        });
        Ok(Self {
            subnet: subnet.transpose()?,
            state,
            mac: mac.transpose()?,
        })
    }

    fn has(&self, lease: &Lease) -> bool {
        let inside = |(network, prefix): (Ipv4Addr, u8)| {
            let shift = 32 - u32::from(prefix);
            let network = network.to_bits().checked_shr(shift).unwrap_or(0);
            let ip: Result<Ipv4Addr, _> = lease.ip.parse();
            ip.is_ok_and(|ip| ip.to_bits().checked_shr(shift).unwrap_or(0) == network)
        };
        self.subnet.is_none_or(inside)
            && self.state.is_none_or(|state| state == lease.state)
            && self.mac.as_ref().is_none_or(|mac| *mac == lease.mac)
    }
}
