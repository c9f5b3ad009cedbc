//! What agents say of their work: how far it is, and what came of it.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use farrier_api::agent as wire;
use farrier_engine::model::TaskId;
use farrier_engine::task::{Bottleneck, Event, Outcome, Progress, State as TaskState, Task, Work};
use farrier_engine::timeline::Kind;
use farrier_image::chunk::ChunkId;
use uuid::Uuid;

use super::work::{own_task, printable, refused, stale, version_of};
use super::{Plane, Session};
use crate::core::now;
use crate::fleet::Change;
use crate::http::failure::Failure;

pub(super) async fn progress(
    State(plane): State<Arc<Plane>>,
    session: Session,
    Path(id): Path<Uuid>,
    Json(report): Json<wire::ProgressReport>,
) -> Result<Json<wire::ProgressAnswer>, Failure> {
    let Some(task) = own_task(&plane, &session, TaskId(id)) else {
        let stop = "The task was cancelled, or has ended.".to_owned();
        return Ok(Json(wire::ProgressAnswer { stop: Some(stop) }));
    };
    if task.fence != report.fence {
        return Err(stale());
    }
    if task.state == TaskState::Lost {
        plane
            .core
            .apply(
                task.id,
                Event::Resume {
                    fence: report.fence,
                },
            )
            .await
            .map_err(refused)?;
    }
    plane.core.fleet.show_progress(task.id, |task| {
        task.heard = Some(now());
        task.progress = Progress {
            phase: report
                .phase
                .chars()
                .filter(|c| !c.is_control())
                .take(80)
                .collect(),
            done_bytes: report.done_bytes,
            total_bytes: report.total_bytes,
            bytes_per_second: report.bytes_per_second,
            bottleneck: report.bottleneck.map(|bottleneck| match bottleneck {
                wire::Bottleneck::Cpu => Bottleneck::Cpu,
                wire::Bottleneck::Disk => Bottleneck::Disk,
                wire::Bottleneck::Network => Bottleneck::Network,
            }),
        };
    });
    Ok(Json(wire::ProgressAnswer { stop: None }))
}

fn limit(bottleneck: Option<wire::Bottleneck>) -> &'static str {
    match bottleneck {
        Some(wire::Bottleneck::Cpu) => "; the processor was the limit",
        Some(wire::Bottleneck::Disk) => "; the disk was the limit",
        Some(wire::Bottleneck::Network) => "; the network was the limit",
        None => "",
    }
}

pub(super) async fn result(
    State(plane): State<Arc<Plane>>,
    session: Session,
    Path(id): Path<Uuid>,
    Json(report): Json<wire::ResultReport>,
) -> Result<StatusCode, Failure> {
    // An answer that was lost is sent again; the task has ended then, and that is well.
    let Some(task) = own_task(&plane, &session, TaskId(id)) else {
        return Ok(StatusCode::NO_CONTENT);
    };
    let outcome = match report.outcome {
        wire::Outcome::Done {
            root,
            disk,
            read_bytes,
            written_bytes,
            moved_bytes,
            bottleneck,
        } => {
            let done = proven(&plane, &task, root.as_deref()).await;
            if matches!(done, Outcome::Done) {
                let disk = disk
                    .map(|disk| format!(" on {}", printable(&disk)))
                    .unwrap_or_default();
                let mib = |bytes: u64| bytes / (1 << 20);
                plane.core.note(
                    session.machine.id,
                    Kind::Task,
                    format!(
                        "Done{disk}: {} MiB read, {} MiB written, {} MiB over the network{}.",
                        mib(read_bytes),
                        mib(written_bytes),
                        mib(moved_bytes),
                        limit(bottleneck)
                    ),
                );
            }
            done
        }
        wire::Outcome::Failed { reason, retry } => Outcome::Failed {
            reason: explained(&plane, &printable(&reason)).await,
            may_retry: retry,
        },
    };
    plane
        .core
        .apply(
            task.id,
            Event::Finished {
                fence: report.fence,
                outcome,
            },
        )
        .await
        .map_err(refused)?;
    plane.core.tell(Change::Machine(session.machine.id));
    Ok(StatusCode::NO_CONTENT)
}

/// A deployment is done when the disk was proven to hold the image, and not before.
async fn proven(plane: &Plane, task: &Task, root: Option<&str>) -> Outcome {
    let (Work::Deploy { image, version, .. } | Work::Repair { image, version, .. }) = &task.work
    else {
        return Outcome::Done;
    };
    match version_of(plane, image, *version).await {
        Ok((_, expected)) if Some(expected.as_str()) == root => Outcome::Done,
        Ok(_) => Outcome::Failed {
            reason: "The disk was proven to hold something else than the newest version of the image; try again."
                .to_owned(),
            may_retry: true,
        },
        Err(reason) => Outcome::Failed { reason, may_retry: false },
    }
}

/// A failure that names a chunk is looked into: is it the store's, and which images need it?
async fn explained(plane: &Plane, reason: &str) -> String {
    let named = reason
        .split(|c: char| !c.is_ascii_hexdigit())
        .find_map(|word| word.parse::<ChunkId>().ok());
    let Some(id) = named else {
        return reason.to_owned();
    };
    match plane.core.store.chunk(id).await {
        Ok(_) => reason.to_owned(),
        // First what a person needs: the timeline cuts long texts.
        Err(error) => format!("{error} (the agent said: {reason})"),
    }
}
