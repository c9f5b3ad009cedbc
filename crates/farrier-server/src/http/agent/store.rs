//! Chunks to and from the image store, for the task that the machine runs and nothing else.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::BytesMut;
use farrier_api::agent::{
    ChangedChunk, HeldChunk, read_frame, read_held, write_changed, write_frame,
};
use farrier_engine::model::TaskId;
use farrier_engine::task::{State as TaskState, Task, Work};
use farrier_engine::timeline::Kind;
use farrier_image::chunk::{ChunkId, MAX_STORED_CHUNK, StoredChunk};
use farrier_image::manifest::{ImageName, MAX_PLAIN, Manifest};
use farrier_image::pack::Location;
use farrier_image::patch::{Changed, Held};
use farrier_image::store::{Store, Which};
use futures::{Stream, StreamExt, stream};
use serde::Deserialize;
use uuid::Uuid;

use super::{Plane, Session};
use crate::core::now;
use crate::fleet::Change;
use crate::http::failure::Failure;

pub(super) fn routes() -> Router<Arc<Plane>> {
    Router::new()
        .route("/agent/v1/store/missing", post(missing))
        .route(
            "/agent/v1/store/chunks",
            post(chunks).layer(DefaultBodyLimit::max(MAX_CHUNKS)),
        )
        .route(
            "/agent/v1/store/commit",
            post(commit).layer(DefaultBodyLimit::max(MAX_MANIFEST)),
        )
        .route("/agent/v1/store/manifests/{image}/{version}", get(manifest))
        .route("/agent/v1/store/fetch", post(fetch))
        .route("/agent/v1/store/changed", post(changed))
        .route_layer(DefaultBodyLimit::max(MAX_QUESTION))
}

async fn missing(
    State(plane): State<Arc<Plane>>,
    session: Session,
    body: Bytes,
) -> Result<Vec<u8>, Failure> {
    capturing(&plane, &session)?;
    let missing = plane.core.store.missing(&ids(&body)?);
    Ok(missing.into_iter().map(u8::from).collect())
}

async fn chunks(
    State(plane): State<Arc<Plane>>,
    session: Session,
    body: Bytes,
) -> Result<StatusCode, Failure> {
    capturing(&plane, &session)?;
    plane.core.store.put(frames(body)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct Commit {
    task: Uuid,
    fence: u64,
}

async fn commit(
    State(plane): State<Arc<Plane>>,
    session: Session,
    Query(commit): Query<Commit>,
    body: Bytes,
) -> Result<Vec<u8>, Failure> {
    let task = capturing(&plane, &session)?;
    if task.id != TaskId(commit.task) || task.fence != commit.fence {
        return Err(stale());
    }
    let bad = |why: String| Failure::new(StatusCode::BAD_REQUEST, "manifest", why);
    let manifest = Manifest::decode(&body, MAX_PLAIN).map_err(|e| bad(e.to_string()))?;
    if !matches!(&task.work, Work::Capture { image, .. } if *image == manifest.image.as_str()) {
        return Err(bad(format!(
            "the task is not to capture {}",
            manifest.image
        )));
    }
    let image = manifest.image.clone();
    let committed = plane.core.store.commit(manifest, now().0).await?;
    let text = format!(
        "{image} version {} was captured (root {}).",
        committed.version, committed.root
    );
    plane.core.note(session.machine.id, Kind::Task, text);
    plane.core.tell(Change::Images);
    Ok(committed.signed.bytes)
}

async fn manifest(
    State(plane): State<Arc<Plane>>,
    session: Session,
    Path((image, version)): Path<(String, String)>,
) -> Result<Vec<u8>, Failure> {
    let not_found = || {
        Failure::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "There is no such image.",
        )
    };
    let (_, name, _) = writing(&plane, &session)?;
    if name.as_str() != image {
        return Err(not_found());
    }
    let which = match version.as_str() {
        "latest" => Which::Latest,
        number => Which::Version(number.parse().map_err(|_| not_found())?),
    };
    Ok(plane.core.store.manifest(&name, which).await?.signed.bytes)
}

async fn fetch(
    State(plane): State<Arc<Plane>>,
    session: Session,
    body: Bytes,
) -> Result<Response, Failure> {
    let runs = readable(&plane, &session, &ids(&body)?).await?;
    Ok(Body::from_stream(read_runs(plane.core.store.clone(), runs, whole)).into_response())
}

/// Like `fetch`, for a disk that holds something like the chunks: only blocks that differ are sent.
async fn changed(
    State(plane): State<Arc<Plane>>,
    session: Session,
    body: Bytes,
) -> Result<Response, Failure> {
    let bad = |why: String| Failure::new(StatusCode::BAD_REQUEST, "held", why);
    let held = read_held(&body).map_err(|e| bad(e.to_string()))?;
    if held.len() > MAX_HELD {
        return Err(bad(format!("Ask for at most {MAX_HELD} chunks at once.")));
    }
    let ids: Vec<ChunkId> = held.iter().map(|held| ChunkId(held.id)).collect();
    let runs = readable(&plane, &session, &ids).await?;
    let held: HashMap<ChunkId, Held> = ids
        .into_iter()
        .zip(held)
        .map(|(id, HeldChunk { blocks, .. })| (id, Held { id, blocks }))
        .collect();
    let frames = read_runs(plane.core.store.clone(), runs, move |out, chunk| {
        patched(out, held.get(&chunk.id), chunk)
    });
    Ok(Body::from_stream(frames).into_response())
}

/// Where `ids` are, if this machine may read them.
async fn readable(plane: &Plane, session: &Session, ids: &[ChunkId]) -> Result<Vec<Run>, Failure> {
    let allowed = allowed(plane, session).await?;
    if let Some(foreign) = ids.iter().find(|id| !allowed.contains(id)) {
        let why = format!("chunk {foreign} is not of the image this machine is to hold");
        return Err(Failure::new(StatusCode::FORBIDDEN, "foreign_chunk", why));
    }
    let mut located = Vec::with_capacity(ids.len());
    for (id, location) in ids.iter().zip(plane.core.store.locate(ids)) {
        let location = location.ok_or_else(|| {
            Failure::new(
                StatusCode::CONFLICT,
                "chunk_missing",
                format!("chunk {id} is missing in the store"),
            )
            .hint("Verify the image (`farrier image verify`) and capture or import it again.")
        })?;
        located.push((*id, location));
    }
    Ok(runs(located))
}

fn whole(out: &mut BytesMut, chunk: StoredChunk) {
    write_frame(out, &chunk.id.0, &chunk.frame);
}

fn patched(out: &mut BytesMut, held: Option<&Held>, chunk: StoredChunk) {
    let changed = match held {
        Some(held) => Changed::between(held, chunk),
        None => Changed::Whole(chunk),
    };
    let chunk = match changed {
        Changed::Whole(chunk) => ChangedChunk::Whole {
            id: chunk.id.0,
            frame: chunk.frame,
        },
        Changed::Patch(patch) => ChangedChunk::Patch {
            id: patch.id.0,
            changed: patch.changed,
            frame: patch.frame,
        },
    };
    write_changed(out, &chunk);
}

/// Chunks that lie one after another in one pack: one read.
struct Run {
    first: Location,
    end: u64,
    chunks: Vec<(ChunkId, Location)>,
}

/// Joins neighbours. Captures write in disk order, so most requests become a handful of reads.
fn runs(located: Vec<(ChunkId, Location)>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (id, at) in located {
        let end = at.offset + u64::from(at.len);
        match runs.last_mut() {
            Some(run)
                if run.first.pack == at.pack
                    && run.end == at.offset
                    && end - run.first.offset <= MAX_READ =>
            {
                run.end = end;
                run.chunks.push((id, at));
            }
            _ => runs.push(Run {
                first: at,
                end,
                chunks: vec![(id, at)],
            }),
        }
    }
    runs
}

/// Reads ahead by one run while the last is being sent. A read that fails ends the stream short, which the
/// agent notices and asks again. `write` puts a chunk on the wire; it may take CPU, so it runs where that harms
/// nobody.
fn read_runs(
    store: Store,
    runs: Vec<Run>,
    write: impl Fn(&mut BytesMut, StoredChunk) + Send + Sync + 'static,
) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static {
    let write = Arc::new(write);
    stream::iter(runs)
        .map(move |run| {
            let (store, write) = (store.clone(), Arc::clone(&write));
            async move {
                let bytes = store
                    .read_pack_range(run.first.pack, run.first.offset..run.end)
                    .await;
                let bytes = bytes.map_err(std::io::Error::other)?;
                let framed =
                    tokio::task::spawn_blocking(move || framed(&run, &bytes, &*write)).await;
                framed.map_err(std::io::Error::other)
            }
        })
        .buffered(READ_AHEAD)
}

fn framed(run: &Run, bytes: &Bytes, write: &dyn Fn(&mut BytesMut, StoredChunk)) -> Bytes {
    let mut out = BytesMut::with_capacity(bytes.len() + 36 * run.chunks.len());
    for (id, at) in &run.chunks {
        let start = usize::try_from(at.offset - run.first.offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(at.len as usize);
        if end <= bytes.len() {
            write(
                &mut out,
                StoredChunk {
                    id: *id,
                    frame: bytes.slice(start..end),
                },
            );
        }
    }
    out.freeze()
}

fn ids(body: &[u8]) -> Result<Vec<ChunkId>, Failure> {
    let (ids, rest) = body.as_chunks::<32>();
    if !rest.is_empty() || ids.len() > MAX_IDS {
        let why = format!("Send at most {MAX_IDS} chunk ids of 32 bytes each.");
        return Err(Failure::new(StatusCode::BAD_REQUEST, "ids", why));
    }
    Ok(ids.iter().copied().map(ChunkId).collect())
}

fn frames(body: Bytes) -> Result<Vec<StoredChunk>, Failure> {
    let bad = |why: String| Failure::new(StatusCode::BAD_REQUEST, "frames", why);
    let mut buffer = BytesMut::from(body);
    let mut chunks = Vec::new();
    while let Some((id, frame)) =
        read_frame(&mut buffer, MAX_STORED_CHUNK).map_err(|e| bad(e.to_string()))?
    {
        chunks.push(StoredChunk {
            id: ChunkId(id),
            frame,
        });
    }
    if buffer.is_empty() {
        Ok(chunks)
    } else {
        Err(bad("the last chunk is cut short".to_owned()))
    }
}

/// The capture that this machine runs; what it stores is safe from pruning from here on.
fn capturing(plane: &Plane, session: &Session) -> Result<Arc<Task>, Failure> {
    let task = running(plane, session, |work| matches!(work, Work::Capture { .. }))?;
    plane
        .holdings
        .write(task.id, &plane.core.store, &plane.core.fleet);
    Ok(task)
}

/// The image that this machine is to hold.
fn writing(plane: &Plane, session: &Session) -> Result<(TaskId, ImageName, Option<u32>), Failure> {
    let task = running(plane, session, |work| {
        matches!(work, Work::Deploy { .. } | Work::Repair { .. })
    })?;
    let (Work::Deploy { image, version, .. } | Work::Repair { image, version, .. }) = &task.work
    else {
        return Err(stale());
    };
    let name = image.parse().map_err(|_| {
        Failure::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "There is no such image.",
        )
    })?;
    Ok((task.id, name, *version))
}

/// The chunks of that image.
async fn allowed(plane: &Plane, session: &Session) -> Result<Arc<HashSet<ChunkId>>, Failure> {
    let (task, name, version) = writing(plane, session)?;
    if let Some(chunks) = plane.holdings.chunks(task) {
        return Ok(chunks);
    }
    let opened = plane
        .core
        .store
        .manifest(&name, version.map_or(Which::Latest, Which::Version))
        .await?;
    let chunks = Arc::new(opened.manifest.chunk_ids().collect());
    plane
        .holdings
        .read(task, Arc::clone(&chunks), &plane.core.fleet);
    Ok(chunks)
}

fn running(
    plane: &Plane,
    session: &Session,
    fits: impl Fn(&Work) -> bool,
) -> Result<Arc<Task>, Failure> {
    let queue = plane.core.fleet.queue(session.machine.id);
    // A task counts as lost after a pulled cable or a restart of ours; the first word of its agent may be for
    // chunks, and they go with the same fence.
    let held = |task: &Task| matches!(task.state, TaskState::Running | TaskState::Lost);
    let mut running = queue
        .into_iter()
        .filter(|task| held(task) && fits(&task.work));
    running.next().ok_or_else(|| {
        Failure::new(
            StatusCode::FORBIDDEN,
            "no_task",
            "This machine runs no task that needs this.",
        )
    })
}

fn stale() -> Failure {
    Failure::new(
        StatusCode::CONFLICT,
        "stale",
        "Another attempt at this task has begun since.",
    )
}

/// Questions are ids, or the hashes of the blocks of some chunks.
const MAX_QUESTION: usize = 4 << 20;
/// Agents send 8 MiB at once; incompressible chunks are a little larger stored than plain.
const MAX_CHUNKS: usize = 32 << 20;
const MAX_MANIFEST: usize = 80 << 20;
const MAX_IDS: usize = 65_536;
/// Each is half a kilobyte of hashes.
const MAX_HELD: usize = 4096;
const MAX_READ: u64 = 8 << 20;
const READ_AHEAD: usize = 2;
