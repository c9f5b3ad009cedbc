//! Signed-in browsers.

use farrier_engine::WallTime;
use farrier_engine::model::UserId;

use super::user::{self, User};
use super::{Secret, TokenHash};
use crate::column::{time, uuid};
use crate::{Db, DbError};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSession {
    pub hash: TokenHash,
    pub user: UserId,
    pub csrf: Secret,
    pub created: WallTime,
    /// Ends then unless it is used before.
    pub idle_until: WallTime,
    /// Ends then in any case.
    pub ends: WallTime,
}

const WHAT: &str = "web session";

type Row = (
    Vec<u8>,
    String,
    i64,
    i64,
    i64,
    String,
    String,
    String,
    bool,
    i64,
);

impl Db {
    pub async fn create_web_session(&self, session: &WebSession) -> Result<(), DbError> {
        let session = session.clone();
        self.write(move |conn| {
            Box::pin(async move {
                sqlx::query(
                    "INSERT INTO web_session (hash, person, csrf, created, idle_until, ends)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )
                .bind(session.hash.0.as_slice())
                .bind(session.user.0.as_bytes().as_slice())
                .bind(&session.csrf.0)
                .bind(session.created.0)
                .bind(session.idle_until.0)
                .bind(session.ends.0)
                .execute(conn)
                .await
                .map_err(DbError::missing(
                    "store the web session",
                    "user",
                    session.user,
                ))?;
                Ok(())
            })
        })
        .await
    }

    /// The session of a token with its user, if neither has ended or been disabled.
    pub async fn web_session(
        &self,
        hash: TokenHash,
        now: WallTime,
    ) -> Result<Option<(WebSession, User)>, DbError> {
        let row: Option<Row> = sqlx::query_as(
            "SELECT person.id, csrf, web_session.created, idle_until, ends, name, password, role, disabled,
                    person.created
             FROM web_session JOIN person ON person.id = web_session.person
             WHERE hash = ?1 AND idle_until > ?2 AND ends > ?2 AND disabled = 0",
        )
        .bind(hash.0.as_slice())
        .bind(now.0)
        .fetch_optional(&self.readers)
        .await
        .map_err(DbError::storage("read the web session"))?;
        row.map(|row| read(hash, row)).transpose()
    }

    /// Puts off the idle end; false if the session has gone.
    pub async fn extend_web_session(
        &self,
        hash: TokenHash,
        idle_until: WallTime,
    ) -> Result<bool, DbError> {
        self.write(move |conn| {
            Box::pin(async move {
                let done = sqlx::query(
                    "UPDATE web_session SET idle_until = max(idle_until, ?2) WHERE hash = ?1",
                )
                .bind(hash.0.as_slice())
                .bind(idle_until.0)
                .execute(conn)
                .await
                .map_err(DbError::storage("extend the web session"))?;
                Ok(done.rows_affected() == 1)
            })
        })
        .await
    }

    /// Signs out; true if there was such a session.
    pub async fn delete_web_session(&self, hash: TokenHash) -> Result<bool, DbError> {
        self.write(move |conn| {
            Box::pin(async move {
                let done = sqlx::query("DELETE FROM web_session WHERE hash = ?1")
                    .bind(hash.0.as_slice())
                    .execute(conn)
                    .await
                    .map_err(DbError::storage("delete the web session"))?;
                Ok(done.rows_affected() == 1)
            })
        })
        .await
    }

    /// Forgets sessions that have ended; returns how many.
    pub async fn purge_web_sessions(&self, now: WallTime) -> Result<u64, DbError> {
        self.write(move |conn| {
            Box::pin(async move {
                let done =
                    sqlx::query("DELETE FROM web_session WHERE idle_until <= ?1 OR ends <= ?1")
                        .bind(now.0)
                        .execute(conn)
                        .await
                        .map_err(DbError::storage("delete old web sessions"))?;
                Ok(done.rows_affected())
            })
        })
        .await
    }
}

fn read(hash: TokenHash, row: Row) -> Result<(WebSession, User), DbError> {
    let (id, csrf, created, idle_until, ends, name, password, role, disabled, user_created) = row;
    let session = WebSession {
        hash,
        user: UserId(uuid(WHAT, &id)?),
        csrf: Secret(csrf),
        created: time(created),
        idle_until: time(idle_until),
        ends: time(ends),
    };
    Ok((
        session,
        user::read((id, name, password, role, disabled, user_created))?,
    ))
}
