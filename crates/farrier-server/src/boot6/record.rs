//! What came over IPv6, what is to follow it, and what is told of both.

use std::net::Ipv6Addr;

use farrier_engine::Reason;
use farrier_engine::facts::{BootFacts, Stage};
use farrier_engine::model::MachineId;
use farrier_engine::silence::{Awaited, By};
use farrier_engine::timeline::Entry;
use farrier_proto::wire::dhcpv6::{Message, MessageType};
use farrier_proto::wire::dhcpv6_option::BOOT_FILE_URL;

use super::{Asked, first_lent};
use crate::core::now;

impl Asked<'_> {
    pub(super) fn record_request(&self) {
        let Some(facts) = &self.facts else { return };
        let name = self.request.kind.name();
        if self.request.kind == MessageType::Solicit && facts.wants_boot() {
            self.port.core.sightings.boot_began(facts.mac, now());
        }
        self.tell(|machine| Entry::packet_seen(machine, now(), name, facts));
    }

    /// What the machine should do after this answer, if it boots at all.
    pub(super) fn expect(&self, answered: &Result<Message, Reason>) {
        let Some(facts) = self.facts.as_ref().filter(|facts| is_news(facts)) else {
            return;
        };
        let asks = matches!(
            self.request.kind,
            MessageType::Solicit | MessageType::Request | MessageType::InformationRequest
        );
        let core = &self.port.core;
        let awaited = match answered {
            // It went on elsewhere, which is told.
            Err(Reason::NamesOtherServer) => None,
            Ok(reply) if asks => awaited_after(reply, |ip| core.owner6(ip) == Some(facts.mac)),
            Ok(_) | Err(_) => return,
        };
        match awaited {
            Some(awaited) => core.silences.expect(facts.mac, awaited, now()),
            None => core.silences.nothing(facts.mac, By::Dhcpv6),
        }
    }

    /// Who names no machine has no timeline.
    pub(super) fn tell(&self, entry: impl FnOnce(MachineId) -> Entry) {
        let Some(facts) = &self.facts else { return };
        if is_news(facts) {
            let machine = self.who.machine.as_deref();
            self.port.core.tell_of(facts.mac, machine, entry);
        }
    }
}

/// An operating system that renews its lease is none.
fn is_news(facts: &BootFacts) -> bool {
    facts.stage != Stage::Os || facts.wants_boot()
}

/// What follows an answer that names a boot file; firmware goes on after no other. `is_known` says whether we know the
/// machine by this address, without which we would not know that the file was asked for by it. Whoever has his address
/// from a router or another server may have any.
fn awaited_after(reply: &Message, is_known: impl Fn(Ipv6Addr) -> bool) -> Option<Awaited> {
    if !reply.options.contains(BOOT_FILE_URL) {
        return None;
    }
    let lent = first_lent(reply);
    match reply.kind {
        MessageType::Advertise => lent.map(|_| Awaited::Request6),
        _ => lent.is_some_and(is_known).then_some(Awaited::File6),
    }
}
