//! A message as lines of text, for people: timelines, `trace` logs, and the snapshots beside captures.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use super::dhcpv4::{Message, MessageType, Op};
use super::option::{self, Form};
use super::option_setting;
use super::option_value::SubOptions;

/// Renders `message`, one field or option per line, unset header fields left out.
#[must_use]
pub fn render(message: &Message) -> String {
    let mut out = String::new();
    let kind = match (message.message_type(), message.op) {
        (Some(kind), _) => kind.to_string(),
        (None, Op::Request) => "BOOTREQUEST".to_owned(),
        (None, Op::Reply) => "BOOTREPLY".to_owned(),
    };
    line(
        &mut out,
        format_args!(
            "{kind} xid {} secs {} flags {:#06x}",
            message.xid, message.secs, message.flags
        ),
    );
    match message.mac() {
        Some(mac) => line(&mut out, format_args!("chaddr {mac}")),
        None => line(
            &mut out,
            format_args!(
                "htype {} hlen {} chaddr {}",
                message.htype,
                message.hlen,
                hex(&message.chaddr)
            ),
        ),
    }
    if message.hops > 0 {
        line(&mut out, format_args!("hops {}", message.hops));
    }
    for (name, addr) in [
        ("ciaddr", message.ciaddr),
        ("yiaddr", message.yiaddr),
        ("siaddr", message.siaddr),
        ("giaddr", message.giaddr),
    ] {
        if !addr.is_unspecified() {
            line(&mut out, format_args!("{name} {addr}"));
        }
    }
    for (name, field) in [("sname", &message.sname), ("file", &message.file)] {
        if !field.is_empty() {
            line(
                &mut out,
                format_args!("{name} \"{}\"", field.escape_ascii()),
            );
        }
    }
    if !message.cookie {
        line(&mut out, format_args!("no cookie"));
    }
    for (code, value) in message.options.iter() {
        let name = option::describe(code).map_or("", |(name, _)| name);
        line(
            &mut out,
            format_args!("{code} {name} {}", render_value(code, value)),
        );
    }
    for oddity in &message.oddities {
        line(&mut out, format_args!("odd: {oddity}"));
    }
    out
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{text}");
}

/// The value of one option.
#[must_use]
pub fn render_value(code: u8, value: &[u8]) -> String {
    if code == option::DHCP_MESSAGE_TYPE
        && let [number] = value
        && let Some(kind) = MessageType::from_number(*number)
    {
        return kind.to_string();
    }
    match option::describe(code) {
        Some((_, form)) if form.allows(value.len()) => render_form(code, form, value),
        _ => hex(value),
    }
}

fn render_form(code: u8, form: Form, value: &[u8]) -> String {
    match form {
        Form::Address | Form::AddressPairs | Form::Addresses => words(
            value
                .as_chunks::<4>()
                .0
                .iter()
                .map(|&octets| Ipv4Addr::from(octets).to_string()),
        ),
        Form::Bytes => hex(value),
        Form::Codes => words(value.iter().map(u8::to_string)),
        Form::Encapsulated => render_sub_options(code, value),
        Form::Text => format!("\"{}\"", value.escape_ascii()),
        Form::Flag => (value != [0]).to_string(),
        Form::I32 => match value.first_chunk().copied() {
            Some(octets) => i32::from_be_bytes(octets).to_string(),
            None => hex(value),
        },
        Form::Names => listed(option_setting::names(value), value),
        Form::Routes => listed(option_setting::routes(value), value),
        Form::U8 | Form::U16 | Form::U32 => value
            .iter()
            .fold(0_u32, |number, &byte| number << 8 | u32::from(byte))
            .to_string(),
        Form::U16s => words(
            value
                .as_chunks::<2>()
                .0
                .iter()
                .map(|&pair| u16::from_be_bytes(pair).to_string()),
        ),
    }
}

/// What could be read, or else the bytes.
fn listed(read: Option<Vec<String>>, value: &[u8]) -> String {
    read.map_or_else(|| hex(value), |items| items.join(", "))
}

fn render_sub_options(code: u8, value: &[u8]) -> String {
    let sub_options = match code {
        option::RELAY_AGENT_INFORMATION => SubOptions::bare(value),
        _ => SubOptions::framed(value),
    };
    words(sub_options.map(|(code, value)| format!("{code}={}", hex(value))))
}

fn words(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(" ")
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MacAddr;
    use crate::wire::dhcpv4::Xid;

    #[test]
    fn renders_names_values_and_nothing_that_could_be_a_control_character() {
        let mut message = Message::request(Xid(0xabc), MacAddr([2, 0, 0, 0, 0, 1]));
        message.file = b"a\n\x1b[2J".to_vec();
        message.options.set(option::DHCP_MESSAGE_TYPE, [1]);
        message
            .options
            .set(option::CLIENT_SYSTEM_ARCHITECTURE, [0, 7, 0, 9]);
        message
            .options
            .set(option::RELAY_AGENT_INFORMATION, [1, 2, 0xab, 0xcd]);
        message
            .options
            .set(option::IPXE_ENCAPSULATED, [19, 1, 1, 255]);
        message.options.set(option::ROUTER, [1, 2, 3]);
        let expected = r#"DHCPDISCOVER xid 00000abc secs 0 flags 0x0000
chaddr 02:00:00:00:00:01
file "a\n\x1b[2J"
53 DhcpMessageType DHCPDISCOVER
93 ClientSystemArchitecture 7 9
82 RelayAgentInformation 1=abcd
175 IpxeEncapsulated 19=01
3 Router 010203
"#;
        assert_eq!(render(&message), expected);
    }
}
