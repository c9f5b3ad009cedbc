//! Settings that decide a boot, and what they come to for one machine.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown_machine: Option<UnknownMachine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enrolment: Option<Enrolment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipxe_variant: Option<IpxeVariant>,
    /// Give signed loaders only; found out by the agent where nobody says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secure_boot: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MenuMode {
    Never,
    Always,
    OnKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MenuEntry {
    LocalDisk,
    Register,
    MemoryTest,
    /// What the server decided, and why.
    Diagnostics,
}

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
pub enum IpxeVariant {
    Full,
    SnpOnly,
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
    /// `default`, `site` or `machine`.
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
}

/// What a machine would get if it booted now, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Explained {
    pub decision: String,
    /// Each rule that was looked at, in order.
    pub rules: Vec<ExplainedRule>,
    pub effective: Vec<EffectiveSetting>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExplainedRule {
    pub rule: String,
    pub matched: bool,
    pub why: String,
}
