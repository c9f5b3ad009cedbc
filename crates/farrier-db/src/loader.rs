//! The loader catalogue's rows. The files themselves lie beside the database.

use farrier_engine::catalogue::Loader;

use crate::column::{from_doc, to_doc};
use crate::{Db, DbError};

const WHAT: &str = "loader";

impl Db {
    /// Stores a loader in place of the one with the same id.
    pub async fn save_loader(&self, loader: &Loader) -> Result<(), DbError> {
        let (id, doc) = (loader.id.clone(), to_doc(WHAT, loader)?);
        self.write(move |conn| {
            Box::pin(async move {
                sqlx::query(
                    "INSERT INTO loader (id, doc) VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET doc = excluded.doc",
                )
                .bind(id)
                .bind(doc)
                .execute(conn)
                .await
                .map_err(DbError::storage("store the loader"))?;
                Ok(())
            })
        })
        .await
    }

    /// Every loader, by id.
    pub async fn loaders(&self) -> Result<Vec<Loader>, DbError> {
        let rows: Vec<(String,)> = sqlx::query_as("SELECT doc FROM loader ORDER BY id")
            .fetch_all(&self.readers)
            .await
            .map_err(DbError::storage("list the loaders"))?;
        rows.iter().map(|(doc,)| from_doc(WHAT, doc)).collect()
    }

    /// True if there was one.
    pub async fn delete_loader(&self, id: &str) -> Result<bool, DbError> {
        let id = id.to_owned();
        self.write(move |conn| {
            Box::pin(async move {
                let done = sqlx::query("DELETE FROM loader WHERE id = ?1")
                    .bind(id)
                    .execute(conn)
                    .await
                    .map_err(DbError::storage("delete the loader"))?;
                Ok(done.rows_affected() == 1)
            })
        })
        .await
    }
}
