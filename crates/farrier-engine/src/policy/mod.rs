//! What a client gets, and why.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Settings that decide a boot. Each is unset unless somebody set it; a machine's own come first,
/// then the site's, then [`Policy::DEFAULT`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    pub menu: Option<MenuMode>,
    /// How long the menu waits, in seconds.
    pub menu_timeout_s: Option<u16>,
    pub default_entry: Option<MenuEntry>,
    pub unknown_machine: Option<UnknownMachine>,
    pub enrolment: Option<Enrolment>,
    /// Loader variant to prefer on UEFI: `snponly` (default) or `full`.
    pub ipxe_variant: Option<IpxeVariant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MenuMode {
    Never,
    Always,
    OnKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MenuEntry {
    LocalDisk,
    Register,
    MemoryTest,
}

/// What a machine gets that nobody has registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownMachine {
    /// No answer at all.
    Ignore,
    /// The menu or the default entry, like a machine without work.
    Menu,
    /// The agent, once, to register and send its inventory.
    Register,
}

/// Who lets an agent in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Enrolment {
    /// A person compares the code on both screens and approves.
    Approve,
    /// Known machines enrol by themselves; new ones are approved on first contact.
    Automatic,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IpxeVariant {
    Full,
    SnpOnly,
}

/// Settings with every value decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub menu: MenuMode,
    pub menu_timeout: Duration,
    pub default_entry: MenuEntry,
    pub unknown_machine: UnknownMachine,
    pub enrolment: Enrolment,
    pub ipxe_variant: IpxeVariant,
}
