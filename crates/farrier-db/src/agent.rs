//! Agents that have enrolled: which key speaks for which machine.

use std::fmt;

use farrier_engine::WallTime;
use farrier_engine::model::MachineId;

use crate::column::{bytes, time, uuid};
use crate::{Db, DbError};

/// SHA-256 of the public key (SubjectPublicKeyInfo) in an agent's certificate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyFingerprint(pub [u8; 32]);

/// An agent's key with the machine it was let in for. The key lives in the RAM of one boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentSession {
    pub machine: MachineId,
    pub key: KeyFingerprint,
    /// Serial number of its certificate, in hex.
    pub serial: String,
    pub enrolled: WallTime,
    pub heard: WallTime,
}

const WHAT: &str = "agent session";

type Row = (Vec<u8>, Vec<u8>, String, i64, i64);

impl Db {
    /// Stores a session, or a new certificate and time of an old one. A key that speaks for another
    /// machine already is refused as taken.
    pub async fn save_agent_session(&self, session: &AgentSession) -> Result<(), DbError> {
        let session = session.clone();
        self.write(move |conn| {
            Box::pin(async move {
                let done = sqlx::query(
                    "INSERT INTO agent_session (key, machine, serial, enrolled, heard) VALUES (?1, ?2, ?3, ?4, ?5)
                     ON CONFLICT (key) DO UPDATE SET serial = excluded.serial, heard = excluded.heard
                     WHERE machine = excluded.machine",
                )
                .bind(session.key.0.as_slice())
                .bind(session.machine.0.as_bytes().as_slice())
                .bind(&session.serial)
                .bind(session.enrolled.0)
                .bind(session.heard.0)
                .execute(conn)
                .await
                .map_err(DbError::missing("store the agent session", "machine", session.machine))?;
                if done.rows_affected() == 0 {
                    return Err(DbError::Taken { what: "agent key", id: session.key.to_string() });
                }
                Ok(())
            })
        })
        .await
    }

    pub async fn agent_session(
        &self,
        key: KeyFingerprint,
    ) -> Result<Option<AgentSession>, DbError> {
        let row: Option<Row> = sqlx::query_as(
            "SELECT key, machine, serial, enrolled, heard FROM agent_session WHERE key = ?1",
        )
        .bind(key.0.as_slice())
        .fetch_optional(&self.readers)
        .await
        .map_err(DbError::storage("read the agent session"))?;
        row.map(read).transpose()
    }

    /// The sessions of a machine, the last heard first: more than one live means that two agents
    /// claim to be it.
    pub async fn agent_sessions(&self, machine: MachineId) -> Result<Vec<AgentSession>, DbError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT key, machine, serial, enrolled, heard FROM agent_session
             WHERE machine = ?1 ORDER BY heard DESC, key",
        )
        .bind(machine.0.as_bytes().as_slice())
        .fetch_all(&self.readers)
        .await
        .map_err(DbError::storage("read the agent sessions"))?;
        rows.into_iter().map(read).collect()
    }

    /// Notes that the agent was heard; false if its session has ended.
    pub async fn agent_heard(&self, key: KeyFingerprint, at: WallTime) -> Result<bool, DbError> {
        self.write_statement(move |conn| {
            Box::pin(async move {
                let done =
                    sqlx::query("UPDATE agent_session SET heard = max(heard, ?2) WHERE key = ?1")
                        .bind(key.0.as_slice())
                        .bind(at.0)
                        .execute(conn)
                        .await
                        .map_err(DbError::storage("note that an agent was heard"))?;
                Ok(done.rows_affected() == 1)
            })
        })
        .await
    }

    /// Ends a session: its key means nothing from now on. True if there was one.
    pub async fn end_agent_session(&self, key: KeyFingerprint) -> Result<bool, DbError> {
        self.write(move |conn| {
            Box::pin(async move {
                let done = sqlx::query("DELETE FROM agent_session WHERE key = ?1")
                    .bind(key.0.as_slice())
                    .execute(conn)
                    .await
                    .map_err(DbError::storage("end the agent session"))?;
                Ok(done.rows_affected() == 1)
            })
        })
        .await
    }

    /// Ends every session last heard before `before`; returns how many.
    pub async fn purge_agent_sessions(&self, before: WallTime) -> Result<u64, DbError> {
        self.write(move |conn| {
            Box::pin(async move {
                let done = sqlx::query("DELETE FROM agent_session WHERE heard < ?1")
                    .bind(before.0)
                    .execute(conn)
                    .await
                    .map_err(DbError::storage("end old agent sessions"))?;
                Ok(done.rows_affected())
            })
        })
        .await
    }
}

impl fmt::Display for KeyFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn read((key, machine, serial, enrolled, heard): Row) -> Result<AgentSession, DbError> {
    Ok(AgentSession {
        machine: MachineId(uuid(WHAT, &machine)?),
        key: KeyFingerprint(bytes(WHAT, &key)?),
        serial,
        enrolled: time(enrolled),
        heard: time(heard),
    })
}
