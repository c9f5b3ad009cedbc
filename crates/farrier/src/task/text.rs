//! Tasks, as people read them.

use farrier_api::admin::{Page, TaskState, TaskSummary, TaskWork, TasksCreated, Then};
use farrier_api::agent::Bottleneck;
use farrier_server::service::describe_work;
use farrier_server::ui::text::{bytes, shown};

use crate::output::{Fields, Table, time};

/// A task in one line.
pub(crate) fn line(task: &TaskSummary) -> String {
    let reason = task
        .reason
        .as_deref()
        .map_or_else(String::new, |reason| format!(": {reason}"));
    let work = describe_work(&task.work);
    shown(&format!(
        "{}  {}: {work}, {}{reason}",
        task.id,
        task.machine_name,
        task.state.as_str()
    ))
}

pub(super) fn list(page: &Page<TaskSummary>) -> String {
    let mut table = Table::new(["ID", "MACHINE", "WORK", "STATE", "PROGRESS", "CREATED"]);
    for task in &page.items {
        table.row([
            task.id.to_string(),
            task.machine_name.clone(),
            describe_work(&task.work),
            task.state.as_str().to_owned(),
            if task.state == TaskState::Running {
                progress(task)
            } else {
                String::new()
            },
            time(task.created),
        ]);
    }
    table.to_string()
}

pub(super) fn show(task: &TaskSummary) -> String {
    let mut fields = Fields::default();
    fields.field("id", task.id);
    fields.field("machine", &task.machine_name);
    fields.field("work", describe_work(&task.work));
    fields.field("disk", disk(&task.work));
    fields.field("state", task.state.as_str());
    fields.field("reason", task.reason.as_deref().unwrap_or_default());
    fields.field("progress", progress(task));
    fields.field(
        "attempts",
        format!("{} of {}", task.attempts, task.max_attempts),
    );
    fields.field(
        "afterwards",
        match task.then {
            Then::LocalBoot => "start from the local disk",
            Then::NetworkBoot => "restart from the network",
            Then::PowerOff => "power off",
            Then::Reboot => "restart",
        },
    );
    fields.field(
        "ordered",
        format!("{} by {}", time(task.created), task.created_by),
    );
    fields.field("agent heard", task.heard.map(time).unwrap_or_default());
    match task.ended {
        Some(ended) => fields.field("ended", time(ended)),
        None => fields.field("expires", time(task.expires)),
    }
    fields.to_string()
}

/// What came of an order, machine by machine.
pub(super) fn created(created: &TasksCreated) -> String {
    let tasks = created.tasks.iter().map(|task| line(task) + "\n");
    let left = created.left_out.iter().map(|left| {
        let task = left.task.map_or_else(String::new, |id| format!(" ({id})"));
        format!(
            "{}: left out: {}{task}\n",
            shown(&left.machine_name),
            shown(&left.why)
        )
    });
    tasks.chain(left).collect()
}

fn disk(work: &TaskWork) -> String {
    let (TaskWork::Capture { disk, .. }
    | TaskWork::Deploy { disk, .. }
    | TaskWork::Repair { disk, .. }) = work
    else {
        return String::new();
    };
    let text =
        |name: &str, value: &Option<String>| value.as_ref().map(|value| format!("{name}={value}"));
    let size = |name: &str, value: Option<u64>| value.map(|value| format!("{name}={value}"));
    let parts = [
        text("serial", &disk.serial),
        text("wwn", &disk.wwn),
        text("bus", &disk.bus),
        text("model", &disk.model),
        size("min", disk.min_bytes),
        size("max", disk.max_bytes),
        disk.allow_removable.then(|| "removable".to_owned()),
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    if parts.is_empty() {
        "the only one".to_owned()
    } else {
        parts.join(",")
    }
}

/// How far it is and what holds it up.
pub(crate) fn progress(task: &TaskSummary) -> String {
    let now = &task.progress;
    if now.total_bytes == 0 {
        return now.phase.clone();
    }
    let share = u128::from(now.done_bytes) * 100 / u128::from(now.total_bytes);
    let limit = match now.bottleneck {
        Some(Bottleneck::Cpu) => ", limited by the processor",
        Some(Bottleneck::Disk) => ", limited by the disk",
        Some(Bottleneck::Network) => ", limited by the network",
        None => "",
    };
    format!(
        "{} {share} %, {}/s{limit}",
        now.phase,
        bytes(now.bytes_per_second)
    )
}
