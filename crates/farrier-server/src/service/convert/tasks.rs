//! Tasks and their work.

use farrier_api::{admin as api, agent};
use farrier_engine::task;

use super::Like;
use super::machines::machine_name;
use crate::core::Core;

pub(crate) fn task_summary(core: &Core, t: &task::Task) -> api::TaskSummary {
    let machine_name = core
        .fleet
        .machine(t.machine)
        .map_or_else(|| t.machine.to_string(), |m| machine_name(&m));
    api::TaskSummary {
        id: t.id.0,
        machine: t.machine.0,
        machine_name,
        work: work(&t.work),
        state: t.state.like(),
        progress: api::TaskProgress {
            phase: t.progress.phase.clone(),
            done_bytes: t.progress.done_bytes,
            total_bytes: t.progress.total_bytes,
            bytes_per_second: t.progress.bytes_per_second,
            bottleneck: t.progress.bottleneck.map(Like::like),
        },
        attempts: t.attempts,
        max_attempts: t.max_attempts,
        created: t.created.0,
        created_by: t.created_by.clone(),
        expires: t.expires.0,
        ended: t.ended.map(|at| at.0),
        heard: t.heard.map(|at| at.0),
        reason: t.reason.clone(),
        then: t.then.like(),
        revision: t.revision,
    }
}

fn work(w: &task::Work) -> api::TaskWork {
    match w {
        task::Work::Inventory => api::TaskWork::Inventory,
        task::Work::Capture { image, disk } => api::TaskWork::Capture {
            image: image.clone(),
            disk: selector(disk),
        },
        task::Work::Deploy {
            image,
            version,
            disk,
        } => api::TaskWork::Deploy {
            image: image.clone(),
            version: *version,
            disk: selector(disk),
        },
        task::Work::Repair {
            image,
            version,
            disk,
        } => api::TaskWork::Repair {
            image: image.clone(),
            version: *version,
            disk: selector(disk),
        },
    }
}

pub(crate) fn work_back(w: api::TaskWork) -> task::Work {
    match w {
        api::TaskWork::Inventory => task::Work::Inventory,
        api::TaskWork::Capture { image, disk } => task::Work::Capture {
            image,
            disk: selector_back(disk),
        },
        api::TaskWork::Deploy {
            image,
            version,
            disk,
        } => task::Work::Deploy {
            image,
            version,
            disk: selector_back(disk),
        },
        api::TaskWork::Repair {
            image,
            version,
            disk,
        } => task::Work::Repair {
            image,
            version,
            disk: selector_back(disk),
        },
    }
}

pub(crate) fn selector(d: &task::DiskSelector) -> agent::DiskSelector {
    agent::DiskSelector {
        serial: d.serial.clone(),
        wwn: d.wwn.clone(),
        bus: d.bus.clone(),
        min_bytes: d.min_bytes,
        max_bytes: d.max_bytes,
        model: d.model.clone(),
        allow_removable: d.allow_removable,
    }
}

/// An empty field of a form is a field that was not set.
pub(super) fn selector_back(d: agent::DiskSelector) -> task::DiskSelector {
    let set = |text: Option<String>| text.filter(|t| !t.is_empty());
    task::DiskSelector {
        serial: set(d.serial),
        wwn: set(d.wwn),
        bus: set(d.bus),
        min_bytes: d.min_bytes,
        max_bytes: d.max_bytes,
        model: set(d.model),
        allow_removable: d.allow_removable,
    }
}
