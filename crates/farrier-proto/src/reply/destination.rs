//! Where a reply must travel (RFC 2131 section 4.1), as a closed list of cases.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::MacAddr;
use crate::wire::dhcpv4::{Message, MessageType};

/// The ways a reply can travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyTo {
    /// Unicast to the relay agent.
    Relay(SocketAddrV4),
    /// Unicast to an address the client already uses, so that it answers ARP.
    Ciaddr(SocketAddrV4),
    /// Limited broadcast on the interface the request came in by, to this port.
    Broadcast { port: u16 },
    /// To `addr`, which the client cannot defend by ARP yet: the frame is addressed by hand.
    HardwareUnicast { addr: SocketAddrV4, mac: MacAddr },
    /// Back to where the request came from, to the very port.
    SourcePort(SocketAddrV4),
}

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
/// Where PXE boot servers listen.
const BOOT_SERVER_PORT: u16 = 4011;

/// Decides where `reply` goes. `source` is where `request` came from, `local_port` the port it came to.
#[must_use]
pub fn destination(
    request: &Message,
    reply: &Message,
    source: SocketAddrV4,
    local_port: u16,
) -> ReplyTo {
    // edk2 listens on 4011 there and ROMs on 68; both say which by sending from it.
    if local_port == BOOT_SERVER_PORT {
        return match source.ip().is_unspecified() {
            true => ReplyTo::Broadcast {
                port: source.port(),
            },
            false => ReplyTo::SourcePort(source),
        };
    }
    if !request.giaddr.is_unspecified() {
        return ReplyTo::Relay(SocketAddrV4::new(request.giaddr, SERVER_PORT));
    }
    if reply.message_type() == Some(MessageType::Nak) {
        return ReplyTo::Broadcast { port: CLIENT_PORT };
    }
    if !request.ciaddr.is_unspecified() {
        return ReplyTo::Ciaddr(SocketAddrV4::new(request.ciaddr, CLIENT_PORT));
    }
    // An INFORM must have ciaddr; those that forget it have an address all the same.
    if request.message_type() == Some(MessageType::Inform) && !source.ip().is_unspecified() {
        return ReplyTo::Ciaddr(SocketAddrV4::new(*source.ip(), CLIENT_PORT));
    }
    match request.mac() {
        Some(mac) if !request.wants_broadcast() && !reply.yiaddr.is_unspecified() => {
            ReplyTo::HardwareUnicast {
                addr: SocketAddrV4::new(reply.yiaddr, CLIENT_PORT),
                mac,
            }
        }
        _ => ReplyTo::Broadcast { port: CLIENT_PORT },
    }
}

impl ReplyTo {
    /// The address and port in the packet.
    #[must_use]
    pub fn addr(self) -> SocketAddrV4 {
        match self {
            Self::Relay(addr) | Self::Ciaddr(addr) | Self::SourcePort(addr) => addr,
            Self::HardwareUnicast { addr, .. } => addr,
            Self::Broadcast { port } => SocketAddrV4::new(Ipv4Addr::BROADCAST, port),
        }
    }
}
