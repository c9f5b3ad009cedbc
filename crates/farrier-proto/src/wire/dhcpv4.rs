//! The BOOTP/DHCP message (RFC 951, RFC 2131 section 2), with the header fields by their RFC names.

use std::net::Ipv4Addr;

use super::dhcp_option::Options;
use crate::MacAddr;

/// BOOTP operation, the first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// BOOTREQUEST, client to server.
    Request,
    /// BOOTREPLY, server to client.
    Reply,
}

/// Transaction id chosen by the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Xid(pub u32);

/// DHCP message type, option 53.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum MessageType {
    Discover = 1,
    Offer = 2,
    Request = 3,
    Decline = 4,
    Ack = 5,
    Nak = 6,
    Release = 7,
    Inform = 8,
}

/// A decoded BOOTP or DHCP message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub op: Op,
    pub htype: u8,
    pub hlen: u8,
    pub hops: u8,
    pub xid: Xid,
    pub secs: u16,
    /// All sixteen bits; only the first (broadcast) has a meaning.
    pub flags: u16,
    pub ciaddr: Ipv4Addr,
    pub yiaddr: Ipv4Addr,
    pub siaddr: Ipv4Addr,
    pub giaddr: Ipv4Addr,
    pub chaddr: [u8; 16],
    /// Up to the first NUL; empty when it held overloaded options.
    pub sname: Vec<u8>,
    /// Up to the first NUL; empty when it held overloaded options.
    pub file: Vec<u8>,
    /// Whether the magic cookie was there. Without it there are no options (plain RFC 951).
    pub cookie: bool,
    pub options: Options,
}

impl Message {
    /// The client's Ethernet address, if `htype`/`hlen` say it has one.
    #[must_use]
    pub fn mac(&self) -> Option<MacAddr> {
        if self.htype != 1 || self.hlen != 6 {
            return None;
        }
        self.chaddr.first_chunk().copied().map(MacAddr)
    }

    /// The broadcast flag (RFC 2131 section 2, figure 2).
    #[must_use]
    pub fn wants_broadcast(&self) -> bool {
        self.flags & 0x8000 != 0
    }
}
