//! People.

use farrier_engine::WallTime;
use farrier_engine::model::{Role, UserId};
use sqlx::sqlite::SqliteConnection;

use super::Secret;
use crate::column::{from_name, time, to_name, uuid};
use crate::{Db, DbError};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub id: UserId,
    /// As typed at sign-in; case matters.
    pub name: String,
    /// The argon2id hash in its PHC text form.
    pub password: Secret,
    pub role: Role,
    pub disabled: bool,
    pub created: WallTime,
}

const WHAT: &str = "user";

pub(super) type Row = (Vec<u8>, String, String, String, bool, i64);

impl Db {
    pub async fn create_user(&self, user: &User) -> Result<(), DbError> {
        let user = user.clone();
        self.write(move |conn| Box::pin(async move { insert(conn, &user).await }))
            .await
    }

    /// Changes name, password, role and whether disabled. Sessions of a user who is disabled or has a
    /// new password end. Refused when no enabled administrator would be left.
    pub async fn update_user(&self, user: &User) -> Result<(), DbError> {
        let user = user.clone();
        self.write(move |conn| {
            Box::pin(async move {
                let id = user.id.0.as_bytes().as_slice();
                let old: Option<(String,)> = sqlx::query_as("SELECT password FROM person WHERE id = ?1")
                    .bind(id)
                    .fetch_optional(&mut *conn)
                    .await
                    .map_err(DbError::storage("read the user"))?;
                let Some((password,)) = old else { return Err(missing(user.id)) };
                sqlx::query("UPDATE person SET name = ?2, password = ?3, role = ?4, disabled = ?5 WHERE id = ?1")
                    .bind(id)
                    .bind(&user.name)
                    .bind(&user.password.0)
                    .bind(to_name(WHAT, &user.role)?)
                    .bind(user.disabled)
                    .execute(&mut *conn)
                    .await
                    .map_err(DbError::taken("store the user", WHAT, &user.name))?;
                if user.disabled || password != user.password.0 {
                    end_sessions(conn, user.id).await?;
                }
                require_admin(conn).await
            })
        })
        .await
    }

    /// Deletes a user with all sessions. Refused when no enabled administrator would be left.
    pub async fn delete_user(&self, id: UserId) -> Result<(), DbError> {
        self.write(move |conn| {
            Box::pin(async move {
                let done = sqlx::query("DELETE FROM person WHERE id = ?1")
                    .bind(id.0.as_bytes().as_slice())
                    .execute(&mut *conn)
                    .await
                    .map_err(DbError::storage("delete the user"))?;
                if done.rows_affected() == 0 {
                    return Err(missing(id));
                }
                require_admin(conn).await
            })
        })
        .await
    }

    pub async fn user(&self, id: UserId) -> Result<Option<User>, DbError> {
        let row: Option<Row> = sqlx::query_as(
            "SELECT id, name, password, role, disabled, created FROM person WHERE id = ?1",
        )
        .bind(id.0.as_bytes().as_slice())
        .fetch_optional(&self.readers)
        .await
        .map_err(DbError::storage("read the user"))?;
        row.map(read).transpose()
    }

    pub async fn user_by_name(&self, name: &str) -> Result<Option<User>, DbError> {
        let row: Option<Row> = sqlx::query_as(
            "SELECT id, name, password, role, disabled, created FROM person WHERE name = ?1",
        )
        .bind(name)
        .fetch_optional(&self.readers)
        .await
        .map_err(DbError::storage("read the user"))?;
        row.map(read).transpose()
    }

    /// Everybody, by name.
    pub async fn users(&self) -> Result<Vec<User>, DbError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT id, name, password, role, disabled, created FROM person ORDER BY name",
        )
        .fetch_all(&self.readers)
        .await
        .map_err(DbError::storage("list the users"))?;
        rows.into_iter().map(read).collect()
    }
}

pub(super) async fn insert(conn: &mut SqliteConnection, user: &User) -> Result<(), DbError> {
    sqlx::query(
        "INSERT INTO person (id, name, password, role, disabled, created) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )
    .bind(user.id.0.as_bytes().as_slice())
    .bind(&user.name)
    .bind(&user.password.0)
    .bind(to_name(WHAT, &user.role)?)
    .bind(user.disabled)
    .bind(user.created.0)
    .execute(conn)
    .await
    .map_err(DbError::taken("store the user", WHAT, &user.name))?;
    Ok(())
}

pub(super) fn read((id, name, password, role, disabled, created): Row) -> Result<User, DbError> {
    Ok(User {
        id: UserId(uuid(WHAT, &id)?),
        name,
        password: Secret(password),
        role: from_name(WHAT, role)?,
        disabled,
        created: time(created),
    })
}

async fn end_sessions(conn: &mut SqliteConnection, user: UserId) -> Result<(), DbError> {
    sqlx::query("DELETE FROM web_session WHERE person = ?1")
        .bind(user.0.as_bytes().as_slice())
        .execute(conn)
        .await
        .map_err(DbError::storage("end the sessions of a user"))?;
    Ok(())
}

/// Called after a change and inside its transaction: the last way in must not be closed by mistake.
async fn require_admin(conn: &mut SqliteConnection) -> Result<(), DbError> {
    let (left,): (i64,) =
        sqlx::query_as("SELECT count(*) FROM person WHERE role = ?1 AND disabled = 0")
            .bind(to_name(WHAT, &Role::Admin)?)
            .fetch_one(conn)
            .await
            .map_err(DbError::storage("count the administrators"))?;
    if left == 0 {
        Err(DbError::LastAdmin)
    } else {
        Ok(())
    }
}

fn missing(id: UserId) -> DbError {
    DbError::Missing {
        what: WHAT,
        id: id.to_string(),
    }
}
