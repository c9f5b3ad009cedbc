//! The server's store as the image engine sees it. The engine is blocking and repeats what may be repeated;
//! here a call is one request.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use farrier_api::agent::{ChangedChunk, HeldChunk};
use farrier_api::client::{AgentClient, AgentClientError};
use farrier_image::chunk::{ChunkId, MAX_STORED_CHUNK, StoredChunk};
use farrier_image::manifest::{MAX_PLAIN, Manifest, SignedManifest};
use farrier_image::patch::{Changed, ChunkPatch, Held};
use farrier_image::transport::{ChunkSink, ChunkSource, TransportError};
use tokio::runtime::Handle;
use uuid::Uuid;

use crate::screen::Screen;

/// One request asks for at most this many ids: half a megabyte of answer or 32 MiB of chunks is enough to keep
/// the line busy, and little enough to lose.
const IDS_PER_QUESTION: usize = 4096;
const IDS_PER_FETCH: usize = 128;
/// A body of chunks stays below this, so that the server can bound what it takes.
const BYTES_PER_PUT: usize = 8 << 20;

/// Says that the server is away, and that it is back, without flooding the screen.
#[derive(Debug)]
struct Outage {
    screen: Arc<Screen>,
    state: Mutex<Option<Since>>,
}

#[derive(Debug)]
struct Since {
    began: Instant,
    said: Instant,
}

const SAY_AGAIN: Duration = Duration::from_secs(30);

impl Outage {
    fn new(screen: Arc<Screen>) -> Self {
        Self {
            screen,
            state: Mutex::new(None),
        }
    }

    /// Notes how a call went and translates its error.
    fn note<T>(&self, result: Result<T, AgentClientError>) -> Result<T, TransportError> {
        let mut state = self
            .state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let error = match result {
            Ok(value) => {
                if let Some(since) = state.take() {
                    self.screen.say(format!(
                        "going on after {} s",
                        since.began.elapsed().as_secs()
                    ));
                }
                return Ok(value);
            }
            Err(error) => translated(error),
        };
        if error.may_retry() {
            let now = Instant::now();
            let since = state.get_or_insert(Since {
                began: now,
                said: now.checked_sub(SAY_AGAIN).unwrap_or(now),
            });
            if now.duration_since(since.said) >= SAY_AGAIN || since.began == now {
                since.said = now;
                self.screen.say(format!(
                    "{error}; waiting ({} s now)",
                    since.began.elapsed().as_secs()
                ));
            }
        }
        Err(error)
    }
}

/// An agent with work met the right server; one that is not trusted in between is a server away.
fn translated(error: AgentClientError) -> TransportError {
    match error {
        AgentClientError::Refused {
            status: 507,
            message,
            ..
        } => TransportError::StoreFull(message),
        AgentClientError::Unreachable { cause, .. } => TransportError::Unavailable(cause),
        AgentClientError::Untrusted { .. } => TransportError::Unavailable(error.to_string()),
        AgentClientError::Refused { ref message, .. } if error.may_retry() => {
            TransportError::Unavailable(message.clone())
        }
        AgentClientError::Refused { message, .. } => TransportError::Refused(message),
        error => TransportError::Refused(error.to_string()),
    }
}

fn raw(ids: &[ChunkId]) -> Vec<[u8; 32]> {
    ids.iter().map(|id| id.0).collect()
}

/// Where a capture puts its chunks.
#[derive(Debug)]
pub struct HttpSink {
    client: AgentClient,
    task: Uuid,
    fence: u64,
    handle: Handle,
    outage: Outage,
}

impl HttpSink {
    /// For one task; made inside the runtime, used outside of it.
    #[must_use]
    pub fn new(client: AgentClient, task: Uuid, fence: u64, screen: Arc<Screen>) -> Self {
        Self {
            client,
            task,
            fence,
            handle: Handle::current(),
            outage: Outage::new(screen),
        }
    }
}

impl ChunkSink for HttpSink {
    fn missing(&self, ids: &[ChunkId]) -> Result<Vec<bool>, TransportError> {
        let mut missing = Vec::with_capacity(ids.len());
        for question in ids.chunks(IDS_PER_QUESTION) {
            let answer = self.handle.block_on(self.client.missing(&raw(question)));
            missing.extend(self.outage.note(answer)?);
        }
        Ok(missing)
    }

    fn put(&self, chunks: &[StoredChunk]) -> Result<(), TransportError> {
        for batch in batches(chunks) {
            let stored = self.handle.block_on(self.client.put_chunks(&batch));
            self.outage.note(stored)?;
        }
        Ok(())
    }

    fn commit(&self, manifest: Manifest) -> Result<SignedManifest, TransportError> {
        let body = manifest
            .encode()
            .map_err(|error| TransportError::Refused(error.to_string()))?;
        let signed = self
            .handle
            .block_on(self.client.commit(self.task, self.fence, body, MAX_PLAIN));
        self.outage
            .note(signed)
            .map(|bytes| SignedManifest { bytes })
    }
}

/// Cuts `chunks` where a body would grow too large.
fn batches(chunks: &[StoredChunk]) -> Vec<Vec<([u8; 32], Bytes)>> {
    let mut batches = Vec::new();
    let mut batch = Vec::new();
    let mut size = 0;
    for chunk in chunks {
        if size + chunk.frame.len() > BYTES_PER_PUT {
            batches.push(std::mem::take(&mut batch));
            size = 0;
        }
        size += chunk.frame.len();
        batch.push((chunk.id.0, chunk.frame.clone()));
    }
    batches.push(batch);
    batches
}

/// Where a deployment gets its chunks.
#[derive(Debug)]
pub struct HttpSource {
    client: AgentClient,
    handle: Handle,
    outage: Outage,
    /// The server is older than patches.
    whole_only: AtomicBool,
}

impl HttpSource {
    /// Made inside the runtime, used outside of it.
    #[must_use]
    pub fn new(client: AgentClient, screen: Arc<Screen>) -> Self {
        Self {
            client,
            handle: Handle::current(),
            outage: Outage::new(screen),
            whole_only: AtomicBool::new(false),
        }
    }

    /// One request; false when `deliver` wants no more.
    async fn fetch_some(
        &self,
        ids: &[ChunkId],
        deliver: &mut dyn FnMut(StoredChunk) -> bool,
    ) -> Result<bool, AgentClientError> {
        let mut stream = self
            .client
            .fetch_chunks(&raw(ids), MAX_STORED_CHUNK)
            .await?;
        while let Some((id, frame)) = stream.next().await? {
            if !deliver(StoredChunk {
                id: ChunkId(id),
                frame,
            }) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// One request for what differs; false when `deliver` wants no more, nothing when the server does not
    /// know such requests.
    async fn fetch_some_changed(
        &self,
        held: &[Held],
        deliver: &mut dyn FnMut(Changed) -> bool,
    ) -> Result<Option<bool>, AgentClientError> {
        let asked: Vec<HeldChunk> = held.iter().map(told).collect();
        let answer = self.client.fetch_changed(&asked, MAX_STORED_CHUNK).await;
        let mut stream = match answer {
            Err(error) if error.status() == Some(404) => return Ok(None),
            answer => answer?,
        };
        while let Some(chunk) = stream.next().await? {
            if !deliver(changed(chunk)) {
                return Ok(Some(false));
            }
        }
        Ok(Some(true))
    }
}

fn told(held: &Held) -> HeldChunk {
    HeldChunk {
        id: held.id.0,
        blocks: held.blocks.clone(),
    }
}

fn changed(chunk: ChangedChunk) -> Changed {
    match chunk {
        ChangedChunk::Whole { id, frame } => Changed::Whole(StoredChunk {
            id: ChunkId(id),
            frame,
        }),
        ChangedChunk::Patch { id, changed, frame } => Changed::Patch(ChunkPatch {
            id: ChunkId(id),
            changed,
            frame,
        }),
    }
}

impl ChunkSource for HttpSource {
    fn fetch(
        &self,
        ids: &[ChunkId],
        deliver: &mut dyn FnMut(StoredChunk) -> bool,
    ) -> Result<(), TransportError> {
        for some in ids.chunks(IDS_PER_FETCH) {
            let fetched = self.handle.block_on(self.fetch_some(some, deliver));
            if !self.outage.note(fetched)? {
                break;
            }
        }
        Ok(())
    }

    fn patches(&self) -> bool {
        !self.whole_only.load(Ordering::Relaxed)
    }

    fn fetch_changed(
        &self,
        held: &[Held],
        deliver: &mut dyn FnMut(Changed) -> bool,
    ) -> Result<(), TransportError> {
        for some in held.chunks(IDS_PER_FETCH) {
            let fetched = self.handle.block_on(self.fetch_some_changed(some, deliver));
            let going = match self.outage.note(fetched)? {
                Some(going) => going,
                None => {
                    self.whole_only.store(true, Ordering::Relaxed);
                    let ids: Vec<ChunkId> = some.iter().map(|held| held.id).collect();
                    let mut whole = |chunk| deliver(Changed::Whole(chunk));
                    let fetched = self.handle.block_on(self.fetch_some(&ids, &mut whole));
                    self.outage.note(fetched)?
                }
            };
            if !going {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use farrier_image::chunk::{ChunkId, StoredChunk};

    use super::{BYTES_PER_PUT, batches};

    #[test]
    fn bodies_of_chunks_stay_small_and_lose_none() {
        let chunk = |n: u8| StoredChunk {
            id: ChunkId([n; 32]),
            frame: Bytes::from(vec![n; 256 << 10]),
        };
        let chunks: Vec<_> = (0..100).map(chunk).collect();
        let batches = batches(&chunks);
        assert!(batches.len() > 2);
        let size = |batch: &Vec<([u8; 32], Bytes)>| {
            batch.iter().map(|(_, frame)| frame.len()).sum::<usize>()
        };
        assert!(batches.iter().all(|batch| size(batch) <= BYTES_PER_PUT));
        let ids: Vec<_> = batches.iter().flatten().map(|(id, _)| id[0]).collect();
        assert_eq!(ids, (0..100).collect::<Vec<u8>>());
    }
}
