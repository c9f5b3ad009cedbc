//! The DHCP server's replies (RFC 2131 section 4.3, table 3).
//!
//! OFFER and ACK are built each from its own request, never one from the other: SLOF and s390x tell
//! their architecture only in the REQUEST.

use std::net::Ipv4Addr;

use super::skeleton::{add, close, echo, open, reach_without_address};
use super::{BootFile, Lend};
use crate::wire::dhcpv4::{Message, MessageType};
use crate::wire::option;

/// DHCPOFFER to a DISCOVER.
#[must_use]
pub fn offer(request: &Message, lend: &Lend<'_>, boot: Option<&BootFile>) -> Message {
    lending(request, MessageType::Offer, lend, boot)
}

/// DHCPACK to a REQUEST.
#[must_use]
pub fn ack(request: &Message, lend: &Lend<'_>, boot: Option<&BootFile>) -> Message {
    let mut reply = lending(request, MessageType::Ack, lend, boot);
    reply.ciaddr = request.ciaddr;
    reply
}

/// DHCPACK to an INFORM: parameters only, no address and no times (RFC 2131 section 4.3.5).
#[must_use]
pub fn inform_ack(request: &Message, lend: &Lend<'_>, boot: Option<&BootFile>) -> Message {
    let mut reply = open(request, MessageType::Ack, lend.server_id);
    reply.ciaddr = request.ciaddr;
    fill_parameters(request, &mut reply, lend, boot);
    close(request, reply)
}

/// DHCPNAK. Behind a relay the client has no usable address, so the relay is told to broadcast
/// (RFC 2131 section 4.3.2). `reason` is shown by some clients.
#[must_use]
pub fn nak(request: &Message, server_id: Ipv4Addr, reason: &str) -> Message {
    let mut reply = open(request, MessageType::Nak, server_id);
    reach_without_address(&mut reply);
    if !reason.is_empty() {
        reply.options.set(option::MESSAGE, reason);
    }
    echo(request, &mut reply, option::CLIENT_IDENTIFIER);
    close(request, reply)
}

fn lending(
    request: &Message,
    kind: MessageType,
    lend: &Lend<'_>,
    boot: Option<&BootFile>,
) -> Message {
    let mut reply = open(request, kind, lend.server_id);
    reply.yiaddr = lend.yiaddr;
    reply
        .options
        .set(option::IP_ADDRESS_LEASE_TIME, lend.lease_s.to_be_bytes());
    reply
        .options
        .set(option::RENEWAL_TIME, lend.t1_s.to_be_bytes());
    reply
        .options
        .set(option::REBINDING_TIME, lend.t2_s.to_be_bytes());
    fill_parameters(request, &mut reply, lend, boot);
    close(request, reply)
}

/// 1, then what the caller gives, then what tells how to boot.
fn fill_parameters(
    request: &Message,
    reply: &mut Message,
    lend: &Lend<'_>,
    boot: Option<&BootFile>,
) {
    reply
        .options
        .set(option::SUBNET_MASK, lend.subnet_mask.octets());
    add(reply, &lend.options, boot.is_some());
    echo(request, reply, option::CLIENT_IDENTIFIER);
    let Some(boot) = boot else {
        name_server_of_foreign_file(reply, lend.server_id);
        echo(request, reply, option::CLIENT_MACHINE_IDENTIFIER);
        return;
    };
    boot.fill_header(reply);
    boot.fill_server_name(request, reply);
    boot.fill_class(request, reply, boot.style);
}

/// Where an option of the site names a boot file, its server stands in siaddr: iPXE on BIOS and U-Boot look nowhere
/// else (`firmware.md` section 4). That is the address in option 66, or we are it. A name is for the client to
/// resolve.
fn name_server_of_foreign_file(reply: &mut Message, own: Ipv4Addr) {
    if !reply.options.contains(option::BOOTFILE_NAME) {
        return;
    }
    let named = reply.options.get(option::TFTP_SERVER_NAME);
    let named = named.map(|name| std::str::from_utf8(name).ok()?.parse().ok());
    if let Some(server) = named.unwrap_or(Some(own)) {
        reply.siaddr = server;
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::{Lend, Message, offer};
    use crate::MacAddr;
    use crate::wire::dhcpv4::Xid;

    #[test]
    fn l2_siaddr_is_the_server_of_a_file_that_an_option_names() {
        let own = Ipv4Addr::new(10, 0, 0, 1);
        let other = Ipv4Addr::new(10, 0, 0, 5);
        let none = Ipv4Addr::UNSPECIFIED;
        let file: (u8, &[u8]) = (67, b"pxelinux.0");
        let cases = [
            (vec![], none),
            (vec![file], own),
            (vec![(66, &b"10.0.0.5"[..]), file], other),
            (vec![(66, b"tftp.example.net"), file], none),
            (vec![(66, b"10.0.0.5")], none),
        ];
        let request = Message::request(Xid(7), MacAddr([2, 0, 0, 0, 0, 1]));
        for (options, expected) in cases {
            let shown = format!("{options:?}");
            let lend = Lend {
                server_id: own,
                yiaddr: Ipv4Addr::new(10, 0, 0, 77),
                subnet_mask: Ipv4Addr::new(255, 255, 255, 0),
                lease_s: 3600,
                t1_s: 1800,
                t2_s: 3150,
                options,
            };
            assert_eq!(offer(&request, &lend, None).siaddr, expected, "{shown}");
        }
    }
}
