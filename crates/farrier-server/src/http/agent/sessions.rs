//! Which agents are let in now. A session is one key, made in the memory of one boot.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Extension, FromRequestParts};
use axum::http::StatusCode;
use axum::http::request::Parts;
use farrier_db::{AgentSession, Db, DbError, KeyFingerprint};
use farrier_engine::WallTime;
use farrier_engine::model::{Machine, MachineId, Registration};

use super::Plane;
use crate::core::now;
use crate::http::failure::Failure;
use crate::http::serve::Peer;

/// The agent that sent a request: its machine and its key. As an argument of a handler it is proof that
/// the request came with a certificate of ours whose session is live.
#[derive(Clone, Debug)]
pub struct Session {
    pub machine: Arc<Machine>,
    pub key: KeyFingerprint,
}

impl FromRequestParts<Arc<Plane>> for Session {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, plane: &Arc<Plane>) -> Result<Self, Failure> {
        let refused = |why: &str| {
            Failure::new(StatusCode::UNAUTHORIZED, "not_enrolled", why.to_owned())
                .hint("Boot the machine from the network again: each boot enrols anew.")
        };
        let Extension(peer) = Extension::<Peer>::from_request_parts(parts, plane)
            .await
            .map_err(|_| refused("The connection is not known."))?;
        let agent = peer
            .agent
            .ok_or_else(|| refused("This needs the certificate that enrolment gave."))?;
        let key = KeyFingerprint(agent.key);
        let id = plane
            .sessions
            .live(key)
            .await?
            .ok_or_else(|| refused("This agent's session has ended."))?;
        let machine = plane
            .core
            .fleet
            .machine(id)
            .ok_or_else(|| refused("This machine was deleted."))?;
        if id.0 != agent.machine || machine.registration != Registration::Approved {
            return Err(refused("This machine is not approved."));
        }
        plane.sessions.heard(key, now()).await;
        plane.core.whereabouts.heard(machine.id, peer.addr.ip());
        Ok(Self { machine, key })
    }
}

/// Sessions, with a cache that spares the database a read for each request.
#[derive(Debug)]
pub struct Sessions {
    db: Db,
    live: Mutex<HashMap<KeyFingerprint, Live>>,
    /// The key of each machine that waits for a person, and when it was heard.
    waiting: Mutex<HashMap<MachineId, (KeyFingerprint, WallTime)>>,
}

#[derive(Clone, Copy, Debug)]
struct Live {
    machine: MachineId,
    heard: WallTime,
    stored: WallTime,
    /// It was told to leave: what it still says is heard, but nobody waits for its silence.
    left: bool,
}

impl Sessions {
    #[must_use]
    pub fn new(db: Db) -> Self {
        Self {
            db,
            live: Mutex::default(),
            waiting: Mutex::default(),
        }
    }

    /// The machine of a key that may act.
    pub async fn live(&self, key: KeyFingerprint) -> Result<Option<MachineId>, DbError> {
        if let Some(live) = self.cached(key) {
            return Ok(Some(live.machine));
        }
        let stored = self
            .db
            .agent_session(key)
            .await?
            .filter(|session| !session.serial.is_empty());
        Ok(stored.map(|session| {
            let (machine, heard) = (session.machine, session.heard);
            self.cache(
                key,
                Live {
                    machine,
                    heard,
                    stored: heard,
                    left: false,
                },
            );
            session.machine
        }))
    }

    /// Another agent of this machine that was heard a moment ago: one of the two is not what it says. That holds
    /// also while they wait for a person, who compares the code of one key and lets in that one.
    pub async fn rival(
        &self,
        machine: MachineId,
        own: KeyFingerprint,
        now: WallTime,
    ) -> Result<bool, DbError> {
        let waits = self.waiting(machine);
        if waits.is_some_and(|(key, heard)| key != own && now.since(heard) < SILENT) {
            return Ok(true);
        }
        let mut others = self.db.agent_sessions(machine).await?;
        others.retain(|session| session.key != own && !session.serial.is_empty());
        Ok(others.iter().any(|session| {
            let live = self.cached(session.key);
            let heard = live.map_or(session.heard, |live| live.heard);
            now.since(heard) < SILENT && !live.is_some_and(|live| live.left)
        }))
    }

    /// This key waits for a person to let its machine in.
    pub fn wait(&self, machine: MachineId, key: KeyFingerprint, now: WallTime) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that left, and machines that were deleted.
        waiting.retain(|_, (_, heard)| now.since(*heard) < SILENT);
        waiting.insert(machine, (key, now));
    }

    fn waiting(&self, machine: MachineId) -> Option<(KeyFingerprint, WallTime)> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.get(&machine).copied()
    }

    /// Remembers which key used a token, in a row that opens nothing. Of many for one machine the oldest are
    /// forgotten, but for the one that waits.
    pub async fn note(&self, session: &AgentSession) -> Result<(), DbError> {
        let waits = self.waiting(session.machine).map(|(key, _)| key);
        let mut noted = self.db.agent_sessions(session.machine).await?;
        noted.retain(|other| other.serial.is_empty() && Some(other.key) != waits);
        noted.sort_by_key(|other| std::cmp::Reverse(other.enrolled));
        for old in noted.iter().skip(NOTED - 1) {
            self.db.end_agent_session(old.key).await?;
        }
        self.db.save_agent_session(session).await
    }

    /// Makes `session` the only one of its machine.
    pub async fn begin(&self, session: &AgentSession) -> Result<(), DbError> {
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&session.machine);
        for other in self.db.agent_sessions(session.machine).await? {
            if other.key != session.key {
                self.db.end_agent_session(other.key).await?;
                self.live
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .remove(&other.key);
            }
        }
        self.db.save_agent_session(session).await
    }

    /// The agent was told to leave: its last words are still heard, but the next boot need not wait.
    pub async fn leave(&self, key: KeyFingerprint) -> Result<(), DbError> {
        if let Some(live) = self.cached(key) {
            self.cache(key, Live { left: true, ..live });
        }
        // For a server that is restarted before the machine is back.
        match self.db.agent_session(key).await? {
            Some(session) => {
                self.db
                    .save_agent_session(&AgentSession {
                        heard: WallTime::default(),
                        ..session
                    })
                    .await
            }
            None => Ok(()),
        }
    }

    async fn heard(&self, key: KeyFingerprint, now: WallTime) {
        let store = {
            let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
            // Ended a moment ago by the machine's next boot: this request must not bring it back.
            let Some(live) = live.get_mut(&key) else {
                return;
            };
            live.heard = now;
            let store = now.since(live.stored) >= STORE_EVERY && !live.left;
            if store {
                live.stored = now;
            }
            store
        };
        // The memory is what counts while we run; the stored time is for the next start.
        if store && let Err(error) = self.db.agent_heard(key, now).await {
            tracing::debug!(%error, "the agent's last sign of life could not be stored");
        }
    }

    fn cached(&self, key: KeyFingerprint) -> Option<Live> {
        self.live
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
            .copied()
    }

    fn cache(&self, key: KeyFingerprint, live: Live) {
        self.live
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key, live);
    }
}

/// An agent speaks at least every twenty seconds (its long poll).
pub(super) const SILENT: Duration = Duration::from_secs(45);
/// Keys of one machine that used a token and came no further.
const NOTED: usize = 16;
const STORE_EVERY: Duration = Duration::from_secs(10);
