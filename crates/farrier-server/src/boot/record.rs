//! The last step: what came and what went, as lines on the machine's timeline.

use farrier_engine::Reason;
use farrier_engine::facts::Stage;
use farrier_engine::model::MachineId;
use farrier_engine::silence::{Awaited, By};
use farrier_engine::timeline::Entry;
use farrier_proto::wire::dhcpv4::{Message, MessageType};
use farrier_proto::wire::option;
use farrier_proto::wire::pxe::PxeVendorOptions;

use super::{Asked, Outcome};
use crate::bind::DHCP_PORT;
use crate::exchanges::Exchange;

impl Asked<'_> {
    /// What came says that the last offer was understood, unless it is the question for one.
    pub(super) fn note_sign(&self, outcome: &Outcome) {
        let is_discover = self.request.message_type() == Some(MessageType::Discover);
        let asks_anew = is_discover && self.port.port == DHCP_PORT;
        let answered = matches!(outcome, Outcome::Reply { .. });
        if !asks_anew && answered || self.facts.stage != Stage::Firmware {
            self.note_progress();
        }
    }

    /// Who was answered here, or chose another server after we spoke, may fetch files, and so many bytes of them
    /// as were paid for (`T8`).
    pub(super) fn remember(&self, outcome: &Outcome, heard: usize) {
        if let Outcome::Reply { .. } | Outcome::Ignore(Reason::ChoseOtherServer) = outcome {
            let own = Some(self.request.ciaddr).filter(|ciaddr| !ciaddr.is_unspecified());
            let address = own.or_else(|| self.request.requested_address());
            let answered = match outcome {
                Outcome::Reply { reply, .. } => reply.encoded_len(),
                Outcome::Ignore(_) => 0,
            };
            let exchange = Exchange {
                mac: self.facts.mac,
                address,
                known: self.who.machine.is_some(),
                heard,
                answered,
            };
            self.port.core.exchanges.saw(&exchange, self.now);
        }
    }

    pub(super) fn record_request(&self) {
        let sightings = &self.port.core.sightings;
        sightings.said(self.facts.mac, &self.facts, self.now);
        let asks_anew = matches!(
            self.request.message_type(),
            None | Some(MessageType::Discover)
        );
        if asks_anew && self.facts.wants_boot() {
            sightings.boot_began(self.facts.mac, self.now);
        }
        if self.is_news() {
            self.tell(|machine| {
                Entry::packet_seen(machine, self.now, self.message_name(), &self.facts)
            });
        }
    }

    pub(super) fn record(&self, outcome: &Outcome) {
        self.count_for_relay(outcome);
        if !self.is_news() {
            return;
        }
        self.expect(outcome);
        let message = self.message_name();
        match outcome {
            Outcome::Reply { reply, .. } if !reply.yiaddr.is_unspecified() => {
                let sent = if reply.message_type() == Some(MessageType::Offer) {
                    "DHCPOFFER"
                } else {
                    "DHCPACK"
                };
                self.tell(|machine| Entry::address_answered(machine, self.now, sent, reply.yiaddr));
            }
            Outcome::Reply { .. }
            | Outcome::Ignore(Reason::ChoseOtherServer | Reason::NoAnswerDue) => {}
            Outcome::Ignore(reason) => {
                self.tell(|machine| Entry::refused(machine, self.now, message, *reason))
            }
        }
    }

    /// Whoever it is behind a relay: a way back that is closed is so for all.
    fn count_for_relay(&self, outcome: &Outcome) {
        let relays = &self.port.core.relays;
        match outcome {
            Outcome::Reply { reply, .. } if reply.message_type() == Some(MessageType::Offer) => {
                relays.offered(self.request.giaddr);
            }
            Outcome::Reply { .. } => relays.requested(self.request.giaddr),
            Outcome::Ignore(_) => {}
        }
    }

    /// What the machine should do after this answer, if it boots at all.
    fn expect(&self, outcome: &Outcome) {
        let silences = &self.port.core.silences;
        let Outcome::Reply { reply, .. } = outcome else {
            return;
        };
        let has_file = !reply.file.is_empty() || reply.options.contains(option::BOOTFILE_NAME);
        let awaited = match reply.message_type() {
            // A person may take long before a menu.
            _ if shows_menu(reply) => None,
            Some(MessageType::Offer) if !self.facts.wants_boot() => None,
            Some(MessageType::Offer) if reply.yiaddr.is_unspecified() => Some(Awaited::Choice),
            Some(MessageType::Offer) => Some(Awaited::Request),
            _ => has_file.then_some(Awaited::File),
        };
        match awaited {
            Some(awaited) => silences.expect(self.facts.mac, awaited, self.now),
            None => silences.nothing(self.facts.mac, By::Dhcp),
        }
    }

    pub(super) fn message_name(&self) -> &'static str {
        match self.request.message_type() {
            None => "BOOTREQUEST",
            Some(MessageType::Discover) => "DHCPDISCOVER",
            Some(MessageType::Request) => "DHCPREQUEST",
            Some(MessageType::Decline) => "DHCPDECLINE",
            Some(MessageType::Release) => "DHCPRELEASE",
            Some(MessageType::Inform) => "DHCPINFORM",
            Some(MessageType::Offer | MessageType::Ack | MessageType::Nak) => "a server's message",
        }
    }

    /// An operating system that renews its lease is no news.
    fn is_news(&self) -> bool {
        self.facts.stage != Stage::Os || self.facts.wants_boot()
    }

    pub(super) fn tell(&self, entry: impl FnOnce(MachineId) -> Entry) {
        self.port
            .core
            .tell_of(self.facts.mac, self.who.machine.as_deref(), entry);
    }
}

/// Whether the client's ROM shows a menu after this reply.
fn shows_menu(reply: &Message) -> bool {
    let vendor = reply.options.get(option::VENDOR_SPECIFIC_INFORMATION);
    let options = vendor.and_then(|vendor| PxeVendorOptions::decode(vendor).ok());
    options.is_some_and(|options| !options.boot_menu.is_empty())
}
