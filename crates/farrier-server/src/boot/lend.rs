//! The exchanges in which an address is lent: the lease book says yes or no, and what to boot rides along.

use std::net::Ipv4Addr;
use std::time::Duration;

use farrier_engine::Reason;
use farrier_engine::lease::{Answer, Client, Lease, Offered, RequestCase};
use farrier_engine::parameter;
use farrier_engine::policy::Service;
use farrier_engine::strategy::Strategy;
use farrier_engine::timeline::Entry;
use farrier_proto::reply::{self, BootFile, Lend};
use farrier_proto::wire::dhcpv4::MessageType;

use super::{Asked, Outcome};
use crate::config::{Mode, SubnetConfig};
use crate::leases::GrantError;
use crate::vacancy::{Squatter, Way};
use crate::whereabouts::Place;

impl Asked<'_> {
    /// An address that nobody uses: one that somebody answers for is set aside, and the next one is tried.
    pub(super) async fn offer(&self) -> Outcome {
        let (client, link) = (self.client(), self.link());
        let requested = self.request.requested_address();
        for _ in 0..MAX_TRIES {
            let offered = self
                .port
                .core
                .leases
                .with_book(|book| book.offer(self.now, &client, link, requested));
            let (ip, lease_time, fresh) = match offered {
                Offered::Address {
                    ip,
                    lease_time,
                    fresh,
                } => (ip, lease_time, fresh),
                Offered::Silent(reason) => return Outcome::Ignore(reason),
            };
            let Some(subnet) = self.port.core.leases.subnet_of(ip) else {
                return Outcome::Ignore(Reason::NoSubnet);
            };
            if fresh && subnet.probe && self.is_squatted(ip).await {
                continue;
            }
            let decided = self.decide(Service::Dhcp);
            if let Err(Reason::UnknownMachine) = decided {
                return Outcome::Ignore(Reason::UnknownMachine);
            }
            // Beside another server the way was chosen already.
            let strategy = match (&decided, self.port.mode) {
                (Ok(_), Mode::Dhcp) => self.strategy_to_offer(),
                _ => Strategy::D,
            };
            let boot = self.boot_decided(decided, Service::Dhcp, self.style(strategy));
            let lease_s = u32::try_from(lease_time.as_secs()).unwrap_or(u32::MAX);
            let lend = self.lend(subnet, ip, lease_s);
            return self.reply(reply::dhcp::offer(&self.request, &lend, boot.ok().as_ref()));
        }
        Outcome::Ignore(Reason::AddressInUse)
    }

    /// Whether somebody else uses `ip`; then it is as if the client had declined it.
    async fn is_squatted(&self, ip: Ipv4Addr) -> bool {
        let way = if self.request.giaddr.is_unspecified() {
            Way::Link
        } else {
            Way::Relayed
        };
        let mac = self.facts.mac;
        let Some(Squatter { mac: by }) = self.port.vacancy.squatter(ip, mac, way).await else {
            return false;
        };
        let who = by.map_or_else(
            || "a host behind the relay".to_owned(),
            |mac| mac.to_string(),
        );
        tracing::warn!(%ip, by = who, "an address of ours is used by somebody else and is set aside");
        if let Err(error) = self.port.core.leases.decline(mac, ip, self.now).await {
            tracing::warn!(%ip, %error, "that an address is in use could not be stored");
        }
        self.tell(|machine| Entry::address_taken(machine, self.now, ip, &who));
        true
    }

    pub(super) async fn acknowledge(&self) -> Outcome {
        let (client, link) = (self.client(), self.link());
        let unicast =
            !self.request.ciaddr.is_unspecified() && *self.source.ip() == self.request.ciaddr;
        let case = RequestCase::of(&self.request, unicast);
        let ours = self.port.address;
        let answer = self
            .port
            .core
            .leases
            .with_book(|book| book.request(self.now, &client, link, case, ours));
        let lease = match answer {
            Answer::Grant(lease) => lease,
            Answer::Nak(reason) => {
                tracing::debug!(mac = %self.facts.mac, reason = reason.label(), "DHCPNAK");
                return self.reply(reply::dhcp::nak(&self.request, ours, reason.sentence()));
            }
            Answer::Silent(reason) => return Outcome::Ignore(reason),
        };
        let ip = lease.ip;
        let Some(subnet) = self.port.core.leases.subnet_of(ip) else {
            return Outcome::Ignore(Reason::NoSubnet);
        };
        let lease = match self.stored(lease).await {
            Ok(lease) => lease,
            Err(reason) => return Outcome::Ignore(reason),
        };
        // From now on: a lease that was prolonged began long ago.
        let lease_s = u32::try_from(lease.ends.since(self.now).as_secs()).unwrap_or(u32::MAX);
        if let Some(machine) = &self.who.machine {
            self.port.core.whereabouts.heard(machine.id, ip.into());
        }
        let lend = self.lend(subnet, ip, lease_s);
        self.reply(reply::dhcp::ack(
            &self.request,
            &lend,
            self.boot_now().ok().as_ref(),
        ))
    }

    pub(super) async fn bootp(&self) -> Outcome {
        let (client, link) = (self.client(), self.link());
        let lease = match self
            .port
            .core
            .leases
            .with_book(|book| book.bootp(self.now, &client, link))
        {
            Answer::Grant(lease) => lease,
            Answer::Nak(reason) | Answer::Silent(reason) => return Outcome::Ignore(reason),
        };
        let ip = lease.ip;
        let Some(subnet) = self.port.core.leases.subnet_of(ip) else {
            return Outcome::Ignore(Reason::NoSubnet);
        };
        let ends = lease.ends;
        match self.stored(lease).await {
            Ok(lease) if lease.ends == ends => {}
            // BOOTP has no word for less than for ever.
            Ok(_) => return Outcome::Ignore(Reason::NotStored),
            Err(reason) => return Outcome::Ignore(reason),
        }
        let lend = self.lend(subnet, ip, u32::MAX);
        self.reply(reply::bootp::reply(
            &self.request,
            &lend,
            self.boot_now().ok().as_ref(),
            false,
        ))
    }

    /// Makes a lease durable. While the database is away, who holds the address already keeps it for the term that is
    /// stored, and not a second longer; nobody gets a new one.
    async fn stored(&self, lease: Lease) -> Result<Lease, Reason> {
        let (leases, ip) = (&self.port.core.leases, lease.ip);
        let error = match leases.grant(lease.clone(), self.now).await {
            Ok(()) => return Ok(lease),
            Err(error) => error,
        };
        let held = match error {
            GrantError::Db(_) => leases.held(self.facts.mac, ip, self.now),
            GrantError::Commit(_) => None,
        };
        let held = held.map(|held| Lease {
            ends: held.ends.min(lease.ends),
            ..held
        });
        let Some(held) = held.filter(|held| held.ends.since(self.now) >= WORTH_TELLING) else {
            tracing::warn!(%ip, %error, "a lease could not be stored, so it is not acknowledged");
            return Err(Reason::NotStored);
        };
        tracing::warn!(%ip, %error, "a lease could not be prolonged, so its client keeps what is left of it");
        let left = held.ends.since(self.now);
        self.tell(|machine| Entry::lease_not_prolonged(machine, self.now, ip, left));
        Ok(held)
    }

    /// DHCPRELEASE and DHCPDECLINE get no answer (RFC 2131 4.3.3, 4.3.4).
    pub(super) async fn give_back(&self, kind: MessageType) -> Outcome {
        let leases = &self.port.core.leases;
        let done = match (kind, self.request.requested_address()) {
            (MessageType::Decline, Some(ip)) => leases.decline(self.facts.mac, ip, self.now).await,
            _ => {
                leases
                    .release(self.facts.mac, self.request.ciaddr, self.now)
                    .await
            }
        };
        match done {
            Ok(Ok(())) => Outcome::Ignore(Reason::NoAnswerDue),
            Ok(Err(reason)) => Outcome::Ignore(reason),
            Err(_) => Outcome::Ignore(Reason::NotStored),
        }
    }

    pub(super) fn inform(&self) -> Outcome {
        let ciaddr = self.request.ciaddr;
        if let Err(reason) = self
            .port
            .core
            .leases
            .with_book(|book| book.inform(ciaddr).map(drop))
        {
            return Outcome::Ignore(reason);
        }
        let Some(subnet) = self.port.core.leases.subnet_of(ciaddr) else {
            return Outcome::Ignore(Reason::NoSubnet);
        };
        let lend = self.lend(subnet, Ipv4Addr::UNSPECIFIED, 0);
        self.reply(reply::dhcp::inform_ack(
            &self.request,
            &lend,
            self.boot_now().ok().as_ref(),
        ))
    }

    /// What rides along with an answer that is no offer.
    fn boot_now(&self) -> Result<BootFile, Reason> {
        let strategy = match self.port.mode {
            Mode::Dhcp => self.strategy_now(),
            _ => Strategy::D,
        };
        self.boot(Service::Dhcp, self.style(strategy))
    }

    fn lend<'s>(&'s self, subnet: &'s SubnetConfig, yiaddr: Ipv4Addr, lease_s: u32) -> Lend<'s> {
        let theirs = if yiaddr.is_unspecified() {
            self.request.ciaddr
        } else {
            yiaddr
        };
        let classes = self.port.core.classes.options(self.classes);
        Lend {
            server_id: self.port.address,
            yiaddr,
            subnet_mask: subnet.subnet.mask(),
            lease_s,
            // RFC 2131 4.4.5: half, and seven eighths.
            t1_s: lease_s / 2,
            t2_s: lease_s / 8 * 7,
            options: parameter::select(&subnet.layers(theirs, classes), &self.request),
        }
    }

    fn client(&self) -> Client {
        let relay = self.facts.relay.as_ref();
        Client {
            uuid: self.facts.usable_uuid(),
            client_id: self.facts.client_id.clone(),
            circuit_id: relay.and_then(|relay| relay.circuit_id.clone()),
            remote_id: relay.and_then(|relay| relay.remote_id.clone()),
            classes: self.classes,
            hostname: self.facts.hostname.as_ref().map(ToString::to_string),
            known: self.who.machine.is_some(),
            never_nak: self.facts.never_nak(),
            ..Client::new(self.facts.mac)
        }
    }

    /// An address in the client's network: RFC 3527 link selection, else the relay, else us. Switches add
    /// option 82 without relaying (DHCP snooping); their clients are in our own network.
    pub(super) fn link(&self) -> Ipv4Addr {
        let Some(relay) = &self.facts.relay else {
            return self.port.address;
        };
        let relayed = Some(relay.giaddr).filter(|giaddr| !giaddr.is_unspecified());
        relay
            .link_selection
            .or(relayed)
            .unwrap_or(self.port.address)
    }

    /// Where the client is, for rules.
    pub(super) fn place(&self) -> Place {
        let core = &self.port.core;
        core.place_on(self.link(), self.request.ciaddr, self.facts.mac)
    }
}

/// A lease of less would be over before its client has asked again.
const WORTH_TELLING: Duration = Duration::from_secs(10);
/// Three in a row are taken: the client asks again, and the next ones are tried then.
const MAX_TRIES: usize = 3;
