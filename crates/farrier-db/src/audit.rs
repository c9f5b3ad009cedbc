//! The audit log: who did what, when, from where. Appended to, never changed.

use farrier_engine::WallTime;
use serde::{Deserialize, Serialize};

use crate::column::{from_doc, signed, to_doc, unsigned};
use crate::{Db, DbError, Stored};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    pub at: WallTime,
    /// The name of the user or token, or of the part of the server that acted by itself.
    pub who: String,
    /// The address it came from, if from outside.
    pub from: Option<String>,
    /// What was done, in a fixed short form: `task.create`.
    pub what: String,
    /// What it was done to, for people.
    pub target: String,
    /// Whether it was let through.
    pub allowed: bool,
}

const WHAT: &str = "audit entry";

impl Db {
    pub async fn append_audit(&self, entry: &AuditEntry) -> Result<(), DbError> {
        let (at, doc) = (entry.at, to_doc(WHAT, entry)?);
        self.write(move |conn| {
            Box::pin(async move {
                sqlx::query("INSERT INTO audit (at, doc) VALUES (?1, ?2)")
                    .bind(at.0)
                    .bind(doc)
                    .execute(conn)
                    .await
                    .map_err(DbError::storage("store the audit entry"))?;
                Ok(())
            })
        })
        .await
    }

    /// Up to `limit` entries, the newest first, those before the place `before`.
    pub async fn audit(
        &self,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<Stored<AuditEntry>>, DbError> {
        let rows: Vec<(i64, String)> =
            sqlx::query_as("SELECT seq, doc FROM audit WHERE seq < ?1 ORDER BY seq DESC LIMIT ?2")
                .bind(before.map_or(i64::MAX, signed))
                .bind(limit)
                .fetch_all(&self.readers)
                .await
                .map_err(DbError::storage("read the audit log"))?;
        rows.into_iter()
            .map(|(seq, doc)| {
                Ok(Stored {
                    seq: unsigned(WHAT, seq)?,
                    value: from_doc(WHAT, &doc)?,
                })
            })
            .collect()
    }
}
