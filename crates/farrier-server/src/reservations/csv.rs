//! Tables with a first line that names the columns, separated by commas or semicolons.

use super::{Entry, Fault, Found, by_client_id, by_mac, by_uuid, entry, sort};

pub(super) fn read(text: &str) -> Found {
    let mut lines = text
        .lines()
        .enumerate()
        .map(|(n, line)| (n + 1, line.trim_start_matches('\u{feff}').trim()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let Some((first, header)) = lines.next() else {
        return (Vec::new(), Vec::new());
    };
    let columns = match Columns::of(header) {
        Ok(columns) => columns,
        Err(what) => return (Vec::new(), vec![Fault { line: first, what }]),
    };
    sort(lines.map(|(line, row)| columns.entry(line, row)))
}

struct Columns {
    separator: char,
    mac: Option<usize>,
    uuid: Option<usize>,
    client_id: Option<usize>,
    address: usize,
    name: Option<usize>,
}

impl Columns {
    fn of(header: &str) -> Result<Self, String> {
        let separator = if header.contains(';') { ';' } else { ',' };
        let names: Vec<String> = fields(header, separator)
            .map(|name| name.to_ascii_lowercase())
            .collect();
        let at = |known: &[&str]| names.iter().position(|name| known.contains(&name.as_str()));
        let (mac, uuid) = (at(&["mac", "hw-address", "hardware"]), at(&["uuid"]));
        let client_id = at(&["client_id", "client-id"]);
        let missing = |what| format!("the first line must name the columns, and names no {what}");
        if mac.is_none() && uuid.is_none() && client_id.is_none() {
            return Err(missing("mac, uuid or client_id"));
        }
        Ok(Self {
            separator,
            mac,
            uuid,
            client_id,
            address: at(&["address", "ip", "ip-address"]).ok_or_else(|| missing("address"))?,
            name: at(&["name", "hostname", "host"]),
        })
    }

    fn entry(&self, line: usize, row: &str) -> Result<Entry, Fault> {
        let values: Vec<&str> = fields(row, self.separator).collect();
        let value = |at: Option<usize>| {
            let value = at.and_then(|at| values.get(at)).copied();
            value.filter(|value| !value.is_empty())
        };
        let holder = match (value(self.mac), value(self.uuid), value(self.client_id)) {
            (Some(mac), None, None) => by_mac(mac),
            (None, Some(uuid), None) => by_uuid(uuid),
            (None, None, Some(id)) => by_client_id(id),
            (None, None, None) => Err("it names neither mac nor uuid nor client_id".to_owned()),
            _ => Err("it names more than one of mac, uuid and client_id: keep one".to_owned()),
        };
        let address = value(Some(self.address)).unwrap_or_default();
        entry(line, address, holder, value(self.name))
    }
}

fn fields(row: &str, separator: char) -> impl Iterator<Item = &str> {
    row.split(separator)
        .map(|field| field.trim().trim_matches('"').trim())
}
