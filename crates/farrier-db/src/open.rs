//! What is checked before a database file is believed, and how an old one is brought up to date.

use std::error::Error;
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, Executor, SqlitePool};

use crate::backup::{self, BackupError};
use crate::error::classify;
use crate::{Fault, Options};

/// The schema, forward only. A released file is never edited: its checksum is in every database.
static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// "FARR" in the file's header says that the file is ours (set by the first migration).
const APPLICATION_ID: i64 = 0x4641_5252;

/// The database could not be opened; nothing was changed unless the variant says so.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{} is in use by another Farrier server: stop that one first", path.display())]
    InUse { path: PathBuf },

    #[error("{} is not a database of Farrier: name another file in the configuration", path.display())]
    Foreign { path: PathBuf },

    #[error(
        "{} was written by a newer Farrier (schema {found}, this one knows up to {known}): install that version, or restore the backup made before the upgrade with `farrier db restore`",
        path.display()
    )]
    Newer {
        path: PathBuf,
        found: i64,
        known: i64,
    },

    #[error("{} is damaged ({found}): restore a backup with `farrier db restore`", path.display())]
    Corrupt { path: PathBuf, found: String },

    #[error(
        "a restore over {} was interrupted: run `farrier db restore` again, or rename {} to it",
        path.display(), ready.display()
    )]
    RestoreUnfinished { path: PathBuf, ready: PathBuf },

    /// The folder or the lock file.
    #[error("cannot prepare the folder of {}: create it, and let the user of the server write there", path.display())]
    Prepare {
        path: PathBuf,
        #[source]
        source: io::Error,
    },

    #[error("cannot open {}: {fault}", path.display())]
    Storage {
        path: PathBuf,
        fault: Fault,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },

    #[error("cannot back up {} before its upgrade; it was not changed", path.display())]
    Backup {
        path: PathBuf,
        #[source]
        source: BackupError,
    },

    #[error(
        "cannot upgrade {}: what was done is whole; report this, and go back to the old version with {}",
        path.display(), backup.as_deref().map_or_else(|| "an empty file".into(), Path::to_string_lossy)
    )]
    Migrate {
        path: PathBuf,
        backup: Option<PathBuf>,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl OpenError {
    /// Whether the same call can succeed later without anybody changing the data.
    #[must_use]
    pub fn retry_helps(&self) -> bool {
        match self {
            Self::InUse { .. } | Self::Prepare { .. } => true,
            Self::Storage { fault, .. } => fault.retry_helps(),
            Self::Backup { source, .. } => source.retry_helps(),
            Self::Foreign { .. }
            | Self::Newer { .. }
            | Self::Corrupt { .. }
            | Self::RestoreUnfinished { .. }
            | Self::Migrate { .. } => false,
        }
    }

    fn prepare(path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| {
            let fault = match source.kind() {
                io::ErrorKind::ReadOnlyFilesystem => Fault::ReadOnly,
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Fault::Full,
                _ => {
                    return Self::Prepare {
                        path: path.into(),
                        source,
                    };
                }
            };
            Self::Storage {
                path: path.into(),
                fault,
                source: Box::new(source),
            }
        }
    }

    pub(crate) fn storage(path: &Path) -> impl Fn(sqlx::Error) -> Self {
        move |source| match classify(&source) {
            Fault::Corrupt => Self::Corrupt {
                path: path.into(),
                found: source.to_string(),
            },
            fault => Self::Storage {
                path: path.into(),
                fault,
                source: Box::new(source),
            },
        }
    }
}

pub(crate) struct Opened {
    pub(crate) writer: SqliteConnection,
    pub(crate) readers: SqlitePool,
    /// Held as long as the file is in use.
    pub(crate) lock: File,
}

pub(crate) async fn open(path: &Path, options: Options) -> Result<Opened, OpenError> {
    let lock = lock(path)?;
    let ready = backup::ready_to_restore(path);
    if ready.exists() {
        return Err(OpenError::RestoreUnfinished {
            path: path.into(),
            ready,
        });
    }
    create_private(path).map_err(OpenError::prepare(path))?;

    let backup = match inspect(path, options.check).await? {
        version if version == 0 || version == newest() => None,
        version => Some(back_up_before_upgrade(path, version).await?),
    };
    let mut writer = connect_writer(path, options.busy_timeout)
        .await
        .map_err(OpenError::storage(path))?;
    MIGRATIONS
        .run(&mut writer)
        .await
        .map_err(|e| migration_failed(path, backup, e))?;
    // A file that can only be read opens without complaint until somebody writes.
    writer
        .execute("BEGIN IMMEDIATE")
        .await
        .map_err(OpenError::storage(path))?;
    writer
        .execute("ROLLBACK")
        .await
        .map_err(OpenError::storage(path))?;

    let readers = SqlitePoolOptions::new()
        .max_connections(READERS)
        .acquire_timeout(options.busy_timeout * 2)
        .connect_with(
            base_options(path, options.busy_timeout)
                .read_only(true)
                .pragma("cache_size", READER_CACHE),
        )
        .await
        .map_err(OpenError::storage(path))?;
    Ok(Opened {
        writer,
        readers,
        lock,
    })
}

/// Takes the lock that keeps a second server away. It ends with the process, however that ends.
pub(crate) fn lock(path: &Path) -> Result<File, OpenError> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(backup::beside(path, "lock"))
        .map_err(OpenError::prepare(path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: path.into() }),
        Err(TryLockError::Error(source)) => Err(OpenError::prepare(path)(source)),
    }
}

/// Makes the file if it is missing, for the server's user only: it holds password hashes.
pub(crate) fn create_private(path: &Path) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map(drop)
}

/// Looks at a file without changing it; returns the version of its schema, 0 if it has none.
pub(crate) async fn inspect(path: &Path, check: bool) -> Result<i64, OpenError> {
    let mut conn = connect(path).await.map_err(OpenError::storage(path))?;
    let version = inspect_connection(path, &mut conn, check).await;
    // What it read is all that was wanted of the connection.
    let _ = conn.close().await;
    version
}

async fn inspect_connection(
    path: &Path,
    conn: &mut SqliteConnection,
    check: bool,
) -> Result<i64, OpenError> {
    let fault = OpenError::storage(path);
    let (objects,): (i64,) = sqlx::query_as("SELECT count(*) FROM sqlite_schema")
        .fetch_one(&mut *conn)
        .await
        .map_err(&fault)?;
    if objects == 0 {
        return Ok(0);
    }
    let (application,): (i64,) = sqlx::query_as("PRAGMA application_id")
        .fetch_one(&mut *conn)
        .await
        .map_err(&fault)?;
    let (has_versions,): (i64,) = sqlx::query_as(
        "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = '_sqlx_migrations'",
    )
    .fetch_one(&mut *conn)
    .await
    .map_err(&fault)?;
    if has_versions == 0 || (application != APPLICATION_ID && objects > 2) {
        return Err(OpenError::Foreign { path: path.into() });
    }
    let (version,): (i64,) =
        sqlx::query_as("SELECT coalesce(max(version), 0) FROM _sqlx_migrations")
            .fetch_one(&mut *conn)
            .await
            .map_err(&fault)?;
    if version > newest() {
        return Err(OpenError::Newer {
            path: path.into(),
            found: version,
            known: newest(),
        });
    }
    if check {
        check_structure(path, conn, "PRAGMA quick_check(1)").await?;
    }
    Ok(version)
}

/// Runs one of SQLite's own checks, which answer "ok" or say what they found.
pub(crate) async fn check_structure(
    path: &Path,
    conn: &mut SqliteConnection,
    pragma: &'static str,
) -> Result<(), OpenError> {
    let (found,): (String,) = sqlx::query_as(pragma)
        .fetch_one(conn)
        .await
        .map_err(OpenError::storage(path))?;
    if found == "ok" {
        Ok(())
    } else {
        Err(OpenError::Corrupt {
            path: path.into(),
            found,
        })
    }
}

/// A plain connection that sets nothing in the file, so that a foreign one stays as it is.
pub(crate) async fn connect(path: &Path) -> Result<SqliteConnection, sqlx::Error> {
    base_options(path, Duration::from_secs(5)).connect().await
}

async fn connect_writer(
    path: &Path,
    busy_timeout: Duration,
) -> Result<SqliteConnection, sqlx::Error> {
    base_options(path, busy_timeout)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("journal_size_limit", JOURNAL_KEPT)
        // Statements that take a varying number of rows are one for each number.
        .statement_cache_capacity(STATEMENTS)
        .connect()
        .await
}

/// As many as [`crate::lease_queue::MAX_ROWS`], and all others.
const STATEMENTS: usize = 160;

fn base_options(path: &Path, busy_timeout: Duration) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .foreign_keys(true)
        .busy_timeout(busy_timeout)
}

/// The version of the schema this program writes.
pub(crate) fn newest() -> i64 {
    MIGRATIONS
        .iter()
        .map(|migration| migration.version)
        .max()
        .unwrap_or(0)
}

async fn back_up_before_upgrade(path: &Path, version: i64) -> Result<PathBuf, OpenError> {
    let to = backup::beside(path, &format!("schema-{version}.backup"));
    tracing::info!(to = %to.display(), "backing up the database before its upgrade");
    backup::copy(path, &to)
        .await
        .map_err(|source| OpenError::Backup {
            path: path.into(),
            source,
        })?;
    Ok(to)
}

fn migration_failed(path: &Path, backup: Option<PathBuf>, error: MigrateError) -> OpenError {
    match error {
        MigrateError::Execute(e) | MigrateError::ExecuteMigration(e, _)
            if classify(&e) != Fault::Refused =>
        {
            OpenError::storage(path)(e)
        }
        error => OpenError::Migrate {
            path: path.into(),
            backup,
            source: Box::new(error),
        },
    }
}

/// Pages, images and decisions read side by side; more readers than this wait for the same disk.
const READERS: u32 = 4;

/// In KiB (with a minus, or it is pages). The kernel holds the file's pages anyway, once for all readers.
const READER_CACHE: &str = "-512";

/// The write-ahead log shrinks to this after a burst has blown it up.
const JOURNAL_KEPT: &str = "67108864";
