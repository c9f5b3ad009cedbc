//! What the whole site has once: its settings, its identity, single values.

use farrier_engine::policy::Settings;
use uuid::Uuid;

use crate::column::damaged;
use crate::document::Document;
use crate::{Db, DbError};

/// The site's settings with the revision to hand back on a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SiteSettings {
    /// 0 while nobody has set anything.
    pub revision: u64,
    pub settings: Settings,
}

/// Which server this database belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub server: Uuid,
    /// Raised by every restore, so that what an older copy promised can be told apart.
    pub epoch: u64,
}

static SETTINGS: Document = Document {
    what: "set of site settings",
    reading: "read the site settings",
    storing: "store the site settings",
    select: "SELECT doc, revision FROM site WHERE one = 1",
    replace: "INSERT INTO site (one, revision, doc) SELECT 1, ?1, ?2
              WHERE ?3 = (SELECT coalesce(max(revision), 0) FROM site)
              ON CONFLICT (one) DO UPDATE SET revision = excluded.revision, doc = excluded.doc",
};
const IDENTITY: &str = "server identity";

impl Db {
    pub async fn site_settings(&self) -> Result<SiteSettings, DbError> {
        let (revision, settings) = self.document(&SETTINGS).await?;
        Ok(SiteSettings { revision, settings })
    }

    /// Stores settings in place of those that were read with `revision`, and returns them with the next
    /// one. Refused when somebody else changed them in between.
    pub async fn set_site_settings(
        &self,
        settings: &Settings,
        revision: u64,
    ) -> Result<SiteSettings, DbError> {
        let revision = self.set_document(&SETTINGS, settings, revision).await?;
        let settings = settings.clone();
        Ok(SiteSettings { revision, settings })
    }

    /// The identity of this server; `fresh` becomes it when there is none yet.
    pub async fn identity(&self, fresh: Uuid) -> Result<Identity, DbError> {
        self.write(move |conn| {
            Box::pin(async move {
                for (key, value) in [(SERVER, fresh.hyphenated().to_string()), (EPOCH, "1".to_owned())] {
                    sqlx::query("INSERT INTO value (key, value) VALUES (?1, ?2) ON CONFLICT DO NOTHING")
                        .bind(key)
                        .bind(value)
                        .execute(&mut *conn)
                        .await
                        .map_err(DbError::storage("store the server identity"))?;
                }
                let (server, epoch): (String, String) = sqlx::query_as(
                    "SELECT (SELECT value FROM value WHERE key = ?1), (SELECT value FROM value WHERE key = ?2)",
                )
                .bind(SERVER)
                .bind(EPOCH)
                .fetch_one(conn)
                .await
                .map_err(DbError::storage("read the server identity"))?;
                Ok(Identity {
                    server: server.parse().map_err(|_| damaged(IDENTITY, "an id that is no UUID"))?,
                    epoch: epoch.parse().map_err(|_| damaged(IDENTITY, "an epoch that is no number"))?,
                })
            })
        })
        .await
    }

    /// A single value, kept under a name of the caller's choice.
    pub async fn value(&self, key: &str) -> Result<Option<String>, DbError> {
        let row: Option<(String,)> = sqlx::query_as("SELECT value FROM value WHERE key = ?1")
            .bind(format!("{OWN}{key}"))
            .fetch_optional(&self.readers)
            .await
            .map_err(DbError::storage("read a value"))?;
        Ok(row.map(|(value,)| value))
    }

    pub async fn set_value(&self, key: &str, value: &str) -> Result<(), DbError> {
        let (key, value) = (format!("{OWN}{key}"), value.to_owned());
        self.write(move |conn| {
            Box::pin(async move {
                sqlx::query(
                    "INSERT INTO value (key, value) VALUES (?1, ?2)
                     ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                )
                .bind(key)
                .bind(value)
                .execute(conn)
                .await
                .map_err(DbError::storage("store a value"))?;
                Ok(())
            })
        })
        .await
    }
}

/// Keys of our own; those of callers carry a prefix and cannot meet them.
const SERVER: &str = "server";
pub(crate) const EPOCH: &str = "epoch";
const OWN: &str = "value.";
