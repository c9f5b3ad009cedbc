//! Tokens for programs.

use farrier_engine::WallTime;
use farrier_engine::model::Role;

use super::TokenHash;
use crate::column::{bytes, from_name, time, to_name};
use crate::{Db, DbError};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiToken {
    pub hash: TokenHash,
    /// What people call it; there is one of each name.
    pub name: String,
    pub role: Role,
    pub created: WallTime,
    /// Never, if unset.
    pub expires: Option<WallTime>,
    pub last_used: Option<WallTime>,
}

const WHAT: &str = "API token";

type Row = (Vec<u8>, String, String, i64, Option<i64>, Option<i64>);

impl Db {
    pub async fn create_api_token(&self, token: &ApiToken) -> Result<(), DbError> {
        let token = token.clone();
        self.write(move |conn| {
            Box::pin(async move {
                sqlx::query(
                    "INSERT INTO api_token (hash, name, role, created, expires, last_used)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )
                .bind(token.hash.0.as_slice())
                .bind(&token.name)
                .bind(to_name(WHAT, &token.role)?)
                .bind(token.created.0)
                .bind(token.expires.map(|at| at.0))
                .bind(token.last_used.map(|at| at.0))
                .execute(conn)
                .await
                .map_err(DbError::taken(
                    "store the API token",
                    WHAT,
                    &token.name,
                ))?;
                Ok(())
            })
        })
        .await
    }

    /// The token of that hash, if it has not expired.
    pub async fn api_token(
        &self,
        hash: TokenHash,
        now: WallTime,
    ) -> Result<Option<ApiToken>, DbError> {
        let row: Option<Row> = sqlx::query_as(
            "SELECT hash, name, role, created, expires, last_used FROM api_token
             WHERE hash = ?1 AND (expires IS NULL OR expires > ?2)",
        )
        .bind(hash.0.as_slice())
        .bind(now.0)
        .fetch_optional(&self.readers)
        .await
        .map_err(DbError::storage("read the API token"))?;
        row.map(read).transpose()
    }

    /// Every token, by name, expired ones too.
    pub async fn api_tokens(&self) -> Result<Vec<ApiToken>, DbError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT hash, name, role, created, expires, last_used FROM api_token ORDER BY name",
        )
        .fetch_all(&self.readers)
        .await
        .map_err(DbError::storage("list the API tokens"))?;
        rows.into_iter().map(read).collect()
    }

    /// Notes a use, for people who look for tokens nobody needs any more.
    pub async fn api_token_used(&self, hash: TokenHash, at: WallTime) -> Result<(), DbError> {
        self.write(move |conn| {
            Box::pin(async move {
                sqlx::query("UPDATE api_token SET last_used = max(coalesce(last_used, ?2), ?2) WHERE hash = ?1")
                    .bind(hash.0.as_slice())
                    .bind(at.0)
                    .execute(conn)
                    .await
                    .map_err(DbError::storage("note the use of an API token"))?;
                Ok(())
            })
        })
        .await
    }

    /// Revokes by name; true if there was one.
    pub async fn delete_api_token(&self, name: &str) -> Result<bool, DbError> {
        let name = name.to_owned();
        self.write(move |conn| {
            Box::pin(async move {
                let done = sqlx::query("DELETE FROM api_token WHERE name = ?1")
                    .bind(name)
                    .execute(conn)
                    .await
                    .map_err(DbError::storage("delete the API token"))?;
                Ok(done.rows_affected() == 1)
            })
        })
        .await
    }
}

fn read((hash, name, role, created, expires, last_used): Row) -> Result<ApiToken, DbError> {
    Ok(ApiToken {
        hash: TokenHash(bytes(WHAT, &hash)?),
        name,
        role: from_name(WHAT, role)?,
        created: time(created),
        expires: expires.map(time),
        last_used: last_used.map(time),
    })
}
