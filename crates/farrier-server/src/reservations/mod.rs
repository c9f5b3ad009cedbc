//! Reservations out of other DHCP servers' files, for ours.
//!
//! All or nothing: a file with one fault yields its faults, each with its line, and no reservation. What
//! came out is a piece of `farrier.toml`, since that is where reservations live.

mod csv;
mod dhcpd;
mod dnsmasq;
mod kea;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::net::Ipv4Addr;
use std::str::FromStr;

use farrier_engine::lease::Holder;
use farrier_proto::MacAddr;

use crate::config::{Evidence, SubnetConfig};

/// Whose file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Columns named in the first line: `mac`, `uuid` or `client_id`, `address`, and if there is one `name`.
    Csv,
    /// `dhcpd.conf` of ISC.
    Dhcpd,
    /// `dhcp-host=` lines.
    Dnsmasq,
    /// JSON with comments.
    Kea,
}

/// One reservation as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub line: usize,
    pub address: Ipv4Addr,
    pub holder: Holder,
    pub name: Option<String>,
}

/// Why a line cannot be taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub line: usize,
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

/// Reads `text` and checks it against the subnets of our configuration.
pub fn read(
    format: Format,
    text: &str,
    subnets: &[SubnetConfig],
) -> Result<Vec<Entry>, Vec<Fault>> {
    let found = match format {
        Format::Csv => csv::read(text),
        Format::Dhcpd => dhcpd::read(text),
        Format::Dnsmasq => dnsmasq::read(text),
        Format::Kea => kea::read(text),
    };
    let (entries, mut faults) = found;
    let mut addresses = HashMap::new();
    let mut holders = HashMap::new();
    for entry in &entries {
        let mut add = |what: String| {
            faults.push(Fault {
                line: entry.line,
                what,
            });
        };
        if let Some(line) = addresses.insert(entry.address, entry.line) {
            add(format!("{} is reserved in line {line} too", entry.address));
        }
        let subnet = subnets.iter().find(|s| s.subnet.contains(entry.address));
        let network = subnet.map(|subnet| subnet.subnet.network);
        if let Some(line) = holders.insert((entry.holder.clone(), network), entry.line) {
            add(format!("the machine has an address in line {line} too"));
        }
        let Some(subnet) = subnet else {
            add(format!("no [[subnet]] holds {}", entry.address));
            continue;
        };
        let ours = subnet.subnet.reservations.iter();
        for own in ours.filter(|own| own.ip == entry.address || own.holder == entry.holder) {
            add(format!(
                "{} is reserved in our configuration already",
                own.ip
            ));
        }
    }
    if faults.is_empty() {
        Ok(entries)
    } else {
        faults.sort_by_key(|fault| fault.line);
        Err(faults)
    }
}

/// As they are to stand in `farrier.toml`.
#[must_use]
pub fn render(entries: &[Entry], subnets: &[SubnetConfig]) -> String {
    let mut text = String::new();
    for subnet in subnets {
        let inside = |entry: &&Entry| subnet.subnet.contains(entry.address);
        let own: Vec<_> = entries.iter().filter(inside).collect();
        if own.is_empty() {
            continue;
        }
        let (network, prefix) = (subnet.subnet.network, subnet.subnet.prefix);
        let count = own.len();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "# {count} for the [[subnet]] {network}/{prefix}: put them below it."
        );
        for entry in own {
            let _ = writeln!(
                text,
                "\n[[subnet.reservation]]{}",
                comment(entry.name.as_deref())
            );
            let _ = writeln!(text, "address = \"{}\"", entry.address);
            let _ = match &entry.holder {
                Holder::Mac(mac) => writeln!(text, "mac = \"{mac}\""),
                Holder::Uuid(uuid) => writeln!(text, "uuid = \"{uuid}\""),
                Holder::ClientId(id) => writeln!(text, "client_id = \"{}\"", bytes(id)),
                Holder::Port {
                    circuit_id,
                    remote_id,
                } => {
                    for (key, id) in [("circuit_id", circuit_id), ("remote_id", remote_id)] {
                        if let Some(id) = id {
                            let _ = writeln!(text, "{key} = \"{}\"", bytes(id));
                        }
                    }
                    Ok(())
                }
            };
        }
        text.push('\n');
    }
    text
}

/// Names come from a file: nothing but what a host name has gets into ours.
fn comment(name: Option<&str>) -> String {
    let keep = |c: &char| c.is_ascii_alphanumeric() || "-._".contains(*c);
    let name: String = name
        .unwrap_or_default()
        .chars()
        .filter(keep)
        .take(64)
        .collect();
    if name.is_empty() {
        String::new()
    } else {
        format!(" # {name}")
    }
}

/// Digits only, so that no text of theirs gets into ours.
fn bytes(id: &[u8]) -> String {
    let digits: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("0x{digits}")
}

type Found = (Vec<Entry>, Vec<Fault>);

/// One reservation from its texts.
fn entry(
    line: usize,
    address: &str,
    holder: Result<Holder, String>,
    name: Option<&str>,
) -> Result<Entry, Fault> {
    let fault = |what| Fault { line, what };
    let address = address
        .trim()
        .parse()
        .map_err(|_| fault(format!("{:?} is no IPv4 address", address.trim())))?;
    Ok(Entry {
        line,
        address,
        holder: holder.map_err(fault)?,
        name: name
            .map(str::trim)
            .filter(|n| !n.is_empty())
            .map(str::to_owned),
    })
}

fn by_mac(text: &str) -> Result<Holder, String> {
    let text = text.trim();
    MacAddr::from_str(&padded(text).to_ascii_lowercase())
        .ok()
        .filter(|mac| !mac.is_unusable())
        .map(Holder::Mac)
        .ok_or_else(|| format!("{text:?} is not the hardware address of one machine"))
}

/// ISC and dnsmasq take bytes of one digit.
fn padded(mac: &str) -> String {
    let parts = mac.split(':').map(|part| format!("{part:0>2}"));
    parts.collect::<Vec<_>>().join(":")
}

fn by_uuid(text: &str) -> Result<Holder, String> {
    let text = text.trim();
    let uuid = text.parse().map_err(|_| format!("{text:?} is no UUID"))?;
    Ok(Holder::Uuid(uuid))
}

/// Option 61 as other servers write it: bytes with colons, of one digit or two, else a text.
fn by_client_id(text: &str) -> Result<Holder, String> {
    id(text).map(Holder::ClientId)
}

/// Whatever is plugged in there.
fn by_circuit_id(text: &str) -> Result<Holder, String> {
    Ok(Holder::Port {
        circuit_id: Some(id(text)?),
        remote_id: None,
    })
}

fn id(text: &str) -> Result<Vec<u8>, String> {
    let is_byte =
        |part: &str| (1..=2).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_hexdigit());
    let padded: Option<String> = text
        .split(':')
        .map(|part| is_byte(part).then(|| format!("{part:0>2}")))
        .collect();
    let written = match padded {
        Some(digits) if text.contains(':') => format!("0x{digits}"),
        _ => text.to_owned(),
    };
    let read: Result<Evidence, _> = written.parse();
    read.map(|Evidence(id)| id)
        .map_err(|error| format!("{text:?} is no client id: {error}"))
}

fn sort(found: impl Iterator<Item = Result<Entry, Fault>>) -> Found {
    let (mut entries, mut faults) = (Vec::new(), Vec::new());
    for one in found {
        match one {
            Ok(entry) => entries.push(entry),
            Err(fault) => faults.push(fault),
        }
    }
    (entries, faults)
}
