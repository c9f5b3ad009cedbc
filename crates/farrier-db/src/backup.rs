//! Copies of the database: taken while it runs, checked before they are brought back.

use std::error::Error;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection, Executor};

use crate::error::classify;
use crate::{Db, Fault, OpenError, open, site};

/// No backup was made; the database is as it was.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("{} exists already: choose another name, or delete it first", to.display())]
    Exists { to: PathBuf },

    #[error("cannot read the database to back it up: {fault}")]
    Copy {
        fault: Fault,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },

    #[error("cannot write the backup {}: give its folder space and write permission, then repeat", to.display())]
    Write {
        to: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The backup was not brought back. What was there is as it was, unless the variant says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("{} exists already: its data would be replaced; repeat with --force if that is meant", to.display())]
    Exists { to: PathBuf },

    #[error("there is no backup {}: name an existing file", from.display())]
    Missing { from: PathBuf },

    /// The backup is damaged, foreign or too new, or the target is in use.
    #[error(transparent)]
    Refused(OpenError),

    #[error("the backup {} refers to things it does not hold: take an older one", from.display())]
    Inconsistent { from: PathBuf },

    #[error("the backup {} holds nothing: take another", from.display())]
    Empty { from: PathBuf },

    #[error(transparent)]
    Copy(BackupError),

    #[error("cannot put the restored database in place at {}: repeat when its folder is writable", to.display())]
    Replace {
        to: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// What a restore did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Where the data that was replaced is now, if there was any.
    pub replaced: Option<PathBuf>,
}

impl BackupError {
    /// Whether the same call can succeed later without anybody changing the data.
    #[must_use]
    pub fn retry_helps(&self) -> bool {
        match self {
            Self::Exists { .. } => false,
            Self::Copy { fault, .. } => fault.retry_helps(),
            Self::Write { .. } => true,
        }
    }
}

impl Db {
    /// Writes a whole and consistent copy to a new file, while reads and writes go on. When this
    /// returns, the copy is on stable storage under its final name.
    pub async fn backup(&self, to: &Path) -> Result<(), BackupError> {
        backup_file(&self.path(), to).await
    }
}

/// [`Db::backup`] for a file that another process may have open.
pub async fn backup_file(path: &Path, to: &Path) -> Result<(), BackupError> {
    if to.exists() {
        return Err(BackupError::Exists { to: to.into() });
    }
    copy(path, to).await
}

/// Puts a checked copy of the backup `from` in the place of the closed database `to`. Existing data is
/// kept beside it. The epoch is raised, so that agents and nodes can tell what the lost time promised.
pub async fn restore(from: &Path, to: &Path, force: bool) -> Result<Restored, RestoreError> {
    let _lock = open::lock(to).map_err(RestoreError::Refused)?;
    if !from.exists() {
        return Err(RestoreError::Missing { from: from.into() });
    }
    // A restore that was interrupted may already have moved the old data away.
    if to.exists() && !force {
        return Err(RestoreError::Exists { to: to.into() });
    }
    check(from).await?;
    let fresh = beside(to, "restore");
    copy(from, &fresh).await.map_err(RestoreError::Copy)?;
    raise_epoch(&fresh).await.map_err(RestoreError::Refused)?;
    put_in_place(&fresh, to).map_err(|source| RestoreError::Replace {
        to: to.into(),
        source,
    })
}

/// The name of a file that belongs to the database at `path`: `farrier.db` has `farrier.db.lock`.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

/// Where a checked copy waits for the moves that end a restore. While it is there, the database is not
/// opened: it may be the old one, or none.
pub(crate) fn ready_to_restore(path: &Path) -> PathBuf {
    beside(path, "restoring")
}

/// Copies a database, whatever is in its log, over `to`: all or nothing, and durable.
pub(crate) async fn copy(path: &Path, to: &Path) -> Result<(), BackupError> {
    let part = beside(to, "part");
    let written = write_copy(path, &part).await;
    if written.is_err() {
        // Half a copy is of no use; that it stays when even this fails harms nobody.
        let _ = fs::remove_file(&part);
        return written;
    }
    let into_place = || {
        File::open(&part)?.sync_all()?;
        fs::rename(&part, to)?;
        sync_folder(to)
    };
    into_place().map_err(|source| BackupError::Write {
        to: to.into(),
        source,
    })
}

async fn write_copy(path: &Path, part: &Path) -> Result<(), BackupError> {
    let write_failed = |source| BackupError::Write {
        to: part.into(),
        source,
    };
    match fs::remove_file(part) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(write_failed(e)),
        _ => {}
    }
    // SQLite fills an empty file that is there, and so the copy is private from its first byte.
    open::create_private(part).map_err(write_failed)?;
    let Some(target) = part.to_str() else {
        return Err(write_failed(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the name is not UTF-8",
        )));
    };
    let copy_failed = |e: sqlx::Error| BackupError::Copy {
        fault: classify(&e),
        source: Box::new(e),
    };
    let mut conn = open::connect(path).await.map_err(copy_failed)?;
    let done = sqlx::query("VACUUM INTO ?1")
        .bind(target)
        .execute(&mut conn)
        .await;
    let _ = conn.close().await;
    done.map(drop).map_err(copy_failed)
}

/// The whole content of a backup, every page and every reference.
async fn check(from: &Path) -> Result<(), RestoreError> {
    if open::inspect(from, false)
        .await
        .map_err(RestoreError::Refused)?
        == 0
    {
        return Err(RestoreError::Empty { from: from.into() });
    }
    let storage = |e| RestoreError::Refused(OpenError::storage(from)(e));
    let mut conn = open::connect(from).await.map_err(storage)?;
    open::check_structure(from, &mut conn, "PRAGMA integrity_check(1)")
        .await
        .map_err(RestoreError::Refused)?;
    let broken = sqlx::query("PRAGMA foreign_key_check")
        .fetch_optional(&mut conn)
        .await
        .map_err(storage)?;
    let _ = conn.close().await;
    match broken {
        None => Ok(()),
        Some(_) => Err(RestoreError::Inconsistent { from: from.into() }),
    }
}

async fn raise_epoch(path: &Path) -> Result<(), OpenError> {
    let mut conn = open::connect(path)
        .await
        .map_err(OpenError::storage(path))?;
    raise_epoch_on(&mut conn)
        .await
        .map_err(OpenError::storage(path))?;
    conn.close().await.map_err(OpenError::storage(path))
}

async fn raise_epoch_on(conn: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    conn.execute("PRAGMA synchronous = EXTRA").await?;
    sqlx::query("UPDATE value SET value = CAST(value AS INTEGER) + 1 WHERE key = ?1")
        .bind(site::EPOCH)
        .execute(conn)
        .await?;
    Ok(())
}

/// The moves that end a restore. An old log beside a new file would be taken for its log and destroy
/// it, so the old log leaves before the new file comes.
fn put_in_place(fresh: &Path, to: &Path) -> io::Result<Restored> {
    let ready = ready_to_restore(to);
    fs::rename(fresh, &ready)?;
    sync_folder(to)?;
    let replaced = beside(to, "replaced");
    let had_data = to.exists();
    if had_data {
        remove_if_there(&replaced)?;
        remove_if_there(&log_of(&replaced))?;
        fs::rename(to, &replaced)?;
    }
    if log_of(to).exists() {
        fs::rename(log_of(to), log_of(&replaced))?;
    }
    remove_if_there(&with_ending(to, "-shm"))?;
    sync_folder(to)?;
    fs::rename(&ready, to)?;
    sync_folder(to)?;
    Ok(Restored {
        replaced: had_data.then_some(replaced),
    })
}

fn log_of(path: &Path) -> PathBuf {
    with_ending(path, "-wal")
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn sync_folder(file: &Path) -> io::Result<()> {
    let folder = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}
