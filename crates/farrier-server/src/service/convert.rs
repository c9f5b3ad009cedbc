//! From the words of the domain to those of the interface, and back.

mod machines;
mod settings;
mod tasks;

use farrier_api::{admin as api, agent};
use farrier_engine::model::{self};
use farrier_engine::{policy, strategy, task, timeline};

pub(crate) use machines::{
    arch_name, firmware_name, machine_detail, machine_name, machine_summary,
};
pub(crate) use settings::{entry_back, rule, rule_back, settings, settings_back};
pub(crate) use tasks::{selector, task_summary, work_back};

/// Declares the two directions between enums with the same variants.
macro_rules! same {
    ($($left:path, $right:path { $($variant:ident),* })*) => {$(
        impl Like<$right> for $left {
            fn like(self) -> $right {
                match self { $(<$left>::$variant => <$right>::$variant,)* }
            }
        }
        impl Like<$left> for $right {
            fn like(self) -> $left {
                match self { $(<$right>::$variant => <$left>::$variant,)* }
            }
        }
    )*};
}

/// The same thing in the other vocabulary.
pub(crate) trait Like<T> {
    fn like(self) -> T;
}

same! {
    model::Registration, api::Registration { Seen, Pending, Approved, Disabled }
    model::Role, api::Role { Viewer, Operator, Admin }
    task::State, api::TaskState { Queued, Running, Lost, Done, Failed, Cancelled, Expired }
    task::Then, api::Then { LocalBoot, NetworkBoot, PowerOff, Reboot }
    task::Bottleneck, agent::Bottleneck { Cpu, Disk, Network }
    policy::MenuMode, api::MenuMode { Never, Always, OnKey }
    policy::UnknownMachine, api::UnknownMachine { Ignore, Menu, Register }
    policy::Enrolment, api::Enrolment { Approve, Automatic }
    policy::FirstLoader, api::FirstLoader { Ipxe, Grub, Pxelinux }
    policy::IpxeVariant, api::IpxeVariant { Full, SnpOnly }
    policy::AutoDeploy, api::AutoDeploy { Never, Once, EachVersion }
    policy::DeployOver, api::DeployOver { Blank, Anything }
    policy::BootTls, api::BootTls { Never, Firmware, Always }
    policy::LocalBootChoice, api::LocalBoot { Auto, Firmware, FirstDisk }
    strategy::StrategyChoice, api::Strategy { Auto, A, B, C, D }
    policy::Until, api::Until { Used, Approved, Inventoried }
}

pub(crate) fn kind_name(kind: timeline::Kind) -> &'static str {
    match kind {
        timeline::Kind::Seen => "seen",
        timeline::Kind::Answered => "answered",
        timeline::Kind::Refused => "refused",
        timeline::Kind::Transfer => "transfer",
        timeline::Kind::Agent => "agent",
        timeline::Kind::Task => "task",
        timeline::Kind::Operator => "operator",
        timeline::Kind::Warning => "warning",
    }
}

pub(crate) fn timeline_entry(e: &timeline::Entry) -> api::TimelineEntry {
    api::TimelineEntry {
        at: e.at.0,
        machine: e.machine.0,
        kind: kind_name(e.kind).to_owned(),
        text: e.text.to_string(),
        details: e
            .details
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect(),
    }
}
