//! The pages that order work: for one machine, for those that were ticked, for a group. A form leads to the plan,
//! the plan to the tasks.

use axum::http::StatusCode;
use axum::response::Response;
use farrier_api::admin::{NewTasks, TaskWork, Then};
use farrier_api::agent::DiskSelector;
use serde::Deserialize;
use uuid::Uuid;

use super::api::{Asked, Named};
use super::forms::{Filled, sentence, to_machine};
use super::html;
use crate::auth::Action;
use crate::service::{Code, Desk, Refusal};
use crate::ui::text::shown;
use crate::ui::{self, Frame, MachineView};

type Page = Result<Response, Refusal>;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct KindQuery {
    kind: String,
}

/// The form for one machine.
pub(super) async fn order(
    desk: Desk,
    Named(id): Named<Uuid>,
    Asked(query): Asked<KindQuery>,
) -> Page {
    desk.allow(Action::CreateTask)?;
    form_page(&desk, &Whom::Machine(id), kind_word(&query.kind), "")
}

pub(super) async fn set_order(Named(id): Named<Uuid>, filled: Filled<OrderForm>) -> Page {
    carry_out(&filled.desk, &Whom::Machine(id), &filled.form).await
}

/// The form for many: `group`, or `machine` as often as one was ticked.
pub(super) async fn orders(desk: Desk, Asked(query): Asked<Vec<(String, String)>>) -> Page {
    desk.allow(Action::CreateTask)?;
    let last = |name: &str| {
        let found = query.iter().rfind(|(field, _)| field == name);
        found.map_or("", |(_, value)| value.as_str())
    };
    let ticked = query.iter().filter(|(field, _)| field == "machine");
    let ticked: Vec<&str> = ticked.map(|(_, value)| value.as_str()).collect();
    let whom = Whom::read(last("group"), &ticked.join(","))?;
    form_page(&desk, &whom, kind_word(last("kind")), "")
}

pub(super) async fn set_orders(filled: Filled<OrderForm>) -> Page {
    let Filled { desk, form } = filled;
    let whom = Whom::read(&form.group, &form.machines)?;
    carry_out(&desk, &whom, &form).await
}

/// A group: how far its machines are, and what can be ordered for them.
pub(super) async fn group(desk: Desk, Named(name): Named<String>) -> Page {
    let found = desk.group(&name).await?;
    let frame = Frame::new(&format!("Group {name}"), "policy", Some(desk.who()));
    Ok(html(StatusCode::OK, &ui::GroupPage::of(frame, &found)))
}

/// Whom an order is for.
enum Whom {
    Machine(Uuid),
    Ticked(Vec<Uuid>),
    Group(String),
}

impl Whom {
    fn read(group: &str, ticked: &str) -> Result<Self, Refusal> {
        if !group.is_empty() {
            return Ok(Self::Group(group.to_owned()));
        }
        let ids = ticked
            .split(',')
            .filter(|id| !id.is_empty())
            .map(str::parse);
        let ids: Result<Vec<Uuid>, _> = ids.collect();
        match ids {
            Ok(ids) if ids.is_empty() => Err(Refusal::bad("no machine is ticked")),
            Ok(ids) => Ok(Self::Ticked(ids)),
            Err(_) => Err(Refusal::bad("that is not a list of machines")),
        }
    }

    /// What it is called, where its form goes, and where one comes from.
    fn words(&self, desk: &Desk) -> Result<(String, String, String), Refusal> {
        let orders = "/orders".to_owned();
        Ok(match self {
            Self::Machine(id) => {
                let name = MachineView::of(&desk.machine(*id)?.summary).name;
                (
                    name,
                    format!("/machines/{id}/order"),
                    format!("/machines/{id}"),
                )
            }
            Self::Ticked(ids) if ids.len() == 1 => {
                ("1 machine".to_owned(), orders, "/machines".to_owned())
            }
            Self::Ticked(ids) => (
                format!("{} machines", ids.len()),
                orders,
                "/machines".to_owned(),
            ),
            Self::Group(name) => (
                format!("the group {}", shown(name)),
                orders,
                format!("/groups/{name}"),
            ),
        })
    }

    /// What a form of this has to send along.
    fn fields(&self) -> Vec<(String, String)> {
        match self {
            Self::Machine(_) => Vec::new(),
            Self::Ticked(ids) => {
                let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
                vec![("machines".to_owned(), ids.join(","))]
            }
            Self::Group(name) => vec![("group".to_owned(), name.clone())],
        }
    }
}

fn form_page(desk: &Desk, whom: &Whom, kind: &'static str, error: &str) -> Page {
    let (name, action, back) = whom.words(desk)?;
    let disks = match whom {
        Whom::Machine(id) => {
            ui::InventoryView::of(&desk.machine(*id)?)
                .unwrap_or_default()
                .disks
        }
        Whom::Ticked(_) | Whom::Group(_) => Vec::new(),
    };
    let page = ui::OrderForm {
        frame: Frame::new(ui::verb(kind), "machines", Some(desk.who())),
        whom: name,
        action,
        back,
        fields: whom.fields(),
        many: !matches!(whom, Whom::Machine(_)),
        kind,
        images: desk.image_names()?,
        disks,
        error: shown(error),
    };
    Ok(html(StatusCode::OK, &page))
}

#[derive(Deserialize)]
pub(super) struct OrderForm {
    kind: String,
    #[serde(default)]
    image: String,
    #[serde(default)]
    serial: String,
    #[serde(default)]
    then: String,
    #[serde(default)]
    wake: String,
    #[serde(default)]
    group: String,
    /// Ids, with commas.
    #[serde(default)]
    machines: String,
    /// Absent on the form, there on the plan that follows it.
    #[serde(default)]
    confirm: String,
}

async fn carry_out(desk: &Desk, whom: &Whom, form: &OrderForm) -> Page {
    let (machines, group) = match whom {
        Whom::Machine(id) => (vec![*id], None),
        Whom::Ticked(ids) => (ids.clone(), None),
        Whom::Group(name) => (Vec::new(), Some(name.clone())),
    };
    let new = NewTasks {
        machines,
        group,
        work: form.work()?,
        then: form.then(),
        wake: !form.wake.is_empty(),
        confirm: Some(form.confirm.clone()).filter(|c| !c.is_empty()),
    };
    let kind = ui::kind_of(&new.work);
    let done = match &new.confirm {
        Some(_) => desk.create_tasks(&new).await,
        None => Err(Refusal::new(Code::ConfirmNeeded, "")),
    };
    match (done, whom) {
        (Ok(_), Whom::Machine(id)) => Ok(to_machine(*id)),
        (Ok(created), _) => {
            let (_, _, back) = whom.words(desk)?;
            let frame = Frame::new("Ordered", "machines", Some(desk.who()));
            Ok(html(
                StatusCode::OK,
                &ui::OrderedPage::of(frame, &created, back),
            ))
        }
        (Err(refusal), _) if matches!(refusal.code, Code::ConfirmNeeded | Code::PlanChanged) => {
            show_plan(desk, whom, form, &new, kind).await
        }
        (Err(refusal), _) => Err(refusal),
    }
}

async fn show_plan(
    desk: &Desk,
    whom: &Whom,
    form: &OrderForm,
    new: &NewTasks,
    kind: &'static str,
) -> Page {
    let fresh = NewTasks {
        confirm: None,
        ..new.clone()
    };
    match desk.plan_tasks(&fresh).await {
        Ok(plan) => {
            let (_, action, back) = whom.words(desk)?;
            let frame = Frame::new(ui::verb(kind), "machines", Some(desk.who()));
            let mut fields = form.fields();
            fields.extend(whom.fields());
            let page = ui::PlanPage::of(frame, &plan, action, fields, ui::verb(kind), back);
            Ok(html(StatusCode::OK, &page))
        }
        Err(refusal) if matches!(refusal.code, Code::BadRequest | Code::NotFound) => {
            form_page(desk, whom, kind, &sentence(&refusal.message))
        }
        Err(refusal) => Err(refusal),
    }
}

fn kind_word(kind: &str) -> &'static str {
    match kind {
        "deploy" => "deploy",
        "repair" => "repair",
        "capture" => "capture",
        _ => "inventory",
    }
}

impl OrderForm {
    fn work(&self) -> Result<TaskWork, Refusal> {
        let disk = DiskSelector {
            serial: Some(self.serial.clone()).filter(|s| !s.is_empty()),
            ..DiskSelector::default()
        };
        let image = self.image.clone();
        match self.kind.as_str() {
            "inventory" => Ok(TaskWork::Inventory),
            "capture" => Ok(TaskWork::Capture { image, disk }),
            "deploy" => Ok(TaskWork::Deploy {
                image,
                version: None,
                disk,
            }),
            "repair" => Ok(TaskWork::Repair {
                image,
                version: None,
                disk,
            }),
            _ => Err(Refusal::bad("there is no such kind of work")),
        }
    }

    fn then(&self) -> Then {
        match self.then.as_str() {
            "network_boot" => Then::NetworkBoot,
            "power_off" => Then::PowerOff,
            "reboot" => Then::Reboot,
            _ => Then::LocalBoot,
        }
    }

    fn fields(&self) -> Vec<(String, String)> {
        [
            ("kind", &self.kind),
            ("image", &self.image),
            ("serial", &self.serial),
            ("then", &self.then),
            ("wake", &self.wake),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.clone()))
        .collect()
    }
}
