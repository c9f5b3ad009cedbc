//! What one machine has in the places of an image: what our DHCP told it, what is known of it, and values of people's
//! own.
//!
//! Nothing is guessed. Another DHCP server's router is not known here, so that value is empty where we did not lend the
//! address ourselves.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};

use farrier_engine::facts::BootFacts;
use farrier_engine::medium_value::{ValueName, ValueText};
use farrier_engine::model::Machine;
use farrier_engine::parameter::{self, Setting};
use farrier_engine::policy::media_values;
use farrier_net::interface::network;
use farrier_proto::MacAddr;
use farrier_proto::wire::option;

use crate::core::{Core, now};
use crate::whereabouts::Place;

/// Whose values are wanted, as far as it is known.
#[derive(Clone, Debug, Default)]
pub struct Whose<'a> {
    pub mac: Option<MacAddr>,
    pub machine: Option<&'a Machine>,
    pub address: Option<IpAddr>,
    /// Our address that it asks at.
    pub server: Option<IpAddr>,
    /// The networks that we are in ourselves, by any address of each.
    pub networks: &'a [(Ipv4Addr, u8)],
}

/// One value of one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnValue {
    pub name: ValueName,
    pub text: Option<ValueText>,
    /// Who says so; without a text, why nothing is known.
    pub origin: Cow<'static, str>,
}

/// All of them: those that Farrier knows by itself, then people's own by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values(Vec<OwnValue>);

impl Values {
    pub fn iter(&self) -> impl Iterator<Item = &OwnValue> {
        self.0.iter()
    }

    #[must_use]
    pub fn find(&self, name: &ValueName) -> Option<&OwnValue> {
        self.0.iter().find(|value| value.name == *name)
    }

    /// In place of another of that name.
    pub fn put(&mut self, value: OwnValue) {
        match self.0.iter_mut().find(|known| known.name == value.name) {
            Some(known) => *known = value,
            None => self.0.push(value),
        }
    }

    fn know(
        &mut self,
        name: &str,
        text: Option<impl ToString>,
        origin: impl Into<Cow<'static, str>>,
        or_why: &'static str,
    ) {
        let text = text.and_then(|text| ValueText::new(text.to_string()).ok());
        let origin = if text.is_some() {
            origin.into()
        } else {
            or_why.into()
        };
        let name = ValueName::new(name).expect("names of ours are names");
        self.put(OwnValue { name, text, origin });
    }
}

impl Core {
    /// Every value of one machine. One of people's own counts before what Farrier knows by itself.
    #[must_use]
    pub fn media_values(&self, whose: &Whose<'_>) -> Values {
        let facts = whose.facts();
        let mut values = self.known_values(whose, facts.as_ref());
        let (rules, snapshot) = (self.rules.load(), self.snapshot.load());
        let judged = rules.judge(facts.as_ref(), whose.machine, || self.place_of_whose(whose));
        for (name, (text, origin)) in media_values(&snapshot, whose.machine, &judged) {
            values.put(OwnValue {
                name: name.clone(),
                text: Some(text.clone()),
                origin: origin.to_string().into(),
            });
        }
        values
    }

    fn known_values(&self, whose: &Whose<'_>, facts: Option<&BootFacts>) -> Values {
        let mut values = Values::default();
        let name = whose.machine.and_then(|machine| machine.name.as_ref());
        values.know("name", name, "machine", "the machine has no name");
        values.know("address", whose.address, "machine", "it has no address");
        let (prefix, origin) = match self.network_of(whose) {
            Some((prefix, origin)) => (Some(prefix), origin),
            None => (None, String::new()),
        };
        let no_network = "its network is neither configured nor one of ours";
        let mask = prefix.map(|prefix| network(Ipv4Addr::BROADCAST, prefix));
        values.know("mask", mask, origin.clone(), no_network);
        values.know("prefix", prefix, origin, no_network);
        let told = self.told(whose, facts);
        for (name, code) in [
            ("router", option::ROUTER),
            ("dns", option::DOMAIN_NAME_SERVER),
            ("domain", option::DOMAIN_NAME),
        ] {
            let why = match told {
                None => "another server lent its address",
                Some(_) => "its DHCP options do not say",
            };
            let setting = told.iter().flatten().find(|setting| setting.code == code);
            let origin = setting.map_or_else(String::new, |s| format!("DHCP option, {}", s.origin));
            values.know(name, setting.and_then(first_of), origin, why);
        }
        values.know("mac", whose.mac, "machine", "it is not known");
        values.know("server", whose.server, "server", "it is not known");
        let group = whose.machine.and_then(|machine| machine.group.as_ref());
        let group = group.map(|group| group.as_str());
        values.know("group", group, "machine", "the machine is in no group");
        values
    }

    /// The prefix length of its network, and who says so.
    fn network_of(&self, whose: &Whose<'_>) -> Option<(u8, String)> {
        let ip = whose.ipv4()?;
        if let Some(found) = self.leases.subnet_of(ip) {
            let name = self.place_at(ip.into()).subnet;
            return Some((found.subnet.prefix, format!("subnet {name}")));
        }
        let is_near =
            |(ours, prefix): &&(Ipv4Addr, u8)| network(ip, *prefix) == network(*ours, *prefix);
        let (_, prefix) = whose.networks.iter().find(is_near)?;
        Some((*prefix, "server's network".to_owned()))
    }

    /// The DHCP options for the address that we lent it; none where we did not.
    fn told(&self, whose: &Whose<'_>, facts: Option<&BootFacts>) -> Option<Vec<&Setting>> {
        let ip = whose.ipv4()?;
        self.leases
            .holder(ip, now())
            .filter(|mac| Some(*mac) == whose.mac)?;
        let subnet = self.leases.subnet_of(ip)?;
        let classes = facts.map(|facts| {
            self.classes
                .judge(facts, whose.machine, || self.place_of_whose(whose))
        });
        let layers = subnet.layers(ip, self.classes.options(classes.unwrap_or_default()));
        Some(parameter::effective(&layers))
    }

    fn place_of_whose(&self, whose: &Whose<'_>) -> Place {
        let known = whose.address.map(|address| self.place_at(address));
        known.unwrap_or_default()
    }
}

impl Whose<'_> {
    fn ipv4(&self) -> Option<Ipv4Addr> {
        match self.address {
            Some(IpAddr::V4(ip)) => Some(ip),
            _ => None,
        }
    }

    /// What a floppy's machine is known by: such images start on a BIOS.
    fn facts(&self) -> Option<BootFacts> {
        let mac = self.mac?.to_string();
        let said = [
            ("mac", mac.as_str()),
            ("platform", "pcbios"),
            ("buildarch", "x86_64"),
        ];
        BootFacts::from_http(said).ok()
    }
}

/// An option's text, or the first of its addresses.
fn first_of(setting: &&Setting) -> Option<String> {
    if setting.code == option::DOMAIN_NAME {
        return String::from_utf8(setting.value.clone()).ok();
    }
    let first = setting.value.first_chunk().copied();
    first.map(|address: [u8; 4]| Ipv4Addr::from(address).to_string())
}
