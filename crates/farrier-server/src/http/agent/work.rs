//! Handing out work, hearing how it goes, and how it ended.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use farrier_api::agent as wire;
use farrier_engine::model::TaskId;
use farrier_engine::policy::Judged;
use farrier_engine::task::{
    DiskSelector, Event, Outcome, Refused, State as TaskState, Task, Then, Work,
};
use farrier_engine::timeline::Kind;
use farrier_image::manifest::ImageName;
use farrier_image::store::{OpenedManifest, Which};
use serde::Deserialize;

use super::{Plane, Session};
use crate::core::now;
use crate::fleet::FleetError;
use crate::http::failure::Failure;
use crate::tasks::TaskError;
use crate::whereabouts::Place;

#[derive(Deserialize)]
pub(super) struct Wait {
    #[serde(default)]
    wait: u64,
}

pub(super) async fn work(
    State(plane): State<Arc<Plane>>,
    session: Session,
    Query(wait): Query<Wait>,
) -> Result<Json<wire::Order>, Failure> {
    let mut changes = plane.core.changes.subscribe();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(wait.wait.min(MAX_WAIT));
    loop {
        let queue = plane.core.fleet.queue(session.machine.id);
        for task in queue.iter().filter(|task| task.is_due(now())) {
            if let Some(order) = claim(&plane, task).await? {
                return Ok(Json(order));
            }
        }
        if plane.core.fleet.queue(session.machine.id).is_empty() {
            return leave(&plane, &session).await.map(Json);
        }
        if tokio::time::timeout_at(deadline, changes.recv())
            .await
            .is_err()
        {
            return Ok(Json(wire::Order::Wait));
        }
    }
}

/// Claims a task for the agent. None if the claim ended it instead, or the image is not there.
async fn claim(plane: &Plane, task: &Task) -> Result<Option<wire::Order>, Failure> {
    let task = match plane.core.apply(task.id, Event::Claim).await {
        Ok(task) if task.state == TaskState::Running => task,
        Ok(_) | Err(TaskError::Refused(_) | TaskError::Fleet(FleetError::NoTask(_))) => {
            return Ok(None);
        }
        Err(TaskError::Fleet(error)) => return Err(error.into()),
    };
    match order(plane, &task).await {
        Ok(work) => Ok(Some(wire::Order::Run {
            task: task.id.0,
            fence: task.fence,
            work,
        })),
        Err(reason) => {
            let outcome = Outcome::Failed {
                reason,
                may_retry: false,
            };
            let _ = plane
                .core
                .apply(
                    task.id,
                    Event::Finished {
                        fence: task.fence,
                        outcome,
                    },
                )
                .await;
            Ok(None)
        }
    }
}

/// The second check of a task that writes: the agent has just told what the machine is made of, so rules see
/// more than they did when it booted.
async fn guarded(plane: &Plane, task: &Task) -> Result<(), String> {
    if !matches!(task.work, Work::Deploy { .. } | Work::Repair { .. }) {
        return Ok(());
    }
    let core = &plane.core;
    let rules = core.rules.load_full();
    let machine = core.fleet.machine(task.machine);
    let place = machine
        .as_ref()
        .map_or_else(Place::default, |machine| core.place_of(machine));
    if let Some(machine) = &machine {
        core.is_still_wanted(task, machine, &place)
            .await
            .map_err(|why| format!("{} {why}", written_so_far(task)))?;
    }
    let judged = rules.judge(None, machine.as_deref(), || place);
    match judged.iter().find_map(Judged::refuses_tasks) {
        Some(why) => Err(format!("{} {why}", written_so_far(task))),
        None => Ok(()),
    }
}

fn written_so_far(task: &Task) -> &'static str {
    if task.attempts > 1 {
        "This attempt wrote nothing; the ones before it may have."
    } else {
        "Nothing was written."
    }
}

/// The work in the agent's words, with the image's version and root hash as they are now.
async fn order(plane: &Plane, task: &Task) -> Result<wire::Work, String> {
    guarded(plane, task).await?;
    Ok(match &task.work {
        Work::Inventory => wire::Work::Inventory,
        Work::Capture { image, disk } => wire::Work::Capture {
            image: image.clone(),
            disk: selector(disk),
        },
        Work::Deploy {
            image,
            version,
            disk,
        } => {
            let (version, root) = whole_version_of(plane, image, *version).await?;
            wire::Work::Deploy {
                image: image.clone(),
                version,
                root,
                disk: selector(disk),
            }
        }
        Work::Repair {
            image,
            version,
            disk,
        } => {
            let (version, root) = whole_version_of(plane, image, *version).await?;
            wire::Work::Repair {
                image: image.clone(),
                version,
                root,
                disk: selector(disk),
            }
        }
    })
}

/// A version whose every chunk is there, as far as the store knows: a deployment that cannot end must not
/// begin, since its first write is the end of what the disk held.
async fn whole_version_of(
    plane: &Plane,
    image: &str,
    version: Option<u32>,
) -> Result<(u32, String), String> {
    let opened = opened(plane, image, version).await?;
    let damage = plane.core.store.known_damage(&opened.manifest).await;
    if let Some(first) = damage.first() {
        let affected: BTreeSet<&str> = damage
            .iter()
            .flat_map(|damage| damage.images.iter().map(String::as_str))
            .collect();
        return Err(format!(
            "{} chunk(s) of the image are missing or damaged in the store, the first {}; nothing was written. Affected: {}. Capture or import one of them again, or restore the store, then run `farrier image verify`.",
            damage.len(),
            first.chunk,
            affected.into_iter().collect::<Vec<_>>().join(", ")
        ));
    }
    Ok((opened.manifest.version, opened.root.to_string()))
}

pub(super) async fn version_of(
    plane: &Plane,
    image: &str,
    version: Option<u32>,
) -> Result<(u32, String), String> {
    let opened = opened(plane, image, version).await?;
    Ok((opened.manifest.version, opened.root.to_string()))
}

async fn opened(
    plane: &Plane,
    image: &str,
    version: Option<u32>,
) -> Result<OpenedManifest, String> {
    let name: ImageName = image.parse().map_err(|e| format!("{image:?}: {e}"))?;
    let which = version.map_or(Which::Latest, Which::Version);
    plane
        .core
        .store
        .manifest(&name, which)
        .await
        .map_err(|e| e.to_string())
}

/// Nothing is left to do. The next boot is then let in at once.
async fn leave(plane: &Plane, session: &Session) -> Result<wire::Order, Failure> {
    let id = session.machine.id;
    let last = plane
        .core
        .db
        .tasks(
            &farrier_db::TaskQuery {
                machine: Some(id),
                ..Default::default()
            },
            None,
            1,
        )
        .await?;
    let just_ended = last
        .first()
        .filter(|task| task.ended.is_some_and(|at| now().since(at) < JUST_NOW));
    let how = match just_ended.map(|task| task.then) {
        Some(Then::NetworkBoot) => wire::Leave::NetworkBoot,
        Some(Then::PowerOff) => wire::Leave::PowerOff,
        Some(Then::Reboot) => wire::Leave::Reboot,
        Some(Then::LocalBoot) | None => wire::Leave::LocalBoot,
    };
    let text = match how {
        wire::Leave::LocalBoot => "The agent leaves: the local disk starts next.",
        wire::Leave::NetworkBoot => "The agent leaves: the machine restarts from the network.",
        wire::Leave::PowerOff => "The agent leaves: the machine is switched off.",
        wire::Leave::Reboot => "The agent leaves: the machine restarts.",
    };
    plane.core.note(id, Kind::Agent, text);
    plane.sessions.leave(session.key).await?;
    Ok(wire::Order::Leave { how })
}

pub(super) fn own_task(plane: &Plane, session: &Session, id: TaskId) -> Option<Arc<Task>> {
    plane
        .core
        .fleet
        .task(id)
        .filter(|task| task.machine == session.machine.id)
}

pub(super) fn refused(error: TaskError) -> Failure {
    match error {
        TaskError::Refused(Refused::StaleFence | Refused::NotRunning | Refused::Ended) => stale(),
        TaskError::Refused(other) => {
            Failure::new(StatusCode::CONFLICT, "refused", other.to_string())
        }
        TaskError::Fleet(error) => error.into(),
    }
}

pub(super) fn stale() -> Failure {
    Failure::new(
        StatusCode::CONFLICT,
        "stale",
        "Another attempt at this task has begun since.",
    )
}

pub(super) fn printable(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(1000)
        .collect()
}

fn selector(disk: &DiskSelector) -> wire::DiskSelector {
    wire::DiskSelector {
        serial: disk.serial.clone(),
        wwn: disk.wwn.clone(),
        bus: disk.bus.clone(),
        min_bytes: disk.min_bytes,
        max_bytes: disk.max_bytes,
        model: disk.model.clone(),
        allow_removable: disk.allow_removable,
    }
}

const MAX_WAIT: u64 = 30;
/// A task that ended this recently is why the agent is still here.
const JUST_NOW: Duration = Duration::from_secs(120);
