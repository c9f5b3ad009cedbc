//! Rows and pages, with every value as it is shown.

mod images;
mod machines;
mod policy;
mod tasks;

use askama::Template;
use farrier_api::admin::{Lease, Loader, Plan, ServerStatus};

use super::Frame;
use super::text::{Moment, bytes, shown};
pub use images::*;
pub use machines::*;
pub use policy::*;
pub use tasks::*;

/// A tile of the dashboard.
#[derive(Clone, Debug)]
pub struct Tile {
    pub label: &'static str,
    pub value: String,
    pub note: String,
    pub href: &'static str,
}

/// Something that wants a person.
#[derive(Clone, Debug)]
pub struct Attention {
    pub text: String,
    pub href: String,
    pub link: &'static str,
}

#[derive(Debug, Template)]
#[template(path = "dashboard.html")]
pub struct Dashboard {
    pub frame: Frame,
    pub tiles: Vec<Tile>,
    pub attention: Vec<Attention>,
    pub tasks: Vec<TaskView>,
    pub events: Vec<EntryView>,
}

/// The numbers at the top of the dashboard.
#[must_use]
pub fn tiles(s: &ServerStatus) -> Vec<Tile> {
    let store = &s.store;
    let saved = ratio(store.content_bytes, store.stored_bytes);
    vec![
        Tile {
            label: "Machines",
            value: s.machines.total.to_string(),
            note: format!("{} approved", s.machines.approved),
            href: "/machines",
        },
        Tile {
            label: "At work",
            value: s.tasks.running.to_string(),
            note: format!("{} queued", s.tasks.queued),
            href: "/tasks",
        },
        Tile {
            label: "Images",
            value: store.images.to_string(),
            note: format!("{} versions", store.versions),
            href: "/images",
        },
        Tile {
            label: "Stored",
            value: bytes(store.stored_bytes),
            note: match store.free_bytes {
                Some(free) => format!("{saved} smaller, {} free", bytes(free)),
                None => format!("{saved} smaller"),
            },
            href: "/images",
        },
    ]
}

/// A plan that wants a yes.
#[derive(Debug, Template)]
#[template(path = "plan.html")]
pub struct PlanPage {
    pub frame: Frame,
    pub plan: Plan,
    /// Where to send the yes.
    pub action: String,
    /// What to send besides it.
    pub fields: Vec<(String, String)>,
    pub button: String,
    pub back: String,
    /// Whether its action has a form to go back to, with `fields` filled in. The yes is then the button's own value,
    /// so that no other way of sending this page says yes.
    pub may_change: bool,
}

impl PlanPage {
    /// Everything that came from strangers made visible.
    #[must_use]
    pub fn of(
        frame: Frame,
        plan: &Plan,
        action: String,
        fields: Vec<(String, String)>,
        button: &str,
        back: String,
    ) -> Self {
        let each = |lines: &[String]| lines.iter().map(|line| shown(line)).collect();
        let plan = Plan {
            summary: shown(&plan.summary),
            steps: each(&plan.steps),
            warnings: each(&plan.warnings),
            left_out: plan.left_out.iter().map(shown_left_out).collect(),
            destructive: plan.destructive,
            confirm: plan.confirm.clone(),
        };
        Self {
            frame,
            plan,
            action,
            fields,
            button: button.to_owned(),
            back,
            may_change: false,
        }
    }

    /// The same for an action that shows its form again when asked to.
    #[must_use]
    pub fn to_change(self) -> Self {
        Self {
            may_change: true,
            ..self
        }
    }
}

/// A lease as a row.
#[derive(Clone, Debug)]
pub struct LeaseView {
    pub ip: String,
    pub mac: String,
    pub host: String,
    pub state: String,
    pub ends: Moment,
    pub machine: Option<String>,
}

impl LeaseView {
    #[must_use]
    pub fn of(l: &Lease) -> Self {
        Self {
            ip: l.ip.clone(),
            mac: l.mac.clone(),
            host: shown(l.hostname.as_deref().unwrap_or("")),
            state: l.state.clone(),
            ends: Moment::of(l.ends),
            machine: l.machine.map(|id| id.to_string()),
        }
    }
}

#[derive(Debug, Template)]
#[template(path = "network.html")]
pub struct Network {
    pub frame: Frame,
    pub leases: Vec<LeaseView>,
    pub loaders: Vec<Loader>,
}

#[derive(Debug, Template)]
#[template(path = "login.html")]
pub struct Login {
    pub frame: Frame,
    pub error: String,
    pub next: String,
}

#[derive(Debug, Template)]
#[template(path = "setup.html")]
pub struct Setup {
    pub frame: Frame,
    pub error: String,
    pub done: bool,
}

#[derive(Debug, Template)]
#[template(path = "refused.html")]
pub struct RefusedPage {
    pub frame: Frame,
    pub message: String,
    pub hint: String,
    pub request: String,
}
