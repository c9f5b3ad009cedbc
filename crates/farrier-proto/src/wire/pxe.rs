//! PXE 2.1 encapsulated options: what hides in option 43 between PXE clients and boot servers.

use std::net::Ipv4Addr;

use super::DecodeError;
use super::option_value::{SubOptions, address};

/// Sub-option numbers (PXE 2.1 tables 2-1 and 2-3).
pub mod sub_option {
    pub const MTFTP_ADDRESS: u8 = 1;
    pub const MTFTP_CLIENT_PORT: u8 = 2;
    pub const MTFTP_SERVER_PORT: u8 = 3;
    pub const MTFTP_TIMEOUT: u8 = 4;
    pub const MTFTP_DELAY: u8 = 5;
    pub const DISCOVERY_CONTROL: u8 = 6;
    pub const DISCOVERY_MULTICAST_ADDRESS: u8 = 7;
    pub const BOOT_SERVERS: u8 = 8;
    pub const BOOT_MENU: u8 = 9;
    pub const MENU_PROMPT: u8 = 10;
    pub const BOOT_ITEM: u8 = 71;
    pub const END: u8 = 255;
}

/// Sub-option 6: how a client finds its boot server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiscoveryControl(pub u8);

impl DiscoveryControl {
    /// The boot file in this packet is the one to load: no prompt, no menu, no discovery.
    pub const BOOT_FILE_IS_FINAL: Self = Self(0b1000);
    /// Only the servers of sub-option 8 may answer.
    pub const ONLY_LISTED_SERVERS: Self = Self(0b0100);
    pub const NO_MULTICAST: Self = Self(0b0010);
    pub const NO_BROADCAST: Self = Self(0b0001);

    /// Whether all bits of `other` are set.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What a boot server serves. 0 is the local disk; vendors begin at 0x8000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BootServerType(pub u16);

/// Sub-option 71: which item of the menu is wanted, and which layer of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootItem {
    pub kind: BootServerType,
    /// Layer 0 is the NBP. The highest bit asks for credentials.
    pub layer: u16,
}

/// One entry of sub-option 8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootServer {
    pub kind: BootServerType,
    pub addresses: Vec<Ipv4Addr>,
}

/// One entry of sub-option 9.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootMenuItem {
    pub kind: BootServerType,
    pub text: Vec<u8>,
}

/// Sub-option 10.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MenuPrompt {
    /// Seconds to wait for F8: 0 boots the first item at once, 255 shows the menu at once.
    pub timeout: u8,
    pub text: Vec<u8>,
}

/// Sub-options 1 to 5. Only for BIOS ROMs: edk2 throws away an offer that has all five.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mtftp {
    pub address: Ipv4Addr,
    pub client_port: u16,
    pub server_port: u16,
    /// Seconds to listen for a running transfer.
    pub timeout: u8,
    /// Seconds to wait before opening one.
    pub delay: u8,
}

/// Option 43 as PXE defines it. Sub-options we have no field for are kept verbatim in `other`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PxeVendorOptions {
    pub mtftp: Option<Mtftp>,
    pub discovery_control: Option<DiscoveryControl>,
    pub discovery_multicast_address: Option<Ipv4Addr>,
    pub boot_servers: Vec<BootServer>,
    pub boot_menu: Vec<BootMenuItem>,
    pub menu_prompt: Option<MenuPrompt>,
    pub boot_item: Option<BootItem>,
    pub other: Vec<(u8, Vec<u8>)>,
}

impl PxeVendorOptions {
    /// "Load the boot file of this packet": what a BIOS ROM needs beside `PXEClient`, and what keeps
    /// edk2 from asking port 4011.
    #[must_use]
    pub fn boot_file_is_final() -> Self {
        Self {
            discovery_control: Some(DiscoveryControl::BOOT_FILE_IS_FINAL),
            ..Self::default()
        }
    }

    /// Reads option 43. Sub-options out of form are kept in `other`; only a list that is cut off
    /// in the middle of a sub-option is an error, with the offset in the option's value.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        check_framing(bytes)?;
        let mtftp = decode_mtftp(bytes);
        let mut options = Self {
            mtftp,
            ..Self::default()
        };
        for (code, value) in SubOptions::framed(bytes) {
            let in_mtftp = mtftp.is_some() && code <= sub_option::MTFTP_DELAY;
            if !in_mtftp && options.take(code, value).is_none() {
                options.other.push((code, value.to_vec()));
            }
        }
        Ok(options)
    }

    /// Writes option 43, with its end. A list too long for one sub-option goes on in further ones
    /// of the same code; a single entry or text too long for one is cut.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Some(mtftp) = self.mtftp {
            put(
                &mut bytes,
                sub_option::MTFTP_ADDRESS,
                &mtftp.address.octets(),
            );
            put(
                &mut bytes,
                sub_option::MTFTP_CLIENT_PORT,
                &mtftp.client_port.to_le_bytes(),
            );
            put(
                &mut bytes,
                sub_option::MTFTP_SERVER_PORT,
                &mtftp.server_port.to_le_bytes(),
            );
            put(&mut bytes, sub_option::MTFTP_TIMEOUT, &[mtftp.timeout]);
            put(&mut bytes, sub_option::MTFTP_DELAY, &[mtftp.delay]);
        }
        if let Some(control) = self.discovery_control {
            put(&mut bytes, sub_option::DISCOVERY_CONTROL, &[control.0]);
        }
        if let Some(addr) = self.discovery_multicast_address {
            put(
                &mut bytes,
                sub_option::DISCOVERY_MULTICAST_ADDRESS,
                &addr.octets(),
            );
        }
        put_list(
            &mut bytes,
            sub_option::BOOT_SERVERS,
            self.boot_servers.iter().map(encode_server),
        );
        put_list(
            &mut bytes,
            sub_option::BOOT_MENU,
            self.boot_menu.iter().map(encode_menu_item),
        );
        if let Some(prompt) = &self.menu_prompt {
            let mut value = vec![prompt.timeout];
            value.extend(prompt.text.iter().take(254));
            put(&mut bytes, sub_option::MENU_PROMPT, &value);
        }
        if let Some(item) = self.boot_item {
            let mut value = item.kind.0.to_be_bytes().to_vec();
            value.extend(item.layer.to_be_bytes());
            put(&mut bytes, sub_option::BOOT_ITEM, &value);
        }
        for (code, value) in &self.other {
            put(&mut bytes, *code, value);
        }
        bytes.push(sub_option::END);
        bytes
    }

    /// Reads one sub-option into its field; none if it has no field or is out of form.
    fn take(&mut self, code: u8, value: &[u8]) -> Option<()> {
        match code {
            sub_option::DISCOVERY_CONTROL if self.discovery_control.is_none() => {
                let [control] = *value.as_array()?;
                self.discovery_control = Some(DiscoveryControl(control));
            }
            sub_option::DISCOVERY_MULTICAST_ADDRESS
                if self.discovery_multicast_address.is_none() =>
            {
                self.discovery_multicast_address = Some(Ipv4Addr::from(*value.as_array::<4>()?));
            }
            sub_option::BOOT_SERVERS => self.boot_servers.extend(decode_servers(value)?),
            sub_option::BOOT_MENU => self.boot_menu.extend(decode_menu(value)?),
            sub_option::MENU_PROMPT if self.menu_prompt.is_none() => {
                let (&timeout, text) = value.split_first()?;
                self.menu_prompt = Some(MenuPrompt {
                    timeout,
                    text: text.to_vec(),
                });
            }
            sub_option::BOOT_ITEM if self.boot_item.is_none() => {
                let [a, b, c, d] = *value.as_array()?;
                self.boot_item = Some(BootItem {
                    kind: BootServerType(u16::from_be_bytes([a, b])),
                    layer: u16::from_be_bytes([c, d]),
                });
            }
            _ => return None,
        }
        Some(())
    }
}

/// Walks the list once, so that what [`SubOptions`] gives afterwards is known to be all of it.
fn check_framing(bytes: &[u8]) -> Result<(), DecodeError> {
    let mut at = 0;
    while let Some(&code) = bytes.get(at) {
        match code {
            0 => at += 1,
            sub_option::END => return Ok(()),
            _ => {
                let Some(&length) = bytes.get(at + 1) else {
                    return Err(cut_off(at, 0));
                };
                let end = at + 2 + usize::from(length);
                if end > bytes.len() {
                    return Err(cut_off(at, bytes.len() - at - 2));
                }
                at = end;
            }
        }
    }
    Ok(())
}

fn cut_off(offset: usize, found: usize) -> DecodeError {
    DecodeError {
        what: "PXE sub-option",
        offset,
        expected: "as many bytes as its length says",
        found,
    }
}

/// All five sub-options in form, or none: a part of them is of no use to a client.
fn decode_mtftp(bytes: &[u8]) -> Option<Mtftp> {
    let value = |code| {
        SubOptions::framed(bytes)
            .find(|(c, _)| *c == code)
            .map(|(_, value)| value)
    };
    let [timeout] = *value(sub_option::MTFTP_TIMEOUT)?.as_array()?;
    let [delay] = *value(sub_option::MTFTP_DELAY)?.as_array()?;
    Some(Mtftp {
        address: address(value(sub_option::MTFTP_ADDRESS)?.as_array::<4>()?)?,
        client_port: u16::from_le_bytes(*value(sub_option::MTFTP_CLIENT_PORT)?.as_array()?),
        server_port: u16::from_le_bytes(*value(sub_option::MTFTP_SERVER_PORT)?.as_array()?),
        timeout,
        delay,
    })
}

fn decode_servers(mut rest: &[u8]) -> Option<Vec<BootServer>> {
    let mut servers = Vec::new();
    while let Some(([a, b, count], tail)) = rest.split_first_chunk::<3>() {
        let (addresses, after) = tail.split_at_checked(4 * usize::from(*count))?;
        servers.push(BootServer {
            kind: BootServerType(u16::from_be_bytes([*a, *b])),
            addresses: addresses.chunks_exact(4).filter_map(address).collect(),
        });
        rest = after;
    }
    rest.is_empty().then_some(servers)
}

fn decode_menu(mut rest: &[u8]) -> Option<Vec<BootMenuItem>> {
    let mut items = Vec::new();
    while let Some(([a, b, length], tail)) = rest.split_first_chunk::<3>() {
        let (text, after) = tail.split_at_checked(usize::from(*length))?;
        items.push(BootMenuItem {
            kind: BootServerType(u16::from_be_bytes([*a, *b])),
            text: text.to_vec(),
        });
        rest = after;
    }
    rest.is_empty().then_some(items)
}

/// 63 addresses are all that fit one sub-option.
fn encode_server(server: &BootServer) -> Vec<u8> {
    let addresses = &server.addresses[..server.addresses.len().min(63)];
    let mut bytes = server.kind.0.to_be_bytes().to_vec();
    bytes.push(u8::try_from(addresses.len()).unwrap_or(u8::MAX));
    bytes.extend(addresses.iter().flat_map(Ipv4Addr::octets));
    bytes
}

/// 252 bytes of text are all that fit one sub-option.
fn encode_menu_item(item: &BootMenuItem) -> Vec<u8> {
    let text = &item.text[..item.text.len().min(252)];
    let mut bytes = item.kind.0.to_be_bytes().to_vec();
    bytes.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    bytes.extend(text);
    bytes
}

fn put_list(bytes: &mut Vec<u8>, code: u8, entries: impl Iterator<Item = Vec<u8>>) {
    let mut value = Vec::new();
    for entry in entries {
        if value.len() + entry.len() > usize::from(u8::MAX) {
            put(bytes, code, &value);
            value.clear();
        }
        value.extend(entry);
    }
    if !value.is_empty() {
        put(bytes, code, &value);
    }
}

/// PAD and END have no length and are not content.
fn put(bytes: &mut Vec<u8>, code: u8, value: &[u8]) {
    if matches!(code, 0 | sub_option::END) {
        return;
    }
    let value = &value[..value.len().min(usize::from(u8::MAX))];
    bytes.push(code);
    bytes.push(u8::try_from(value.len()).unwrap_or(u8::MAX));
    bytes.extend_from_slice(value);
}

#[cfg(test)]
mod tests;
