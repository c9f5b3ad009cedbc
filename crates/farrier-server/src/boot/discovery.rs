//! Menus of ROMs, and the boot server that their items are asked of (PXE 2.1 sections 2.2.5 and 3.3).
//!
//! A request for an item comes by broadcast to port 67, by multicast or by unicast to port 4011, and through relays.
//! It says that the machine has an address already, so no lease is touched, whoever lent it.

use farrier_engine::facts::Protocol;
use farrier_engine::policy::{Known, Service, resolve};
use farrier_engine::rom_menu::{device_menu, picked, rom_menu};
use farrier_engine::timeline::Entry;
use farrier_proto::reply::BootStyle;
use farrier_proto::reply::boot_server::{self, requested_boot_item};
use farrier_proto::wire::dhcpv4::MessageType;
use farrier_proto::wire::pxe::{BootItem, PxeVendorOptions};

use super::{Asked, Outcome};

impl Asked<'_> {
    /// The boot item that is asked for, if that is what this request is about.
    pub(super) fn boot_item(&self) -> Option<BootItem> {
        let asks = matches!(
            self.request.message_type(),
            Some(MessageType::Request | MessageType::Inform)
        );
        let item = || requested_boot_item(&self.request);
        (asks && self.facts.protocol == Protocol::Pxe)
            .then(item)
            .flatten()
    }

    /// Names the loader for an item of ours. What was picked is done by the loader's script.
    pub(super) fn boot_item_server(&self, item: BootItem) -> Outcome {
        let entry = match picked(item) {
            Ok(entry) => entry,
            Err(reason) => return Outcome::Ignore(reason),
        };
        let boot = match self.boot(Service::Proxy, BootStyle::AskPort4011) {
            Ok(boot) => boot,
            Err(reason) => return Outcome::Ignore(reason),
        };
        let choices = &self.port.core.choices;
        choices.pick(self.facts.mac, entry, self.now);
        self.tell(|machine| Entry::picked_in_rom(machine, self.now, entry));
        self.reply(boot_server::ack(&self.request, self.port.address, &boot))
    }

    /// The menu that goes out with an offer, unless somebody has picked from it already.
    pub(super) fn rom_menu(&self) -> Option<PxeVendorOptions> {
        if let Some(menu) = device_menu(&self.facts) {
            return Some(menu);
        }
        let core = &self.port.core;
        if core.choices.is_made(self.facts.mac, self.now) {
            return None;
        }
        let snapshot = core.snapshot.load();
        let rules = core.rules.load();
        let machine = self.who.machine.as_deref();
        let judged = rules.judge(Some(&self.facts), machine, || self.place());
        // The usual case, without the work of a whole decision.
        if !resolve(&snapshot, machine, &judged).policy.rom_menu {
            return None;
        }
        let known = Known {
            rules: &judged,
            boot_began: core.sightings.began(self.facts.mac),
            ..self.who.known(&[])
        };
        let menu = rom_menu(&self.facts, &known, &snapshot, self.now)?;
        Some(menu.options(self.port.address))
    }
}
