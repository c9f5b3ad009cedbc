//! `reservations` of Kea's JSON, of the whole server, of shared networks and of subnets. Those without
//! `ip-address` are passed over. What Kea would read from other files or from a database is not there, so a file that
//! has more of it elsewhere is refused.

use serde_json::Value;

use super::{Entry, Fault, Found, by_circuit_id, by_client_id, by_mac, entry, sort};

pub(super) fn read(text: &str) -> Found {
    let (bare, included) = bare(text);
    if !included.is_empty() {
        return (Vec::new(), included);
    }
    let document: Value = match serde_json::from_str(&bare) {
        Ok(document) => document,
        Err(error) => {
            let (line, what) = (error.line(), error.to_string());
            return (Vec::new(), vec![Fault { line, what }]);
        }
    };
    let server = document.get("Dhcp4").unwrap_or(&document);
    let mut found: Vec<_> = databases(server, &bare).map(Err).collect();
    collect(server, &bare, &mut found);
    sort(found.into_iter())
}

/// Where else Kea has reservations from: the second key is that of several databases.
const DATABASES: [&str; 2] = ["hosts-database", "hosts-databases"];

/// A fault for each key of a database with hosts; a list may have none in it.
fn databases<'a>(server: &'a Value, text: &'a str) -> impl Iterator<Item = Fault> + 'a {
    let is_used = |key: &&str| {
        let value = server.get(*key);
        value.is_some_and(|value| value.as_array().is_none_or(|list| !list.is_empty()))
    };
    DATABASES.into_iter().filter(is_used).map(|key| Fault {
        line: line_of_key(text, key),
        what: format!(
            "{key} keeps reservations in a database, which is not read: import what is in it by itself, as a table (csv), \
             and take this out of what is imported here"
        ),
    })
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

/// The same for a key, which a colon follows.
fn line_of_key(text: &str, key: &str) -> usize {
    let quoted = format!("\"{key}\"");
    let is_key =
        |(at, found): &(usize, &str)| text[at + found.len()..].trim_start().starts_with(':');
    let before = text.match_indices(&quoted).find(is_key);
    let before = before.map_or("", |(at, _)| &text[..at]);
    1 + before.matches('\n').count()
}

/// Blanks out `//`, `#` and `/* */` outside of strings, and what brings in other files, each of which is a fault. Lines
/// stay where they are.
fn bare(text: &str) -> (String, Vec<Fault>) {
    let mut bare = String::with_capacity(text.len());
    let mut included = Vec::new();
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
            ('<', Some('?')) => {
                let inside = |c: &char| !matches!(c, '>' | '\n');
                let said: String = std::iter::from_fn(|| chars.next_if(inside)).collect();
                included.push(include(1 + bare.matches('\n').count(), &said));
            }
            _ => bare.push(c),
        }
    }
    (bare, included)
}

/// `<?include "file"?>`, of which `said` is what stands between the brackets. The file may be any piece of a
/// configuration, such as a list, so that by itself it would say nothing.
fn include(line: usize, said: &str) -> Fault {
    let file = said.split('"').nth(1).unwrap_or_default();
    let what = format!(
        "it includes {file:?}, which is not read: put what that file says in its place, and import the whole"
    );
    Fault { line, what }
}
