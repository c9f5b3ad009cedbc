//! Work for machines.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Millis, Plan};
use crate::agent::{Bottleneck, DiskSelector};

/// A task with its state and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TaskSummary {
    pub id: Uuid,
    pub machine: Uuid,
    /// What the machine is called, or its first address.
    pub machine_name: String,
    pub work: TaskWork,
    pub state: TaskState,
    pub progress: TaskProgress,
    pub attempts: u32,
    pub max_attempts: u32,
    pub created: Millis,
    pub created_by: String,
    pub expires: Millis,
    pub ended: Option<Millis>,
    /// When its agent was last heard.
    pub heard: Option<Millis>,
    /// Why it ended, failed or waits, in words.
    pub reason: Option<String>,
    pub then: Then,
    pub revision: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum TaskWork {
    Inventory,
    Capture {
        image: String,
        #[serde(default)]
        disk: DiskSelector,
    },
    Deploy {
        /// What the machine's policy chooses when left out.
        #[serde(default)]
        image: String,
        /// The newest when left out.
        #[serde(default)]
        version: Option<u32>,
        #[serde(default)]
        disk: DiskSelector,
    },
    /// Bring the disk back to the image it should hold, writing only what differs.
    Repair {
        /// What the machine's policy chooses when left out.
        #[serde(default)]
        image: String,
        #[serde(default)]
        version: Option<u32>,
        #[serde(default)]
        disk: DiskSelector,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Waits for the machine to boot.
    Queued,
    Running,
    /// Its agent is silent; it goes on when the agent comes back or boots again.
    Lost,
    Done,
    Failed,
    Cancelled,
    Expired,
}

impl TaskState {
    /// Whether nothing more will happen.
    #[must_use]
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Running | Self::Lost)
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Lost => "lost",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }
}

/// What the machine does when the work is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    #[default]
    LocalBoot,
    /// Restart, once from the network: UEFI is told, a BIOS follows its own order.
    NetworkBoot,
    PowerOff,
    Reboot,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct TaskProgress {
    pub phase: String,
    pub done_bytes: u64,
    pub total_bytes: u64,
    pub bytes_per_second: u64,
    pub bottleneck: Option<Bottleneck>,
}

/// Which tasks.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, utoipa::IntoParams,
)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct TaskQuery {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<Uuid>,
    /// Of the machines that are in this group now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<TaskState>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// The same work for one or many machines: those that are named, those of a group, or both.
///
/// One named machine gets the task in any case, with warnings. Of a group or of several machines, those that cannot
/// take it now are left out and told of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTasks {
    #[serde(default)]
    pub machines: Vec<Uuid>,
    /// Every machine that is in this group now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    pub work: TaskWork,
    #[serde(default)]
    pub then: Then,
    /// Wake the machines by magic packets, one after another.
    #[serde(default)]
    pub wake: bool,
    /// From the [`Plan`]; wanted for work that writes to disks, for a group, and for more than one machine. Sent again,
    /// it orders nothing again and gives the same tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<String>,
}

impl NewTasks {
    /// Whether machines that cannot take the work are left out, not warned of.
    #[must_use]
    pub fn is_many(&self) -> bool {
        self.group.is_some() || self.machines.len() > 1
    }
}

/// What came of [`NewTasks`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TasksCreated {
    pub plan: Plan,
    pub tasks: Vec<TaskSummary>,
    /// Who got no task, and why: as the plan said, or since it could not be stored.
    #[serde(default)]
    pub left_out: Vec<LeftOut>,
}

/// A machine that gets no task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LeftOut {
    pub machine: Uuid,
    pub machine_name: String,
    pub why: String,
    /// The unfinished task that is this very order already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Uuid>,
}

/// How many machines of a group have a newest task in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewestTasks {
    pub queued: u64,
    pub running: u64,
    pub lost: u64,
    pub done: u64,
    pub failed: u64,
    pub cancelled: u64,
    pub expired: u64,
    /// Machines that never had a task.
    pub none: u64,
}

impl NewestTasks {
    /// As people read it; states that none is in are left out.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
        let all = [
            (TaskState::Queued.as_str(), self.queued),
            (TaskState::Running.as_str(), self.running),
            (TaskState::Lost.as_str(), self.lost),
            (TaskState::Done.as_str(), self.done),
            (TaskState::Failed.as_str(), self.failed),
            (TaskState::Cancelled.as_str(), self.cancelled),
            (TaskState::Expired.as_str(), self.expired),
            ("without a task", self.none),
        ];
        all.into_iter().filter(|(_, count)| *count > 0)
    }
}
