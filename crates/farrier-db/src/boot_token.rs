//! One-time boot tokens: what lets an agent enrol for one machine, once.

use std::fmt;

use farrier_engine::WallTime;
use farrier_engine::model::{MachineId, TaskId};
use sqlx::sqlite::SqliteConnection;

use crate::access::TokenHash;
use crate::column::{time, uuid};
use crate::{Db, DbError};

/// A token that was handed out in a boot script, known by its hash only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootToken {
    pub hash: TokenHash,
    pub machine: MachineId,
    /// The task it was booted for, if for one.
    pub task: Option<TaskId>,
    /// What the boot is for, in the caller's words.
    pub intent: String,
    pub created: WallTime,
    pub expires: WallTime,
}

/// What became of an attempt to use a one-time token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redeemed<T> {
    /// It was good, and is used now.
    Granted(T),
    /// Somebody used it before: a replay, or a client that asks twice.
    AlreadyUsed,
    Expired,
    Unknown,
}

const WHAT: &str = "boot token";

type Row = (Vec<u8>, Option<Vec<u8>>, String, i64, i64, Option<i64>);

impl Db {
    pub async fn create_boot_token(&self, token: &BootToken) -> Result<(), DbError> {
        let token = token.clone();
        self.write(move |conn| {
            Box::pin(async move {
                sqlx::query(
                    "INSERT INTO boot_token (hash, machine, task, intent, created, expires)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )
                .bind(token.hash.0.as_slice())
                .bind(token.machine.0.as_bytes().as_slice())
                .bind(token.task.as_ref().map(|task| task.0.as_bytes().as_slice()))
                .bind(&token.intent)
                .bind(token.created.0)
                .bind(token.expires.0)
                .execute(conn)
                .await
                .map_err(DbError::missing(
                    "store the boot token",
                    "machine or task of a boot token",
                    token.machine,
                ))?;
                Ok(())
            })
        })
        .await
    }

    /// Uses a token up. Of any number of callers at once, one is granted.
    pub async fn redeem_boot_token(
        &self,
        hash: TokenHash,
        now: WallTime,
    ) -> Result<Redeemed<BootToken>, DbError> {
        self.write(move |conn| {
            Box::pin(async move {
                let row: Option<Row> = sqlx::query_as(
                    "SELECT machine, task, intent, created, expires, used FROM boot_token WHERE hash = ?1",
                )
                .bind(hash.0.as_slice())
                .fetch_optional(&mut *conn)
                .await
                .map_err(DbError::storage("read the boot token"))?;
                let Some((machine, task, intent, created, expires, used)) = row else { return Ok(Redeemed::Unknown) };
                if used.is_some() {
                    return Ok(Redeemed::AlreadyUsed);
                }
                if expires <= now.0 {
                    return Ok(Redeemed::Expired);
                }
                mark_used(conn, hash, now).await?;
                Ok(Redeemed::Granted(BootToken {
                    hash,
                    machine: MachineId(uuid(WHAT, &machine)?),
                    task: task.map(|id| uuid(WHAT, &id).map(TaskId)).transpose()?,
                    intent,
                    created: time(created),
                    expires: time(expires),
                }))
            })
        })
        .await
    }

    /// Forgets tokens that expired before `before`, used or not; returns how many. Until then a second
    /// use is told from an unknown token.
    pub async fn purge_boot_tokens(&self, before: WallTime) -> Result<u64, DbError> {
        self.write(move |conn| {
            Box::pin(async move {
                let done = sqlx::query("DELETE FROM boot_token WHERE expires < ?1")
                    .bind(before.0)
                    .execute(conn)
                    .await
                    .map_err(DbError::storage("delete old boot tokens"))?;
                Ok(done.rows_affected())
            })
        })
        .await
    }
}

impl<T> Redeemed<T> {
    /// What was granted, if anything.
    pub fn granted(self) -> Option<T> {
        match self {
            Self::Granted(value) => Some(value),
            Self::AlreadyUsed | Self::Expired | Self::Unknown => None,
        }
    }
}

impl<T> fmt::Display for Redeemed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Granted(_) => "granted",
            Self::AlreadyUsed => "the token was used already: boot again for a new one",
            Self::Expired => "the token is too old: boot again for a new one",
            Self::Unknown => "the token is not one of ours: boot again for a new one",
        })
    }
}

async fn mark_used(
    conn: &mut SqliteConnection,
    hash: TokenHash,
    now: WallTime,
) -> Result<(), DbError> {
    sqlx::query("UPDATE boot_token SET used = ?2 WHERE hash = ?1")
        .bind(hash.0.as_slice())
        .bind(now.0)
        .execute(conn)
        .await
        .map_err(DbError::storage("use up the boot token"))?;
    Ok(())
}
