//! `reservations` of Kea's JSON, of the whole server, of shared networks and of subnets. Those without
//! `ip-address` are passed over.

use serde_json::Value;

use super::{Entry, Fault, Found, by_circuit_id, by_client_id, by_mac, entry, sort};

pub(super) fn read(text: &str) -> Found {
    let bare = without_comments(text);
    let document: Value = match serde_json::from_str(&bare) {
        Ok(document) => document,
        Err(error) => {
            let (line, what) = (error.line(), error.to_string());
            return (Vec::new(), vec![Fault { line, what }]);
        }
    };
    let mut found = Vec::new();
    collect(
        document.get("Dhcp4").unwrap_or(&document),
        &bare,
        &mut found,
    );
    sort(found.into_iter())
}

fn collect(scope: &Value, text: &str, found: &mut Vec<Result<Entry, Fault>>) {
    let list = |name: &str| {
        scope
            .get(name)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    };
    for one in list("reservations") {
        found.extend(reservation(one, text));
    }
    for inner in list("shared-networks").chain(list("subnet4")) {
        collect(inner, text, found);
    }
}

fn reservation(one: &Value, text: &str) -> Option<Result<Entry, Fault>> {
    let field = |name: &str| one.get(name).and_then(Value::as_str);
    let address = field("ip-address")?;
    let evidence = ["hw-address", "client-id", "circuit-id", "duid", "flex-id"];
    let named = evidence.iter().find_map(|name| Some((*name, field(name)?)));
    let holder = match named {
        Some(("hw-address", mac)) => by_mac(mac),
        Some(("client-id", id)) => by_client_id(&kea_bytes(id)),
        Some(("circuit-id", id)) => by_circuit_id(&kea_bytes(id)),
        Some((name, id)) => Err(format!(
            "{id} is a {name}: reserve by hardware address, client-id or circuit-id"
        )),
        None => Err(format!(
            "the reservation of {address} names no hardware address"
        )),
    };
    Some(entry(
        line_of(text, address),
        address,
        holder,
        field("hostname"),
    ))
}

/// A text stands in quotes of its own there, and all else is hexadecimal, colons or not.
fn kea_bytes(written: &str) -> String {
    let quoted = written
        .strip_prefix('\'')
        .and_then(|rest| rest.strip_suffix('\''));
    match quoted {
        Some(text) => text.to_owned(),
        None if written.contains(':') || written.starts_with("0x") => written.to_owned(),
        None => format!("0x{written}"),
    }
}

/// The JSON reader keeps no places, so the address is looked for; one that is there twice is a fault anyway.
fn line_of(text: &str, value: &str) -> usize {
    let quoted = format!("\"{value}\"");
    let before = text.find(&quoted).map_or("", |at| &text[..at]);
    1 + before.matches('\n').count()
}

/// Blanks out `//`, `#` and `/* */` outside of strings; lines stay where they are.
fn without_comments(text: &str) -> String {
    let mut bare = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    let (mut in_string, mut escaped) = (false, false);
    while let Some(c) = chars.next() {
        if in_string {
            in_string = c != '"' || escaped;
            escaped = c == '\\' && !escaped;
            bare.push(c);
            continue;
        }
        match (c, chars.peek()) {
            ('"', _) => {
                (in_string, escaped) = (true, false);
                bare.push(c);
            }
            ('#', _) | ('/', Some('/')) => while chars.next_if(|c| *c != '\n').is_some() {},
            ('/', Some('*')) => {
                chars.next();
                let mut last = ' ';
                for c in chars.by_ref() {
                    if c == '\n' {
                        bare.push('\n');
                    }
                    if (last, c) == ('*', '/') {
                        break;
                    }
                    last = c;
                }
            }
            _ => bare.push(c),
        }
    }
    bare
}
