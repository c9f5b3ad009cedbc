//! Addresses lent to clients.

use std::net::Ipv4Addr;

use farrier_proto::MacAddr;

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
