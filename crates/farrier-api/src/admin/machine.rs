//! Machines, what is known of them and what happened to them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{EffectiveSetting, Intent, LearnedStrategy, Millis, Settings, TaskSummary};
use crate::agent::Inventory;

/// A machine as it appears in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MachineSummary {
    pub id: Uuid,
    pub name: Option<String>,
    pub registration: Registration,
    pub macs: Vec<String>,
    pub uuid: Option<Uuid>,
    pub firmware: Option<String>,
    pub arch: Option<String>,
    pub manufacturer: String,
    pub product: String,
    pub serial: String,
    pub memory_bytes: u64,
    pub first_seen: Millis,
    pub last_seen: Millis,
    /// The unfinished task, if it has one.
    pub task: Option<TaskSummary>,
    pub revision: u64,
}

/// All that is known of one machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MachineDetail {
    #[serde(flatten)]
    pub summary: MachineSummary,
    /// The group whose settings count where it sets nothing itself.
    #[serde(default)]
    pub group: Option<String>,
    /// What this machine sets for itself.
    pub settings: Settings,
    /// What each setting comes to, and from whom.
    #[serde(default)]
    pub effective: Vec<EffectiveSetting>,
    /// What it is to do at its next boots.
    #[serde(default)]
    pub intent: Option<Intent>,
    /// How its firmware is offered what to boot, once that is known.
    #[serde(default)]
    pub learned: Option<LearnedStrategy>,
    /// Until then it gets blocks of 512 bytes by TFTP, one at a time: no block of a transfer with larger ones arrived.
    #[serde(default)]
    pub small_blocks_until: Option<Millis>,
    pub inventory: Option<Inventory>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Registration {
    /// Seen on the network; nobody has said that it is ours.
    Seen,
    /// Its agent asked to enrol and waits for a person.
    Pending,
    Approved,
    /// Ours, and told to leave the network boot alone.
    Disabled,
}

impl Registration {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Seen => "seen",
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Disabled => "disabled",
        }
    }
}

/// Which machines.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, utoipa::IntoParams,
)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct MachineQuery {
    /// Part of a name, address, serial or model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registration: Option<Registration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A machine that somebody knows before it is switched on for the first time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewMachine {
    pub macs: Vec<String>,
    #[serde(default)]
    pub name: Option<String>,
}

/// What to change; what is left out stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MachineChange {
    /// A host name, or empty for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settings: Option<Settings>,
    /// The name of a group, or empty for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

/// How to wake a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Wake {
    /// The password some network cards want: six hex bytes or four numbers with dots. It is not kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secure_on: Option<String>,
}

/// What went out. Whether the machine heard it, its next boot tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Woken {
    /// Each packet: to which hardware address, by which way.
    pub sent: Vec<String>,
    /// Ways that failed, with the cause.
    pub failed: Vec<String>,
}

/// A code for a machine's menu.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IssuedCode {
    /// Six digits, good once at this machine.
    pub code: String,
    pub expires: Millis,
}

/// One thing that happened to a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TimelineEntry {
    pub at: Millis,
    pub machine: Uuid,
    /// `seen`, `answered`, `refused`, `transfer`, `agent`, `task`, `operator` or `warning`.
    pub kind: String,
    /// A whole sentence.
    pub text: String,
    /// The facts behind it, in the order to show them.
    pub details: Vec<(String, String)>,
}

/// A machine's last boot beside its last good one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BootComparison {
    /// When the good boot began; none if there is none.
    pub good_at: Option<Millis>,
    pub last_at: Millis,
    /// Whether the last boot came to its script or agent with nothing refused or missing.
    pub last_is_good: bool,
    /// The first difference, as a sentence.
    pub verdict: String,
    pub steps: Vec<ComparedStep>,
}

/// One line of the comparison.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ComparedStep {
    /// As in [`TimelineEntry`].
    pub kind: String,
    pub text: String,
    /// Milliseconds after the start of the good boot; none if it did not happen there.
    pub good_ms: Option<u64>,
    /// Milliseconds after the start of the last boot; none if it did not happen there.
    pub last_ms: Option<u64>,
}

/// Which part of a timeline.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, utoipa::IntoParams,
)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct TimelineQuery {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}
