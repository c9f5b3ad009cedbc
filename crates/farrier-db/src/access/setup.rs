//! The first administrator: made by whoever reads the one-time token on the server's console.

use farrier_engine::WallTime;
use farrier_engine::model::Role;

use super::TokenHash;
use super::user::{self, User};
use crate::column::bytes;
use crate::{Db, DbError, Redeemed};

const WHAT: &str = "setup token";

impl Db {
    /// Makes this the only setup token; an older one means nothing from now on.
    pub async fn set_setup_token(&self, hash: TokenHash, expires: WallTime) -> Result<(), DbError> {
        self.write(move |conn| {
            Box::pin(async move {
                sqlx::query(
                    "INSERT INTO setup_token (one, hash, expires) VALUES (1, ?1, ?2)
                     ON CONFLICT (one) DO UPDATE SET hash = excluded.hash, expires = excluded.expires, used = NULL",
                )
                .bind(hash.0.as_slice())
                .bind(expires.0)
                .execute(conn)
                .await
                .map_err(DbError::storage("store the setup token"))?;
                Ok(())
            })
        })
        .await
    }

    /// Uses the setup token up and makes `first` an enabled administrator, both or neither.
    pub async fn create_first_admin(
        &self,
        hash: TokenHash,
        now: WallTime,
        first: &User,
    ) -> Result<Redeemed<()>, DbError> {
        let first = User {
            role: Role::Admin,
            disabled: false,
            ..first.clone()
        };
        self.write(move |conn| {
            Box::pin(async move {
                let row: Option<(Vec<u8>, i64, Option<i64>)> =
                    sqlx::query_as("SELECT hash, expires, used FROM setup_token WHERE one = 1")
                        .fetch_optional(&mut *conn)
                        .await
                        .map_err(DbError::storage("read the setup token"))?;
                let Some((stored, expires, used)) = row else {
                    return Ok(Redeemed::Unknown);
                };
                if TokenHash(bytes(WHAT, &stored)?) != hash {
                    return Ok(Redeemed::Unknown);
                }
                if used.is_some() {
                    return Ok(Redeemed::AlreadyUsed);
                }
                if expires <= now.0 {
                    return Ok(Redeemed::Expired);
                }
                sqlx::query("UPDATE setup_token SET used = ?1 WHERE one = 1")
                    .bind(now.0)
                    .execute(&mut *conn)
                    .await
                    .map_err(DbError::storage("use up the setup token"))?;
                user::insert(conn, &first).await?;
                Ok(Redeemed::Granted(()))
            })
        })
        .await
    }
}
