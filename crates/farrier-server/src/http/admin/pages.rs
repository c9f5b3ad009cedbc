//! The pages that are looked at.

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use farrier_api::admin::{
    LeaseQuery, MachineQuery, Registration, TaskQuery, TaskState, TimelineQuery,
};
use serde::Deserialize;
use uuid::Uuid;

use super::api::{Asked, Named};
use super::{Shared, html};
use crate::service::{Code, Desk, Refusal};
use crate::ui::assets::ASSETS;
use crate::ui::text::shown;
use crate::ui::{self, Attention, EntryView, Frame, MachineView, TaskView};

type Page = Result<Response, Refusal>;

pub(super) async fn asset(Path(name): Path<String>) -> Page {
    let found = ASSETS
        .named(&name)
        .ok_or_else(|| Refusal::new(Code::NotFound, "there is nothing here"))?;
    let headers = [
        (header::CONTENT_TYPE, found.media_type),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
    ];
    Ok((headers, found.content).into_response())
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LoginQuery {
    next: String,
}

pub(super) async fn login(State(door): State<Shared>, Asked(query): Asked<LoginQuery>) -> Page {
    if door.wants_setup().await? {
        return Ok(axum::response::Redirect::to("/setup").into_response());
    }
    let page = ui::Login {
        frame: Frame::new("Sign in", "", None),
        error: String::new(),
        next: query.next,
    };
    Ok(html(StatusCode::OK, &page))
}

pub(super) async fn setup(State(door): State<Shared>) -> Page {
    let done = !door.wants_setup().await?;
    let page = ui::Setup {
        frame: Frame::new("First administrator", "", None),
        error: String::new(),
        done,
    };
    Ok(html(StatusCode::OK, &page))
}

pub(super) async fn dashboard(desk: Desk) -> Page {
    let status = desk.status().await?;
    let latest = desk
        .latest(&TimelineQuery {
            limit: Some(25),
            after: None,
        })
        .await?;
    let page = ui::Dashboard {
        frame: Frame::new("Dashboard", "dashboard", Some(desk.who())),
        tiles: ui::tiles(&status),
        attention: attention(&status),
        tasks: desk
            .unfinished_tasks()?
            .iter()
            .take(12)
            .map(TaskView::of)
            .collect(),
        events: latest.items.iter().map(EntryView::of).collect(),
    };
    Ok(html(StatusCode::OK, &page))
}

fn attention(s: &farrier_api::admin::ServerStatus) -> Vec<Attention> {
    let mut list = Vec::new();
    let mut say = |count: u64, one: &str, many: &str, href: &str| {
        let text = match count {
            0 => return,
            1 => one.to_owned(),
            n => format!("{n} {many}"),
        };
        list.push(Attention {
            text,
            href: href.to_owned(),
            link: "show",
        });
    };
    let pending = "/machines?registration=pending";
    say(
        s.machines.pending,
        "A machine waits for approval.",
        "machines wait for approval.",
        pending,
    );
    let silent = [
        "A task waits for an agent that has gone silent.",
        "tasks wait for agents that have gone silent.",
    ];
    say(s.tasks.lost, silent[0], silent[1], "/tasks");
    say(
        s.tasks.failed,
        "A task failed within a day.",
        "tasks failed within a day.",
        "/tasks?state=failed",
    );
    let full = u64::from(s.store.free_bytes.is_some_and(|free| free < LITTLE_SPACE));
    say(
        full,
        "The disk of the image store is nearly full: captures will pause.",
        "",
        "/images",
    );
    list.extend(s.warnings.iter().map(|w| Attention {
        text: shown(&w.text),
        href: format!("/machines/{}", w.machine),
        link: "machine",
    }));
    list
}

/// As forms send it: every field is there, if empty.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ListQuery {
    search: String,
    registration: String,
    state: String,
    after: String,
}

pub(super) async fn machines(desk: Desk, Asked(query): Asked<ListQuery>) -> Page {
    let registration = match query.registration.as_str() {
        "seen" => Some(Registration::Seen),
        "pending" => Some(Registration::Pending),
        "approved" => Some(Registration::Approved),
        "disabled" => Some(Registration::Disabled),
        _ => None,
    };
    let wanted = MachineQuery {
        search: Some(query.search.clone()).filter(|s| !s.is_empty()),
        registration,
        after: Some(query.after).filter(|a| !a.is_empty()),
        limit: Some(ROWS),
    };
    let found = desk.machines(&wanted).await?;
    let page = ui::Machines {
        frame: Frame::new("Machines", "machines", Some(desk.who())),
        rows: found.items.iter().map(MachineView::of).collect(),
        total: found.total,
        search: query.search,
        filter: registration.map_or("", Registration::as_str),
        next: found.next,
    };
    Ok(html(StatusCode::OK, &page))
}

pub(super) async fn machine_row(desk: Desk, Named(id): Named<Uuid>) -> Page {
    let found = desk.machine(id)?;
    Ok(html(
        StatusCode::OK,
        &ui::MachineRow {
            frame: Frame::new("", "machines", Some(desk.who())),
            m: MachineView::of(&found.summary),
        },
    ))
}

pub(super) async fn machine(
    desk: Desk,
    Named(id): Named<Uuid>,
    Asked(query): Asked<TimelineQuery>,
) -> Page {
    let found = desk.machine(id)?;
    let tasks = desk
        .tasks(&TaskQuery {
            machine: Some(id),
            limit: Some(5),
            ..TaskQuery::default()
        })
        .await?;
    let story = desk
        .timeline(
            id,
            &TimelineQuery {
                limit: Some(60),
                ..query
            },
        )
        .await?;
    let m = MachineView::of(&found.summary);
    let page = ui::MachinePage {
        frame: Frame::new(&m.name, "machines", Some(desk.who())),
        uuid: found
            .summary
            .uuid
            .map(|u| u.to_string())
            .unwrap_or_default(),
        inventory: ui::InventoryView::of(&found),
        group: found.group,
        learned: found.learned,
        wish: found.intent.as_ref().map(ui::WishView::of),
        settings: found.effective,
        tasks: tasks.items.iter().map(TaskView::of).collect(),
        events: story.items.iter().map(EntryView::of).collect(),
        more: story.next,
        m,
    };
    Ok(html(StatusCode::OK, &page))
}

pub(super) async fn delete_machine(desk: Desk, Named(id): Named<Uuid>) -> Page {
    let plan = desk.plan_delete_machine(id)?;
    let frame = Frame::new("Forget a machine", "machines", Some(desk.who()));
    let (action, back) = (format!("/machines/{id}/delete"), format!("/machines/{id}"));
    Ok(html(
        StatusCode::OK,
        &ui::PlanPage::of(frame, &plan, action, Vec::new(), "Forget it", back),
    ))
}

pub(super) async fn tasks(desk: Desk, Asked(query): Asked<ListQuery>) -> Page {
    let state = crate::service::STATES
        .into_iter()
        .find(|s| s.is_final() && s.as_str() == query.state);
    let wanted = TaskQuery {
        state,
        after: Some(query.after).filter(|a| !a.is_empty()),
        limit: Some(ROWS),
        ..TaskQuery::default()
    };
    let found = desk.tasks(&wanted).await?;
    let page = ui::Tasks {
        frame: Frame::new("Tasks", "tasks", Some(desk.who())),
        active: desk.unfinished_tasks()?.iter().map(TaskView::of).collect(),
        ended: found
            .items
            .iter()
            .filter(|t| t.state.is_final())
            .map(TaskView::of)
            .collect(),
        filter: state.map_or("", TaskState::as_str),
        next: found.next,
    };
    Ok(html(StatusCode::OK, &page))
}

pub(super) async fn task(desk: Desk, Named(id): Named<Uuid>) -> Page {
    let t = TaskView::of(&desk.task(id).await?);
    let frame = Frame::new(&t.what, "tasks", Some(desk.who()));
    Ok(html(StatusCode::OK, &ui::TaskPage { frame, t }))
}

pub(super) async fn task_card(desk: Desk, Named(id): Named<Uuid>) -> Page {
    let t = TaskView::of(&desk.task(id).await?);
    let frame = Frame::new("", "tasks", Some(desk.who()));
    Ok(html(StatusCode::OK, &ui::TaskCard { frame, t }))
}

pub(super) async fn retry(desk: Desk, Named(id): Named<Uuid>) -> Page {
    let plan = desk.plan_retry(id).await?;
    let frame = Frame::new("Try again", "tasks", Some(desk.who()));
    let (action, back) = (format!("/tasks/{id}/retry"), "/tasks".to_owned());
    Ok(html(
        StatusCode::OK,
        &ui::PlanPage::of(frame, &plan, action, Vec::new(), "Try again", back),
    ))
}

pub(super) async fn images(desk: Desk) -> Page {
    let images = desk.images().await?;
    Ok(html(
        StatusCode::OK,
        &ui::ImagesPage::of(Frame::new("Images", "images", Some(desk.who())), &images),
    ))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct VersionQuery {
    pub(super) version: String,
}

impl VersionQuery {
    fn or_latest(&self) -> &str {
        if self.version.is_empty() {
            "latest"
        } else {
            &self.version
        }
    }
}

pub(super) async fn image(
    desk: Desk,
    Named(name): Named<String>,
    Asked(query): Asked<VersionQuery>,
) -> Page {
    let image = desk.image(&name).await?;
    let detail = desk.image_version(&name, query.or_latest()).await?;
    let frame = Frame::new(&name, "images", Some(desk.who()));
    Ok(html(
        StatusCode::OK,
        &ui::ImagePage::of(frame, &image, &detail),
    ))
}

pub(super) async fn delete_image(
    desk: Desk,
    Named(name): Named<String>,
    Asked(query): Asked<VersionQuery>,
) -> Page {
    let version = query.or_latest();
    let plan = desk.plan_delete_image(&name, version).await?;
    let frame = Frame::new("Delete an image", "images", Some(desk.who()));
    let fields = vec![("version".to_owned(), version.to_owned())];
    let (action, back) = (format!("/images/{name}/delete"), format!("/images/{name}"));
    Ok(html(
        StatusCode::OK,
        &ui::PlanPage::of(frame, &plan, action, fields, "Delete it", back),
    ))
}

pub(super) async fn prune(desk: Desk) -> Page {
    let plan = desk.plan_prune().await?;
    let frame = Frame::new("Prune", "images", Some(desk.who()));
    let page = ui::PlanPage::of(
        frame,
        &plan,
        "/store/prune".to_owned(),
        Vec::new(),
        "Prune",
        "/images".to_owned(),
    );
    Ok(html(StatusCode::OK, &page))
}

pub(super) async fn network(desk: Desk) -> Page {
    let page = ui::Network {
        leases: desk
            .leases(&LeaseQuery::default())
            .await?
            .iter()
            .map(ui::LeaseView::of)
            .collect(),
        loaders: desk.loaders()?,
        frame: Frame::new("Network", "network", Some(desk.who())),
    };
    Ok(html(StatusCode::OK, &page))
}

const ROWS: u32 = 50;
const LITTLE_SPACE: u64 = 10 << 30;
