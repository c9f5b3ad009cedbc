//! Tasks, and the form that orders one.

use askama::Template;
use farrier_api::admin::{LeftOut, TaskState, TaskSummary, TaskWork, TasksCreated};
use farrier_api::agent::Bottleneck;

use super::DiskView;
use crate::service::describe_work;
use crate::ui::Frame;
use crate::ui::text::{Moment, bytes, duration, shown};

/// A task as a row.
#[derive(Clone, Debug)]
pub struct TaskView {
    pub id: String,
    pub machine: String,
    pub machine_name: String,
    pub what: String,
    pub state: &'static str,
    pub is_final: bool,
    pub running: bool,
    pub phase: String,
    pub percent: u64,
    pub amount: String,
    pub rate: String,
    pub eta: String,
    pub bottleneck: &'static str,
    pub reason: String,
    pub by: String,
    pub created: Moment,
    pub ended: Option<Moment>,
    pub attempts: String,
}

impl TaskView {
    #[must_use]
    pub fn of(t: &TaskSummary) -> Self {
        let p = &t.progress;
        let running = t.state == TaskState::Running;
        let left = p.total_bytes.saturating_sub(p.done_bytes);
        let percent = match p.total_bytes {
            _ if t.state == TaskState::Done => 100,
            0 => 0,
            total => u64::try_from(u128::from(p.done_bytes.min(total)) * 100 / u128::from(total))
                .unwrap_or(0),
        };
        let moving = running && p.bytes_per_second > 0;
        Self {
            id: t.id.to_string(),
            machine: t.machine.to_string(),
            machine_name: shown(&t.machine_name),
            what: shown(&capital(&describe_work(&t.work))),
            state: t.state.as_str(),
            is_final: t.state.is_final(),
            running,
            phase: shown(&p.phase),
            percent,
            amount: if p.total_bytes > 0 {
                format!("{} of {}", bytes(p.done_bytes), bytes(p.total_bytes))
            } else {
                String::new()
            },
            rate: if moving {
                format!("{}/s", bytes(p.bytes_per_second))
            } else {
                String::new()
            },
            eta: if moving && left > 0 {
                format!("{} left", duration(left / p.bytes_per_second))
            } else {
                String::new()
            },
            bottleneck: match p.bottleneck.filter(|_| running) {
                Some(Bottleneck::Cpu) => "limited by the processor",
                Some(Bottleneck::Disk) => "limited by the disk",
                Some(Bottleneck::Network) => "limited by the network",
                None => "",
            },
            reason: shown(t.reason.as_deref().unwrap_or("")),
            by: shown(&t.created_by),
            created: Moment::of(t.created),
            ended: t.ended.map(Moment::of),
            attempts: format!("{} of {}", t.attempts, t.max_attempts),
        }
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(chars).collect()
    })
}

#[derive(Debug, Template)]
#[template(path = "tasks.html")]
pub struct Tasks {
    pub frame: Frame,
    pub active: Vec<TaskView>,
    pub ended: Vec<TaskView>,
    pub filter: &'static str,
    pub next: Option<String>,
}

#[derive(Debug, Template)]
#[template(path = "task_card.html")]
pub struct TaskCard {
    pub frame: Frame,
    pub t: TaskView,
}

#[derive(Debug, Template)]
#[template(path = "task.html")]
pub struct TaskPage {
    pub frame: Frame,
    pub t: TaskView,
}

/// The form that orders work for one machine or many.
#[derive(Debug, Template)]
#[template(path = "order.html")]
pub struct OrderForm {
    pub frame: Frame,
    /// Who gets it, as it is shown.
    pub whom: String,
    pub action: String,
    pub back: String,
    /// What the form sends along.
    pub fields: Vec<(String, String)>,
    pub many: bool,
    pub kind: &'static str,
    pub images: Vec<String>,
    pub disks: Vec<DiskView>,
    pub error: String,
}

impl OrderForm {
    #[must_use]
    pub fn verb(&self) -> &'static str {
        verb(self.kind)
    }

    #[must_use]
    pub fn wants_image(&self) -> bool {
        matches!(self.kind, "deploy" | "repair")
    }
}

/// What came of an order for many.
#[derive(Debug, Template)]
#[template(path = "ordered.html")]
pub struct OrderedPage {
    pub frame: Frame,
    pub summary: String,
    pub tasks: Vec<TaskView>,
    pub left_out: Vec<LeftOut>,
    pub back: String,
}

impl OrderedPage {
    #[must_use]
    pub fn of(frame: Frame, created: &TasksCreated, back: String) -> Self {
        Self {
            frame,
            summary: shown(&created.plan.summary),
            tasks: created.tasks.iter().map(TaskView::of).collect(),
            left_out: created.left_out.iter().map(shown_left_out).collect(),
            back,
        }
    }
}

/// Names come from people, reasons may quote them.
#[must_use]
pub fn shown_left_out(left: &LeftOut) -> LeftOut {
    LeftOut {
        machine_name: shown(&left.machine_name),
        why: shown(&left.why),
        ..left.clone()
    }
}

/// What a kind of work is called on a button.
#[must_use]
pub fn verb(kind: &str) -> &'static str {
    match kind {
        "deploy" => "Deploy",
        "repair" => "Repair",
        "capture" => "Capture",
        _ => "Take inventory",
    }
}

/// The kind of work that a form speaks of.
#[must_use]
pub fn kind_of(work: &TaskWork) -> &'static str {
    match work {
        TaskWork::Inventory => "inventory",
        TaskWork::Capture { .. } => "capture",
        TaskWork::Deploy { .. } => "deploy",
        TaskWork::Repair { .. } => "repair",
    }
}
