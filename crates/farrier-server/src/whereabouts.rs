//! Where machines are on the network, as rules may ask: the address, and the network it belongs to.
//!
//! A request says it best. For what people ask on the page there is what was last heard of the machine, and after a
//! restart its lease.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use farrier_engine::model::{Machine, MachineId};
use farrier_proto::MacAddr;

use crate::core::{Core, now};

/// Where somebody is, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// What it speaks from; none before it has an address.
    pub address: Option<IpAddr>,
    /// An address of its network, which may be that of a relay or our own. None where nothing is known.
    pub link: Option<IpAddr>,
    /// The name of the configured network, or what it is, such as `10.0.0.0/24`; empty outside of all of them.
    pub subnet: String,
}

/// Where each machine was last heard.
#[derive(Debug, Default)]
pub struct Whereabouts(Mutex<HashMap<MachineId, IpAddr>>);

impl Whereabouts {
    pub fn heard(&self, machine: MachineId, address: IpAddr) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Machines that were forgotten since make room.
        if heard.len() >= MAX_HEARD && !heard.contains_key(&machine) {
            heard.clear();
        }
        heard.insert(machine, address.to_canonical());
    }

    fn last(&self, machine: MachineId) -> Option<IpAddr> {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.get(&machine).copied()
    }
}

impl Core {
    /// The place of who speaks from `address`.
    #[must_use]
    pub fn place_at(&self, address: IpAddr) -> Place {
        let address = address.to_canonical();
        Place {
            address: Some(address),
            link: Some(address),
            subnet: self.subnet_name(address),
        }
    }

    /// The place of a DHCP client that asks from the network of `link`. It has the address that it uses, else one of
    /// that network that it was lent; a lease from another network is of another day.
    #[must_use]
    pub fn place_on(&self, link: Ipv4Addr, ciaddr: Ipv4Addr, mac: MacAddr) -> Place {
        if !ciaddr.is_unspecified() {
            return self.place_at(ciaddr.into());
        }
        let held = self.leases.with_book(|book| book.address_of(now(), mac));
        match held.filter(|held| self.is_one_wire(*held, link)) {
            Some(held) => self.place_at(held.into()),
            None => Place {
                address: None,
                ..self.place_at(link.into())
            },
        }
    }

    /// The place of a DHCPv6 client in the network of `link`, of whose addresses nothing is known.
    #[must_use]
    pub fn place_on6(&self, link: Ipv6Addr) -> Place {
        Place {
            address: None,
            ..self.place_at(link.into())
        }
    }

    /// Where a machine was last heard, else where it holds a lease.
    #[must_use]
    pub fn place_of(&self, machine: &Machine) -> Place {
        let leased = || {
            let held = |mac: &MacAddr| self.leases.with_book(|book| book.address_of(now(), *mac));
            machine.macs.iter().find_map(held).map(IpAddr::from)
        };
        let address = self.whereabouts.last(machine.id).or_else(leased);
        address.map_or_else(Place::default, |address| self.place_at(address))
    }

    fn is_one_wire(&self, one: Ipv4Addr, other: Ipv4Addr) -> bool {
        let (Some(one), Some(other)) = (self.leases.subnet_of(one), self.leases.subnet_of(other))
        else {
            return false;
        };
        let (one, other) = (&one.subnet, &other.subnet);
        one.network == other.network || (one.shared.is_some() && one.shared == other.shared)
    }

    fn subnet_name(&self, address: IpAddr) -> String {
        let found = match address {
            IpAddr::V4(address) => self.leases.subnet_of(address).map(|found| {
                let network = &found.subnet;
                let written = || format!("{}/{}", network.network, network.prefix);
                found
                    .name
                    .as_ref()
                    .map_or_else(written, ToString::to_string)
            }),
            IpAddr::V6(address) => self.subnet6_of(address).map(|found| {
                let written = || format!("{}/64", found.network);
                found
                    .name
                    .as_ref()
                    .map_or_else(written, ToString::to_string)
            }),
        };
        found.unwrap_or_default()
    }
}

/// More machines than one server boots; each costs some forty bytes.
const MAX_HEARD: usize = 1 << 17;
