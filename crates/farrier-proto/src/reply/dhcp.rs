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
        echo(request, reply, option::CLIENT_MACHINE_IDENTIFIER);
        return;
    };
    boot.fill_header(reply);
    boot.fill_server_name(request, reply);
    boot.fill_class(request, reply, boot.style);
}
