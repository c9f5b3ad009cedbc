//! Settings that decide a boot, and what they come to for one machine.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{MachineSummary, Millis, NewestTasks};

/// Settings; what is left out is not set here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub menu: Option<MenuMode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub menu_timeout_s: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_entry: Option<MenuEntry>,
    /// Entries of the menu, but the local disk and the default one, want a one-time code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub menu_code: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown_machine: Option<UnknownMachine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enrolment: Option<Enrolment>,
    /// What firmware is given first, where there is one of the kind that fits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_loader: Option<FirstLoader>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipxe_variant: Option<IpxeVariant>,
    /// The largest block of TFTP, 8 to 65464 bytes; 1468 where nobody says so. What the path takes counts all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tftp_blksize: Option<u16>,
    /// The most blocks of TFTP that leave without an ACK, 1 to 64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tftp_windowsize: Option<u16>,
    /// Seconds until TFTP sends again, 1 to 30, to clients that negotiate no interval; measured where nobody says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tftp_timeout_s: Option<u8>,
    /// Give signed loaders only; found out by the agent where nobody says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secure_boot: Option<bool>,
    /// In which way a boot file is offered; `auto` finds out, and on a machine forgets what was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Strategy>,
    /// BIOS ROMs show the menu themselves, before any loader.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rom_menu: Option<bool>,
    /// Disk images that the menu offers, in this order: at most 16, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media: Option<Vec<String>>,
    /// Values of people's own in what machines start, at most 16 in one place. Each name counts by itself, so a machine
    /// that sets one keeps the others of its group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media_values: Option<BTreeMap<String, String>>,
    /// The image of tasks that name none. Nothing is written by it alone: somebody orders the task, or `deploy` does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Whether that image is deployed to approved machines without anybody's order; wants `image` beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deploy: Option<AutoDeploy>,
    /// What that may write over: `blank` disks where nobody says so. Counts in the same place as `deploy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deploy_over: Option<DeployOver>,
    /// Which disk, such as `serial=S5H9` or `bus=nvme,min=200G`: the only one there is where nobody says so. Counts in
    /// the same place as `deploy`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deploy_disk: Option<String>,
    /// Who is given HTTPS URLs; wants `[boot.tls]` in the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_tls: Option<BootTls>,
    /// Who starts the local disk, where machines do not come to it by the usual way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_boot: Option<LocalBoot>,
}

/// What a deployment that nobody orders may write over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeployOver {
    /// Disks without a partition table, and those of machines that were deployed to before.
    Blank,
    Anything,
}

/// How often the policy deploys an image to a machine by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AutoDeploy {
    Never,
    Once,
    EachVersion,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MenuMode {
    Never,
    Always,
    OnKey,
}

/// An entry of the menu: `local_disk`, `register`, `memory_test`, `diagnostics` (what the server decided, and why), or
/// `medium:NAME` for a disk image of people's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct MenuEntry(pub String);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnknownMachine {
    Ignore,
    Menu,
    Register,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Enrolment {
    Approve,
    Automatic,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FirstLoader {
    Ipxe,
    Grub,
    Pxelinux,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum IpxeVariant {
    Full,
    SnpOnly,
}

/// Nobody, UEFI HTTP Boot, or that and each iPXE that does not say that it speaks no HTTPS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BootTls {
    Never,
    Firmware,
    Always,
}

/// The quickest way that the firmware is known to take, the firmware by its next boot entry, or the loader from the
/// first disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LocalBoot {
    Auto,
    Firmware,
    FirstDisk,
}

/// Ways to offer a boot file: final beside another server (BIOS), by port 4011, final (UEFI), complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    Auto,
    A,
    B,
    C,
    D,
}

/// The way of offering that a machine's firmware was found to understand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LearnedStrategy {
    /// `A`, `B`, `C` or `D`.
    pub strategy: String,
    /// What it does, as a clause.
    pub what: String,
    /// The firmware that it holds for.
    pub firmware: Option<String>,
    pub since: Millis,
}

/// The site's settings, and what each comes to with the built-in defaults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SitePolicy {
    pub settings: Settings,
    pub effective: Vec<EffectiveSetting>,
    pub revision: u64,
}

/// A setting with its value and where that came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EffectiveSetting {
    pub name: String,
    pub value: String,
    /// `default`, `site`, `group ...`, `rule ...` or `machine`.
    pub origin: String,
}

/// Whom to explain.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, utoipa::IntoParams,
)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct ExplainQuery {
    pub mac: String,
    /// `bios` or `uefi`; what the machine last told, or `uefi`, when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firmware: Option<String>,
    /// As if it spoke from there; where it was last heard, when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

/// What a machine would get if it booted now, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Explained {
    pub decision: String,
    /// Each rule that was looked at, in order.
    pub rules: Vec<ExplainedRule>,
    /// What its firmware would be answered before that, for each kind it may have.
    #[serde(default)]
    pub firmware: Vec<ExplainedFirmware>,
    /// What the policy deploys to it by itself, or why it does not though somebody wants it; none where nobody does.
    #[serde(default)]
    pub deployment: Option<SelfDeployment>,
    /// Where it is taken to be.
    #[serde(default)]
    pub address: Option<String>,
    /// The configured network that this is in, as rules call it; empty outside of all.
    #[serde(default)]
    pub subnet: String,
    pub effective: Vec<EffectiveSetting>,
}

/// A deployment that nobody orders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SelfDeployment {
    /// Its disk is overwritten at its next boot.
    pub starts: bool,
    /// What, by whom and how often; or why not.
    pub why: String,
}

/// The same of one of all machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MachineDeployment {
    pub machine: Uuid,
    pub name: String,
    /// Its disk is overwritten at its next boot.
    pub starts: bool,
    /// What, by whom and how often; or why not.
    pub why: String,
}

/// What one kind of firmware would be answered when it asks for something to boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExplainedFirmware {
    /// Such as `UEFI x86-64 by PXE`.
    pub asks_as: String,
    /// Whether the machine was last seen so; otherwise it is one of the kinds it may have.
    pub last_seen: bool,
    /// The boot program, or why there is none.
    pub decision: String,
    /// `from DHCP`, `from ProxyDHCP`: how the boot file is named to it.
    pub answer: String,
    /// The DHCP options that were set for it, each with where it was set; empty while it holds no address of ours.
    #[serde(default)]
    pub options: Vec<String>,
    pub rules: Vec<ExplainedRule>,
}

/// A group of machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Group {
    pub name: String,
    /// What it sets for machines that do not set it themselves.
    pub settings: Settings,
    /// How many machines are in it.
    pub machines: u64,
}

/// A group, and how far its machines are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GroupDetail {
    #[serde(flatten)]
    pub group: Group,
    /// The newest task of each machine, by its state.
    pub newest: NewestTasks,
    /// Its machines by name: the first 1000.
    pub members: Vec<MachineSummary>,
}

/// A condition in CEL and what follows from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    pub name: String,
    /// Asks for `facts`, `machine` and `inventory`.
    pub when: String,
    #[serde(default)]
    pub settings: Settings,
    /// Such machines start their local disk and nothing else.
    #[serde(default)]
    pub refuse_boot: bool,
    /// No task that writes to a disk begins on such machines.
    #[serde(default)]
    pub refuse_tasks: bool,
}

/// All rules, in the order in which they are looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    #[serde(default)]
    pub rules: Vec<Rule>,
}

/// What a machine is to do at its next boots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewIntent {
    pub entry: MenuEntry,
    /// For so many boots.
    pub boots: u16,
    /// Forgotten after this time.
    pub minutes: u32,
    #[serde(default)]
    pub until: Until,
}

/// The same, as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Intent {
    pub entry: MenuEntry,
    pub boots_left: u16,
    pub expires: Millis,
    pub until: Until,
    pub set_by: String,
}

/// What ends it before its boots are used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// Nothing but the count and the time.
    #[default]
    Used,
    /// Somebody has approved the machine.
    Approved,
    /// The agent has told what the machine is made of.
    Inventoried,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExplainedRule {
    pub rule: String,
    pub matched: bool,
    pub why: String,
}
