//! What a client gets, and why.
//!
//! [`decide_dhcp`] and [`decide_script`] are pure: facts, what is known of the machine, an immutable
//! [`Snapshot`] and the time in; an action and its [`Explanation`] out. The same rules answer packets and
//! `farrier policy explain`; for packets, [`dhcp_action`] leaves the explanation out.

mod dhcp;
mod entry;
mod explanation;
mod intent;
#[cfg(test)]
mod medium_tests;
mod resolve;
mod rule;
#[cfg(test)]
mod rule_tests;
mod script;
mod standing_order;
#[cfg(test)]
mod standing_order_tests;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub use dhcp::{Boot, DhcpAction, LOOP_LIMIT, LOOP_WINDOW, Service, decide_dhcp, dhcp_action};
pub use entry::MenuEntryError;
pub use explanation::{Explanation, Step};
pub use intent::{BootIntent, IntentEnd, Until, is_of_this_boot};
pub use resolve::{Origin, Origins, Resolved, media_values, resolve};
pub use rule::{Judged, PolicyBook, Rule, ShortName, ShortNameError, Verdict};
pub use script::{
    AGENT_LIMIT, AGENT_WINDOW, AgentPurpose, DEPLOY_LIMIT, DEPLOY_WINDOW, LocalBoot, MenuMedium,
    ScriptAction, decide_script,
};

pub use standing_order::{AutoDeploy, DeployOver, Held, StandingOrder, standing_order};

use serde::{Deserialize, Serialize};

use crate::WallTime;
use crate::catalogue::Catalogue;
use crate::medium::{Medium, MediumName};
use crate::medium_value::{ValueName, ValueText};
use crate::model::{Arch, Machine, Registration};
use crate::strategy::StrategyChoice;
use crate::task::{DiskSelector, Task};

/// Settings that decide a boot. Each is unset unless somebody set it; [`fn@resolve`] says whose counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    pub menu: Option<MenuMode>,
    /// How long the menu waits, in seconds.
    pub menu_timeout_s: Option<u16>,
    pub default_entry: Option<MenuEntry>,
    /// Entries of the menu, but the local disk and the default one, want a one-time code.
    pub menu_code: Option<bool>,
    pub unknown_machine: Option<UnknownMachine>,
    pub enrolment: Option<Enrolment>,
    /// What starts first, where there is one of the kind that fits.
    pub first_loader: Option<FirstLoader>,
    /// Loader variant to prefer on UEFI: `snponly` (default) or `full`.
    pub ipxe_variant: Option<IpxeVariant>,
    /// The largest block of TFTP, in bytes. What the path takes counts all the same.
    pub tftp_blksize: Option<u16>,
    /// The most blocks of TFTP that leave without an ACK.
    pub tftp_windowsize: Option<u16>,
    /// Seconds until TFTP sends again to clients that negotiate no interval of their own (RFC 2349).
    pub tftp_timeout_s: Option<u8>,
    /// The firmware starts signed loaders only. Taken from the inventory where there is one.
    pub secure_boot: Option<bool>,
    /// In which way a boot file is offered.
    pub strategy: Option<StrategyChoice>,
    /// BIOS ROMs show the menu themselves, before any loader.
    pub rom_menu: Option<bool>,
    /// Disk images that the menu offers, in this order.
    pub media: Option<Vec<MediumName>>,
    /// Values of people's own in what it starts. Each counts by itself: who sets one leaves the others as they are.
    pub media_values: Option<BTreeMap<ValueName, ValueText>>,
    /// The image of tasks that name none.
    pub image: Option<String>,
    /// Whether that image is deployed without anybody ordering it. Counts only beside an `image` of the same place.
    pub deploy: Option<AutoDeploy>,
    /// What that may write over. Counts only beside a `deploy` of the same place.
    pub deploy_over: Option<DeployOver>,
    /// The disk that it is for. Counts only beside a `deploy` of the same place.
    pub deploy_disk: Option<DiskSelector>,
    /// Who is given HTTPS URLs, where the server has a listener for them.
    pub boot_tls: Option<BootTls>,
    /// In which way the local disk is started.
    pub local_boot: Option<LocalBootChoice>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MenuMode {
    Never,
    Always,
    OnKey,
}

/// An entry of the menu. Its text is the same in settings, in scripts and in what they ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum MenuEntry {
    LocalDisk,
    Register,
    MemoryTest,
    /// What the server decided for this machine, and why.
    Diagnostics,
    /// A disk image of people's own.
    Medium(MediumName),
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IpxeVariant {
    Full,
    SnpOnly,
}

/// The program that firmware is given. Under Secure Boot it is shim with GRUB, whatever is set here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FirstLoader {
    Ipxe,
    Grub,
    Pxelinux,
}

/// Who boots by HTTPS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BootTls {
    Never,
    /// UEFI HTTP Boot. What it loads and asks by DHCP gets HTTP: few loaders trust a site's own authority.
    Firmware,
    /// And each iPXE, unless it says that it speaks no HTTPS.
    Always,
}

/// Who starts the local disk: no one way works on every firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LocalBootChoice {
    /// The quickest way that the firmware is known to take.
    Auto,
    /// The firmware, by the next entry of its boot order: it finds the machine as if nobody had booted it before.
    Firmware,
    /// The loader, from the first disk, whatever the boot order.
    FirstDisk,
}

/// Settings with every value decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub menu: MenuMode,
    pub menu_timeout: Duration,
    pub default_entry: MenuEntry,
    pub menu_code: bool,
    pub unknown_machine: UnknownMachine,
    pub enrolment: Enrolment,
    pub first_loader: FirstLoader,
    pub ipxe_variant: IpxeVariant,
    pub tftp_blksize: u16,
    pub tftp_windowsize: u16,
    /// None is measured for each transfer.
    pub tftp_timeout_s: Option<u8>,
    pub secure_boot: bool,
    pub strategy: StrategyChoice,
    pub rom_menu: bool,
    pub media: Vec<MediumName>,
    pub image: Option<String>,
    pub deploy: AutoDeploy,
    pub deploy_over: DeployOver,
    /// None is the only disk there is.
    pub deploy_disk: Option<DiskSelector>,
    pub boot_tls: BootTls,
    pub local_boot: LocalBootChoice,
}

impl Policy {
    /// What holds where nobody has set anything.
    pub const DEFAULT: Self = Self {
        menu: MenuMode::OnKey,
        menu_timeout: Duration::from_secs(10),
        default_entry: MenuEntry::LocalDisk,
        menu_code: false,
        unknown_machine: UnknownMachine::Register,
        enrolment: Enrolment::Approve,
        first_loader: FirstLoader::Ipxe,
        ipxe_variant: IpxeVariant::SnpOnly,
        // An Ethernet frame less the headers, and the window above which nobody gains.
        tftp_blksize: 1468,
        tftp_windowsize: 64,
        tftp_timeout_s: None,
        secure_boot: false,
        strategy: StrategyChoice::Auto,
        rom_menu: false,
        media: Vec::new(),
        image: None,
        deploy: AutoDeploy::Never,
        deploy_over: DeployOver::Blank,
        deploy_disk: None,
        boot_tls: BootTls::Never,
        local_boot: LocalBootChoice::Auto,
    };
}

/// What all decisions rest on, as it stood at one moment. Made anew on each change of it.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub site: Settings,
    /// What each group of machines sets.
    pub groups: BTreeMap<ShortName, Settings>,
    pub catalogue: Catalogue,
    /// Disk images of people's own, as they lie in the data folder.
    pub media: BTreeMap<MediumName, Medium>,
    /// Architectures that we have an agent for.
    pub agents: BTreeSet<Arch>,
    /// There is an HTTPS listener on the boot plane.
    pub https: bool,
}

/// The one-time code that came with a choice in the menu.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MenuCode {
    #[default]
    NotGiven,
    Wrong,
    Right,
}

/// What is known of the client besides what it says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known<'a> {
    pub machine: Option<&'a Machine>,
    /// The oldest task of the machine that has not ended.
    pub due: Option<&'a Task>,
    /// When this hardware address was sent a loader lately.
    pub recent_loads: &'a [WallTime],
    /// The evidence fits more than one machine (see [`crate::identity`]).
    pub conflict: bool,
    /// It fetched an unsigned loader and never ran it, as firmware with Secure Boot does.
    pub wants_signature: bool,
    /// It was sent GRUB to start its disk with, which never asked what to do.
    pub stops_in_grub: bool,
    /// What came of the site's rules, in their order.
    pub rules: &'a [Judged<'a>],
    /// When the agent was started lately for the task that is due, which has not ended since.
    pub agent_starts: &'a [WallTime],
    /// When this machine was deployed to lately, whole and proven.
    pub deployments: &'a [WallTime],
    pub code: MenuCode,
    /// When its firmware last asked how to boot, if that was heard.
    pub boot_began: Option<WallTime>,
}

impl Known<'_> {
    /// A machine that somebody or something has let in, or that waits for it.
    fn is_registered(&self) -> bool {
        self.machine
            .is_some_and(|machine| machine.registration != Registration::Seen)
    }

    fn is(&self, registration: Registration) -> bool {
        self.machine
            .is_some_and(|machine| machine.registration == registration)
    }
}

/// What the client gets, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decision<A> {
    pub action: A,
    pub explanation: Explanation,
}
