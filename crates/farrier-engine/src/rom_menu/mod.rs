//! The boot menu of a PXE ROM, before any loader: the same entries from the same decision as in loaders' scripts.
//!
//! A ROM shows a list in option 43 and asks a boot server for what was picked, by a number (PXE 2.1 sections 2.2.5
//! and 3.3). The number comes back to us, the loader is sent, and the loader's script does what was picked.

use std::net::Ipv4Addr;

use farrier_proto::wire::pxe::{
    BootItem, BootMenuItem, BootServer, BootServerType, DiscoveryControl, MenuPrompt,
    PxeVendorOptions,
};

use crate::facts::{BootFacts, Protocol};
use crate::model::FirmwareKind;
use crate::policy::{Known, MenuEntry, ScriptAction, Snapshot, decide_script, resolve};
use crate::quirk::Effect;
use crate::script::ITEMS;
use crate::{Reason, WallTime};

/// Boot server types of ours. Vendors' begin at 0x8000; dnsmasq counts up from there, so ours are far from it.
pub mod kind {
    use farrier_proto::wire::pxe::BootServerType;

    /// What the policy says. Other servers' menus name us by it.
    pub const POLICY: BootServerType = BootServerType(0xfa00);
    pub const REGISTER: BootServerType = BootServerType(0xfa01);
    pub const MEMORY_TEST: BootServerType = BootServerType(0xfa02);
    pub const DIAGNOSTICS: BootServerType = BootServerType(0xfa03);
    /// The ROM starts the local disk without asking anybody.
    pub const LOCAL_DISK: BootServerType = BootServerType(0);
}

/// What a ROM shows, and how long it waits for a key before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RomMenu {
    /// The first one is started when no key is pressed.
    pub entries: Vec<MenuEntry>,
    pub prompt: Prompt,
}

/// When the menu shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// At once, until somebody picks: a ROM has no menu that ends by itself.
    Menu,
    /// If F8 is pressed within so many seconds.
    OnKey(u8),
}

/// The menu that this client's ROM is to show now, if any. What has work, or is stopped, goes to its loader as usual.
#[must_use]
pub fn rom_menu(
    facts: &BootFacts,
    known: &Known<'_>,
    snapshot: &Snapshot,
    now: WallTime,
) -> Option<RomMenu> {
    let is_rom = facts.protocol == Protocol::Pxe && facts.firmware == Some(FirmwareKind::Bios);
    let wanted = || {
        resolve(snapshot, known.machine, known.rules)
            .policy
            .rom_menu
    };
    if !is_rom || !wanted() {
        return None;
    }
    let decision = decide_script(facts, None, known, snapshot, now);
    let ScriptAction::Menu {
        default, on_key, ..
    } = decision.action
    else {
        return None;
    };
    let others = ITEMS.iter().map(|item| item.entry);
    // A medium has no number of its own; the loader's menu, which the policy comes to, has them all.
    let entries = std::iter::once(default).chain(others.filter(|entry| *entry != default));
    Some(RomMenu {
        entries: entries.collect(),
        prompt: if on_key {
            Prompt::OnKey(F8_SECONDS)
        } else {
            Prompt::Menu
        },
    })
}

impl RomMenu {
    /// As option 43. Its clients ask us, on port 4011, and nobody else. A ROM reads one option only (no RFC 3396),
    /// so entries that do not fit are left out from the end.
    #[must_use]
    pub fn options(&self, server: Ipv4Addr) -> PxeVendorOptions {
        let control = DiscoveryControl::ONLY_LISTED_SERVERS.0
            | DiscoveryControl::NO_MULTICAST.0
            | DiscoveryControl::NO_BROADCAST.0;
        let (timeout, text) = match self.prompt {
            Prompt::Menu => (255, "Farrier"),
            Prompt::OnKey(seconds) => (seconds, "Farrier: press F8 for the boot menu."),
        };
        let mut options = PxeVendorOptions {
            discovery_control: Some(DiscoveryControl(control)),
            boot_menu: self.entries.iter().map(|entry| line(*entry)).collect(),
            menu_prompt: Some(MenuPrompt {
                timeout,
                text: text.into(),
            }),
            ..PxeVendorOptions::default()
        };
        loop {
            options.boot_servers = servers(&options.boot_menu, server);
            if options.encode().len() <= MAX_OPTION || options.boot_menu.pop().is_none() {
                return options;
            }
        }
    }
}

/// What a Raspberry Pi's ROM insists on before it looks at an offer (`protocols.md` 10).
#[must_use]
pub fn device_menu(facts: &BootFacts) -> Option<PxeVendorOptions> {
    let wants_menu = facts
        .effects()
        .any(|effect| effect == Effect::RaspberryPiMenu);
    wants_menu.then(|| PxeVendorOptions {
        discovery_control: Some(DiscoveryControl::BOOT_FILE_IS_FINAL),
        boot_menu: vec![BootMenuItem {
            kind: kind::LOCAL_DISK,
            // The ROM of the third generation compares with the three spaces.
            text: b"Raspberry Pi Boot   ".to_vec(),
        }],
        menu_prompt: Some(MenuPrompt {
            timeout: 0,
            text: b"PXE".to_vec(),
        }),
        ..PxeVendorOptions::default()
    })
}

/// What a request for a boot item means: an entry somebody picked, or nothing but what the policy says.
///
/// # Errors
///
/// Why there is no such file here.
pub fn picked(item: BootItem) -> Result<Option<MenuEntry>, Reason> {
    let entry = match item.kind {
        kind::POLICY => None,
        kind::REGISTER => Some(MenuEntry::Register),
        kind::MEMORY_TEST => Some(MenuEntry::MemoryTest),
        kind::DIAGNOSTICS => Some(MenuEntry::Diagnostics),
        _ => return Err(Reason::OtherBootServer),
    };
    match item.layer {
        0 => Ok(entry),
        layer if layer & CREDENTIALS != 0 => Err(Reason::NoBootCredentials),
        _ => Err(Reason::NoBootLayer),
    }
}

fn line(entry: MenuEntry) -> BootMenuItem {
    let text = ITEMS
        .iter()
        .find(|item| item.entry == entry)
        .map_or("Start what the policy says", |item| item.title);
    // ROMs have one character set, and it is not UTF-8.
    let printable = text.bytes().filter(|b| (b' '..=b'~').contains(b));
    BootMenuItem {
        kind: kind_of(entry),
        text: printable.collect(),
    }
}

fn kind_of(entry: MenuEntry) -> BootServerType {
    match entry {
        MenuEntry::LocalDisk => kind::LOCAL_DISK,
        MenuEntry::Register => kind::REGISTER,
        MenuEntry::MemoryTest => kind::MEMORY_TEST,
        MenuEntry::Diagnostics => kind::DIAGNOSTICS,
        MenuEntry::Medium(_) => kind::POLICY,
    }
}

fn servers(menu: &[BootMenuItem], server: Ipv4Addr) -> Vec<BootServer> {
    let asked = menu.iter().filter(|item| item.kind != kind::LOCAL_DISK);
    asked
        .map(|item| BootServer {
            kind: item.kind,
            addresses: vec![server],
        })
        .collect()
}

/// As long as iPXE's prompt for the same menu.
const F8_SECONDS: u8 = 3;
/// The highest bit of a layer asks for the credentials of a file (PXE 2.1 section 2.2.5).
const CREDENTIALS: u16 = 0x8000;
/// What one option holds.
const MAX_OPTION: usize = 255;

#[cfg(test)]
mod tests;
