//! The PXE boot server on port 4011: the second half of BINL-style ProxyDHCP and of boot-server
//! discovery (PXE 2.1 sections 2.2.5 and 3.3).

use std::net::Ipv4Addr;

use super::BootFile;
use super::boot_file::PXE_CLIENT;
use super::skeleton::{close, echo, open, reach_without_address};
use crate::wire::dhcpv4::{Message, MessageType};
use crate::wire::option;
use crate::wire::pxe::{BootItem, PxeVendorOptions};

/// DHCPACK without an address.
///
/// A request for a boot item (43.71) gets exactly this item back: the firmware compares. Without one, and without
/// MTFTP, option 43 is left out, as the file in this packet is then the answer by itself.
#[must_use]
pub fn ack(request: &Message, server_id: Ipv4Addr, boot: &BootFile) -> Message {
    let mut reply = open(request, MessageType::Ack, server_id);
    reply.ciaddr = request.ciaddr;
    reach_without_address(&mut reply);
    echo(request, &mut reply, option::CLIENT_IDENTIFIER);
    boot.fill_header(&mut reply);
    boot.fill_server_name(request, &mut reply);
    reply
        .options
        .set(option::VENDOR_CLASS_IDENTIFIER, PXE_CLIENT);
    echo(request, &mut reply, option::CLIENT_MACHINE_IDENTIFIER);
    let item = requested_boot_item(request);
    if item.is_some() || boot.mtftp.is_some() {
        let vendor = PxeVendorOptions {
            boot_item: item,
            mtftp: boot.mtftp,
            ..PxeVendorOptions::default()
        };
        reply
            .options
            .set(option::VENDOR_SPECIFIC_INFORMATION, vendor.encode());
    }
    boot.fill_name(request, &mut reply, boot.style);
    close(request, reply)
}

/// The boot item a request asks for, if its option 43 can be read.
#[must_use]
pub fn requested_boot_item(request: &Message) -> Option<BootItem> {
    let vendor = request.options.get(option::VENDOR_SPECIFIC_INFORMATION)?;
    PxeVendorOptions::decode(vendor).ok()?.boot_item
}
