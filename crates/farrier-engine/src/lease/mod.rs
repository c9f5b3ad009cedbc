//! Addresses lent to clients.
//!
//! [`LeaseBook`] decides who gets which address and remembers it in memory; the caller makes it
//! durable. The order matters: store what [`LeaseBook::request`] grants, then
//! [`LeaseBook::commit`] it, then send the DHCPACK. If power fails before the store, the client has
//! no ACK; if it fails after, the stored lease is [`restored`](LeaseBook::commit) at start.
//!
//! An address is bound to subnet and hardware address, not to option 61: firmware, loader and system
//! of one machine send different client identifiers and must get the same address.
//!
//! `now` should come from a clock that does not jump (start time plus monotonic time).

mod book;
mod class;
mod pages;
mod request;
mod reserved;
#[cfg(test)]
mod reserved_tests;
#[cfg(test)]
mod shared_tests;
mod subnet;
#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;

use farrier_proto::MacAddr;

pub use book::{Answer, CommitError, LeaseBook, Offered};
pub use class::{Admits, ClassRange, Classes};
pub use request::RequestCase;
pub use reserved::Holder;
pub use subnet::{AddressRange, Reservation, Subnet, SubnetError};
use uuid::Uuid;

use crate::WallTime;

/// One address lent to one client, as it is stored. `ip` is the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub ip: Ipv4Addr,
    pub mac: MacAddr,
    /// Option 61 as last sent, for show; the lease is bound to the hardware address, since firmware,
    /// loader and system send different ones (`protocols.md` 2, "several identities").
    pub client_id: Option<Vec<u8>>,
    pub hostname: Option<String>,
    pub state: LeaseState,
    pub starts: WallTime,
    pub ends: WallTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LeaseState {
    Active,
    /// A client found the address in use (DHCPDECLINE): not given out until `ends`.
    Declined,
    /// Given back or run out.
    Free,
}

/// Who asks for an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    pub mac: MacAddr,
    /// From option 97, for reservations by UUID.
    pub uuid: Option<Uuid>,
    pub client_id: Option<Vec<u8>>,
    /// Option 82, sub-options 1 and 2: where it is plugged in.
    pub circuit_id: Option<Vec<u8>>,
    pub remote_id: Option<Vec<u8>>,
    pub classes: Classes,
    pub hostname: Option<String>,
    /// A machine of ours: it may use the share of the pool that is kept back.
    pub known: bool,
    /// Firmware and loaders leave the network boot on a DHCPNAK (ironic-image#195): for them every
    /// no is a silence.
    pub never_nak: bool,
}

impl Client {
    /// An unknown client of which only the hardware address is known.
    #[must_use]
    pub fn new(mac: MacAddr) -> Self {
        Self {
            mac,
            uuid: None,
            client_id: None,
            circuit_id: None,
            remote_id: None,
            classes: Classes::default(),
            hostname: None,
            known: false,
            never_nak: false,
        }
    }
}
