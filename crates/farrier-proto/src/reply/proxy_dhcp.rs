//! ProxyDHCP: boot parameters beside a foreign DHCP server, without an address (PXE 2.1 section 2.2).

use std::net::Ipv4Addr;

use super::skeleton::{close, echo, open, reach_without_address};
use super::{BootFile, BootStyle};
use crate::wire::dhcpv4::{Message, MessageType};
use crate::wire::option;

/// DHCPOFFER with yiaddr 0.
///
/// The styles give the strategies in use: [`BootStyle::PxeFinal`] is A (BIOS ROMs) and C (good edk2),
/// [`BootStyle::AskPort4011`] is B (BINL style, understood by the widest set of UEFI). A client knows a
/// proxy's offer by option 60 alone, so the other two PXE styles are sent as `PxeFinal`.
#[must_use]
pub fn offer(request: &Message, server_id: Ipv4Addr, boot: &BootFile) -> Message {
    let mut reply = open(request, MessageType::Offer, server_id);
    reach_without_address(&mut reply);
    echo(request, &mut reply, option::CLIENT_IDENTIFIER);
    boot.fill_header(&mut reply);
    boot.fill_server_name(request, &mut reply);
    let style = match boot.style {
        BootStyle::Plain | BootStyle::Ipxe { .. } => BootStyle::PxeFinal,
        style => style,
    };
    boot.fill_class(request, &mut reply, style);
    close(request, reply)
}
