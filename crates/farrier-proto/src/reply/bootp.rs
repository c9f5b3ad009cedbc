//! The reply to a BOOTP client, which knows no message types and no leases (RFC 951, RFC 1534).

use super::skeleton::{add, echo, header};
use super::{BootFile, Lend};
use crate::wire::dhcpv4::{MIN_LEN, Message};
use crate::wire::option;

/// BOOTREPLY. `lend` must be permanent: the client will never renew. The cookie and the options go out
/// only if the request had the cookie or `always_cookie` is set, as POWER and old network gear need.
///
/// RFC 951 has a vendor area of 64 bytes and no way to ask for more, so what does not fit is left out
/// from the end.
#[must_use]
pub fn reply(
    request: &Message,
    lend: &Lend<'_>,
    boot: Option<&BootFile>,
    always_cookie: bool,
) -> Message {
    let mut reply = header(request);
    reply.ciaddr = request.ciaddr;
    reply.yiaddr = lend.yiaddr;
    if let Some(boot) = boot {
        boot.fill_header(&mut reply);
    }
    reply.cookie = request.cookie || always_cookie;
    if !reply.cookie {
        return reply;
    }
    reply
        .options
        .set(option::SUBNET_MASK, lend.subnet_mask.octets());
    add(&mut reply, &lend.options, boot.is_some());
    while reply.encoded_len() > MIN_LEN {
        let Some(code) = reply.options.iter().next_back().map(|(code, _)| code) else {
            break;
        };
        reply.options.remove(code);
    }
    echo(request, &mut reply, option::RELAY_AGENT_INFORMATION);
    reply
}
