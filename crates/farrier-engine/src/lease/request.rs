//! Which of the cases of RFC 2131 section 4.3.2 a DHCPREQUEST is.

use std::net::Ipv4Addr;

use farrier_proto::wire::dhcpv4::Message;

/// A DHCPREQUEST by what it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestCase {
    /// Takes up an offer.
    Selecting {
        server: Ipv4Addr,
        requested: Ipv4Addr,
    },
    /// Was here before, and wants to know whether its address still holds.
    InitReboot { requested: Ipv4Addr },
    /// Prolongs its lease with the server it has it from.
    Renewing { ciaddr: Ipv4Addr },
    /// Prolongs its lease with any server.
    Rebinding { ciaddr: Ipv4Addr },
    /// None of the above.
    Malformed,
}

impl RequestCase {
    /// `unicast`: whether the packet was sent to our own address rather than to everybody.
    #[must_use]
    pub fn of(message: &Message, unicast: bool) -> Self {
        let set = |ip: &Ipv4Addr| !ip.is_unspecified();
        let requested = message.requested_address().filter(set);
        let server = message.server_identifier().filter(set);
        let ciaddr = Some(message.ciaddr).filter(set);
        match (server, requested, ciaddr) {
            (Some(server), Some(requested), _) => Self::Selecting { server, requested },
            // Some loaders repeat their address in ciaddr instead of option 50.
            (Some(server), None, Some(ciaddr)) => Self::Selecting {
                server,
                requested: ciaddr,
            },
            (None, Some(requested), None) => Self::InitReboot { requested },
            (None, _, Some(ciaddr)) if unicast => Self::Renewing { ciaddr },
            (None, _, Some(ciaddr)) => Self::Rebinding { ciaddr },
            (_, None, None) => Self::Malformed,
        }
    }
}
