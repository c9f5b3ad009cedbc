//! The door itself: opening, reading, writing, closing.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use sqlx::SqlitePool;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::{Mutex, oneshot};

use crate::lease_queue::LeaseQueue;
use crate::timeline::Pruner;
use crate::writer::{BoxFuture, Writer};
use crate::{DbError, OpenError, open};

/// The database. Cheap to clone; all clones share one writer and one set of readers.
#[derive(Clone)]
pub struct Db {
    writer: Writer,
    pub(crate) readers: SqlitePool,
    pub(crate) leases: LeaseQueue,
    pub(crate) pruner: Pruner,
    path: Arc<Path>,
    /// Told when the last write is done and the file is closed.
    ended: Arc<Mutex<oneshot::Receiver<()>>>,
}

/// How to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Read the whole file once and compare its structure before believing it. Costs about a second
    /// per gigabyte.
    pub check: bool,
    /// How long a read or write waits for another process that holds the database.
    pub busy_timeout: std::time::Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            check: true,
            busy_timeout: BUSY_TIMEOUT,
        }
    }
}

/// A value with the place it has in a growing list; pass `seq` as `before` to read on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored<T> {
    pub seq: u64,
    pub value: T,
}

impl Db {
    /// Opens the database file, or makes it. Brings an older schema up to date, after a backup beside
    /// the file. Only one process may have it open; a second one is refused.
    pub async fn open(path: &Path, options: Options) -> Result<Self, OpenError> {
        let opened = open::open(path, options).await?;
        let (writer, writing) = Writer::new(opened.writer, opened.lock);
        let (pruner, pruning) = Pruner::new(writer.clone());
        let (leases, storing) = LeaseQueue::new(writer.clone());
        let ended = on_a_thread(async { tokio::join!(writing, pruning, storing) })
            .map_err(sqlx::Error::Io)
            .map_err(OpenError::storage(path))?;
        Ok(Self {
            writer,
            readers: opened.readers,
            leases,
            pruner,
            path: path.into(),
            ended: Arc::new(Mutex::new(ended)),
        })
    }

    /// Waits until everything asked for is on the disk and the file is closed. Other clones that are
    /// still alive keep it open; this then waits for them.
    pub async fn close(self) {
        let Self {
            writer,
            readers,
            leases,
            pruner,
            path: _,
            ended,
        } = self;
        readers.close().await;
        drop((writer, leases, pruner));
        let mut ended = ended.lock().await;
        if !ended.is_terminated() && (&mut *ended).await.is_err() {
            tracing::error!("the thread of the database ended by a panic");
        }
    }

    /// The file it was opened from.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.path.to_path_buf()
    }

    /// Whether the last write failed for want of space, a disk or an open file. The next one that is stored ends it.
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.writer.is_away()
    }

    pub(crate) async fn write<T, F>(&self, work: F) -> Result<T, DbError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, DbError>>
            + Send
            + 'static,
    {
        self.writer.write(work).await
    }

    /// [`Self::write`] for work that is one statement.
    pub(crate) async fn write_statement<T, F>(&self, work: F) -> Result<T, DbError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, DbError>>
            + Send
            + 'static,
    {
        self.writer.write_statement(work).await
    }
}

/// Runs `work` on a thread of its own and tells when it is done.
///
/// What is stored goes through two tasks before SQLite's own thread has it, and on threads that are shared with all else
/// each of these turns may wake one more of them.
fn on_a_thread<T>(
    work: impl Future<Output = T> + Send + 'static,
) -> io::Result<oneshot::Receiver<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let (done, ended) = oneshot::channel();
    thread::Builder::new()
        .name("database".to_owned())
        .spawn(move || {
            runtime.block_on(work);
            // Nobody may wait for it.
            let _ = done.send(());
        })?;
    Ok(ended)
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Db")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// Longer than any write of ours; a foreign program that holds the file longer is a fault to show.
const BUSY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use sqlx::Executor;
    use sqlx::Row;

    use super::{Db, Options};
    use crate::DbError;

    /// R3: without these, a commit is a promise the disk does not keep.
    #[tokio::test]
    async fn r3_the_writer_flushes_every_commit() {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open(&folder.path().join("farrier.db"), Options::default())
            .await
            .unwrap();
        for (pragma, expected) in [
            ("SELECT journal_mode FROM pragma_journal_mode", "wal"),
            (
                "SELECT CAST(synchronous AS TEXT) FROM pragma_synchronous",
                "2",
            ),
            (
                "SELECT CAST(foreign_keys AS TEXT) FROM pragma_foreign_keys",
                "1",
            ),
            (
                "SELECT CAST(timeout AS TEXT) FROM pragma_busy_timeout",
                "5000",
            ),
        ] {
            let read = db.write(move |conn| {
                Box::pin(async move {
                    let row = conn
                        .fetch_one(pragma)
                        .await
                        .map_err(DbError::storage("ask"))?;
                    Ok(row.get::<String, _>(0))
                })
            });
            assert_eq!(read.await.unwrap(), expected, "{pragma}");
        }
    }

    #[tokio::test]
    async fn readers_cannot_write() {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open(&folder.path().join("farrier.db"), Options::default())
            .await
            .unwrap();
        let refused = db.readers.execute("DELETE FROM machine").await.unwrap_err();
        assert_eq!(crate::error::classify(&refused), crate::Fault::ReadOnly);
    }
}
