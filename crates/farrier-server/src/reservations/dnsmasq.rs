//! `dhcp-host=` lines. Those without an address only name or tag a host and are passed over.

use super::{Entry, Fault, Found, by_client_id, by_mac, entry, sort};

pub(super) fn read(text: &str) -> Found {
    let lines = text.lines().enumerate();
    sort(lines.filter_map(|(n, line)| statement(n + 1, line.trim()).transpose()))
}

/// Where else dnsmasq has hosts and addresses from.
const ELSEWHERE: [&str; 6] = [
    "conf-dir",
    "conf-file",
    "conf-script",
    "dhcp-hostsdir",
    "dhcp-hostsfile",
    "read-ethers",
];

fn statement(line: usize, text: &str) -> Result<Option<Entry>, Fault> {
    let end = text.find(|c: char| c == '=' || c.is_whitespace());
    let (key, rest) = text.split_at(end.unwrap_or(text.len()));
    if ELSEWHERE.contains(&key) {
        let what = format!(
            "{key} brings in other files, which are not read: import each by itself, and take this line out of what is \
             imported here"
        );
        return Err(Fault { line, what });
    }
    if !key.starts_with("dhcp-host") {
        return Ok(None);
    }
    match (key, rest.trim_start().strip_prefix('=')) {
        ("dhcp-host", Some(value)) => host(line, value),
        _ => {
            let what = format!("{key} is not dhcp-host=...: correct it");
            Err(Fault { line, what })
        }
    }
}

/// Tags, by their old and new words, and IPv6 addresses.
const NO_NAMES: [&str; 4] = ["[", "set:", "tag:", "net:"];

fn host(line: usize, value: &str) -> Result<Option<Entry>, Fault> {
    let value = without_comment(value);
    let (mut mac, mut address, mut name, mut id) = (None, None, None, None);
    for item in value.split(',').map(str::trim) {
        let is_address =
            item.bytes().all(|b| b.is_ascii_digit() || b == b'.') && item.contains('.');
        let (place, item, what) =
            if item.is_empty() || NO_NAMES.iter().any(|prefix| item.starts_with(prefix)) {
                continue;
            } else if let Some(own) = item.strip_prefix("id:") {
                (&mut id, own, "client ids")
            } else if is_hardware(item) {
                (&mut mac, item, "hardware addresses")
            } else if is_address {
                (&mut address, item, "addresses")
            } else if is_time(item) {
                continue;
            } else if is_name(item) {
                (&mut name, item, "names")
            } else {
                let what = format!("{item:?} is neither an address nor a name: correct it");
                return Err(Fault { line, what });
            };
        if place.replace(item).is_some() {
            let what = format!("several {what} stand in it: keep one");
            return Err(Fault { line, what });
        }
    }
    let Some(address) = address else {
        return Ok(None);
    };
    let holder = match (mac, id) {
        (Some(mac), _) => by_mac(mac),
        (None, Some(id)) if id != "*" => by_client_id(id),
        (None, _) => Err("it names no hardware address and no client id".to_owned()),
    };
    entry(line, address, holder, name).map(Some)
}

/// What stands before a `#` that follows white space.
fn without_comment(value: &str) -> &str {
    let mut before = ' ';
    let begins = value.find(|c: char| {
        let begins = c == '#' && before.is_whitespace();
        before = c;
        begins
    });
    &value[..begins.unwrap_or(value.len())]
}

/// Six bytes, of which `*` stands for any.
fn is_hardware(item: &str) -> bool {
    let byte = |part: &str| {
        let is_hex = part.bytes().all(|b| b.is_ascii_hexdigit());
        part == "*" || matches!(part.len(), 1 | 2) && is_hex
    };
    item.split([':', '-']).count() == 6 && item.split([':', '-']).all(byte)
}

/// Four parts with dots between them that begin with a digit are an address in which something is wrong.
fn is_name(item: &str) -> bool {
    let fits = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    let looks_like_address =
        item.split('.').count() == 4 && item.starts_with(|c: char| c.is_ascii_digit());
    item.chars().all(fits) && !looks_like_address
}

/// `infinite`, `ignore`, `3600`, `12h`.
fn is_time(item: &str) -> bool {
    let digits = item.trim_end_matches(['s', 'm', 'h', 'd', 'w']);
    let number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    number || item == "infinite" || item == "ignore"
}
