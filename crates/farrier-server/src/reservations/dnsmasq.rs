//! `dhcp-host=` lines. Those without an address only name or tag a host and are passed over.

use super::{Entry, Fault, Found, by_client_id, by_mac, entry, sort};

pub(super) fn read(text: &str) -> Found {
    let lines = text.lines().enumerate();
    sort(lines.filter_map(|(n, line)| {
        let value = line.trim().strip_prefix("dhcp-host")?.trim_start();
        host(n + 1, value.strip_prefix('=')?).transpose()
    }))
}

fn host(line: usize, value: &str) -> Result<Option<Entry>, Fault> {
    let value = value.split(" #").next().unwrap_or_default();
    let (mut mac, mut address, mut name, mut id) = (None, None, None, None);
    for item in value.split(',').map(str::trim) {
        let is_address =
            item.bytes().all(|b| b.is_ascii_digit() || b == b'.') && item.contains('.');
        if item.starts_with('[') || item.starts_with("set:") || item.starts_with("tag:") {
            continue;
        } else if let Some(own) = item.strip_prefix("id:") {
            id = Some(own);
        } else if item.matches(':').count() == 5 || item.matches('-').count() == 5 {
            let first = mac.is_none();
            let many = || Fault {
                line,
                what: "several hardware addresses share it: write one line for each".to_owned(),
            };
            mac = first.then_some(item).ok_or_else(many).map(Some)?;
        } else if is_address {
            address = Some(item);
        } else if !is_time(item) {
            name = Some(item);
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

/// `infinite`, `ignore`, `3600`, `12h`.
fn is_time(item: &str) -> bool {
    let digits = item.trim_end_matches(['s', 'm', 'h', 'd', 'w']);
    let number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    number || item == "infinite" || item == "ignore"
}
