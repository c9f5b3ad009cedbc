//! What every reply has in common: the echoed header, the echoed options, the size limit.

use std::net::Ipv4Addr;

use crate::wire::dhcpv4::{BROADCAST, Message, MessageType, Op};
use crate::wire::option;

/// A BOOTREPLY with everything echoed that a client or relay checks (RFC 2131 table 3) and no
/// options yet.
pub(super) fn header(request: &Message) -> Message {
    Message {
        op: Op::Reply,
        hops: 0,
        secs: 0,
        ciaddr: Ipv4Addr::UNSPECIFIED,
        yiaddr: Ipv4Addr::UNSPECIFIED,
        siaddr: Ipv4Addr::UNSPECIFIED,
        sname: Vec::new(),
        file: Vec::new(),
        cookie: true,
        options: Default::default(),
        oddities: Vec::new(),
        ..*request
    }
}

/// Options 53 and 54, which come first.
pub(super) fn open(request: &Message, kind: MessageType, server_id: Ipv4Addr) -> Message {
    let mut reply = header(request);
    reply.options.set(option::DHCP_MESSAGE_TYPE, [kind as u8]);
    reply.options.set(
        option::SERVER_IDENTIFIER,
        effective_server_id(request, server_id).octets(),
    );
    reply
}

/// Behind a relay, an answer that lends no address is to be broadcast: a relay sends others to `yiaddr`, which is
/// 0.0.0.0 (RFC 1542 section 4.1.2; ISC's does so).
pub(super) fn reach_without_address(reply: &mut Message) {
    if !reply.giaddr.is_unspecified() {
        reply.flags |= BROADCAST;
    }
}

/// RFC 5107: a relay may stand between client and server for renewals too, and says so by asking
/// for its own address in option 54.
pub(super) fn effective_server_id(request: &Message, server_id: Ipv4Addr) -> Ipv4Addr {
    request
        .relay_agent_information()
        .and_then(|info| info.server_identifier_override())
        .unwrap_or(server_id)
}

/// Echoes `code` byte for byte if the request had it (RFC 6842 for 61, RFC 4578 2.3 for 97).
pub(super) fn echo(request: &Message, reply: &mut Message, code: u8) {
    if let Some(value) = request.options.get(code) {
        reply.options.set(code, value);
    }
}

/// Adds options the reply does not have yet. Those a reply sets by rule are never taken from outside, whether
/// or not this reply has them; those of network boot are only where we name nothing to boot, as for telephones,
/// which find their settings by the same options.
pub(super) fn add(reply: &mut Message, options: &[(u8, &[u8])], boots: bool) {
    for (code, value) in options {
        let allowed = !is_ours(*code) || *code == option::ROUTER || (!boots && is_of_boot(*code));
        if allowed && !reply.options.contains(*code) {
            reply.options.set(*code, *value);
        }
    }
}

/// Puts option 82 last (RFC 3046 section 2.2) and makes the reply fit what the client takes, by
/// leaving out from the end what it can boot without.
pub(super) fn close(request: &Message, mut reply: Message) -> Message {
    echo(request, &mut reply, option::RELAY_AGENT_INFORMATION);
    let limit = request.reply_limit();
    while reply.encoded_len() > limit {
        let last = reply
            .options
            .iter()
            .rev()
            .map(|(code, _)| code)
            .find(|code| !is_ours(*code));
        let Some(code) = last else { break };
        reply.options.remove(code);
    }
    reply
}

/// Options a reply carries by rule; without one of them some client fails.
fn is_ours(code: u8) -> bool {
    matches!(
        code,
        option::SUBNET_MASK
            | option::ROUTER
            | option::VENDOR_SPECIFIC_INFORMATION
            | option::IP_ADDRESS_LEASE_TIME
            | option::DHCP_MESSAGE_TYPE
            | option::SERVER_IDENTIFIER
            | option::RENEWAL_TIME
            | option::REBINDING_TIME
            | option::VENDOR_CLASS_IDENTIFIER
            | option::CLIENT_IDENTIFIER
            | option::TFTP_SERVER_NAME
            | option::BOOTFILE_NAME
            | option::RELAY_AGENT_INFORMATION
            | option::CLIENT_MACHINE_IDENTIFIER
    )
}

fn is_of_boot(code: u8) -> bool {
    matches!(
        code,
        option::VENDOR_SPECIFIC_INFORMATION | option::TFTP_SERVER_NAME | option::BOOTFILE_NAME
    )
}
