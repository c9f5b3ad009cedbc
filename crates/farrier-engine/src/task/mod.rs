//! Finite work for a machine, as a durable state machine with fencing.

mod machine;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::WallTime;
use crate::model::{MachineId, TaskId};

pub use machine::{Applied, Event, Outcome, Refused, apply};

/// One piece of work for one machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    pub id: TaskId,
    pub machine: MachineId,
    pub work: Work,
    pub state: State,
    /// Raised by one on each claim. An agent that shows a lower one is refused.
    pub fence: u64,
    /// How often it was started, and how often it may be.
    pub attempts: u32,
    pub max_attempts: u32,
    pub created: WallTime,
    pub created_by: String,
    /// The policy started it by itself; `created_by` says which part of it.
    #[serde(default)]
    pub by_policy: bool,
    /// Not started any more after this.
    pub expires: WallTime,
    /// When the agent that holds it was last heard.
    pub heard: Option<WallTime>,
    pub progress: Progress,
    /// Why it ended, failed or waits, in words.
    pub reason: Option<String>,
    pub ended: Option<WallTime>,
    /// What the machine does when the work is done.
    pub then: Then,
    /// Raised by one on each stored change.
    pub revision: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Work {
    Inventory,
    Capture {
        image: String,
        disk: DiskSelector,
    },
    Deploy {
        image: String,
        version: Option<u32>,
        disk: DiskSelector,
    },
    /// Bring the disk back to the image it should hold, writing only what differs.
    Repair {
        image: String,
        version: Option<u32>,
        disk: DiskSelector,
    },
}

/// Which disk, by what is known of it. All that is set must match, and exactly one disk must.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DiskSelector {
    pub serial: Option<String>,
    pub wwn: Option<String>,
    /// `nvme`, `sata`, `scsi`, `usb`, `virtio`, `mmc`.
    pub bus: Option<String>,
    pub min_bytes: Option<u64>,
    pub max_bytes: Option<u64>,
    /// The model contains this text.
    pub model: Option<String>,
    /// Removable disks match only if this is set.
    pub allow_removable: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Waits for the machine to boot.
    Queued,
    /// An agent holds it.
    Running,
    /// Its agent is silent; it goes on when the agent comes back or boots again.
    Lost,
    Done,
    Failed,
    Cancelled,
    Expired,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    LocalBoot,
    /// Around again by way of the network, whatever the firmware's own order says.
    NetworkBoot,
    PowerOff,
    Reboot,
}

/// How far it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// What it is doing, for people: "reading the disk".
    pub phase: String,
    pub done_bytes: u64,
    pub total_bytes: u64,
    pub bytes_per_second: u64,
    /// What limits the speed now.
    pub bottleneck: Option<Bottleneck>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bottleneck {
    Cpu,
    Disk,
    Network,
}
