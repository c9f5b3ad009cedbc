//! Group commit: one task owns the only writing connection and commits everything that waits at once.
//!
//! While one commit waits for the disk, the requests of all callers gather; the next transaction takes
//! them together and pays for one flush. Each request sits in a savepoint of its own, so that a failing
//! one takes nothing with it. Callers learn their result only after the COMMIT that holds their write.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection, Executor};
use tokio::sync::{mpsc, oneshot};

use crate::{DbError, Fault};

pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// How many requests one transaction takes. More gain nothing (the flush is spread thin by then) and
/// would keep the first caller waiting.
const MAX_BATCH: usize = 256;

/// How many requests may wait before callers have to: bounds memory under overload.
const QUEUE: usize = 1024;

/// Where writes are handed in. The writer ends when the last copy is gone.
#[derive(Clone, Debug)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Box<dyn Job>>,
    /// The last write failed, and for no fault of its own.
    away: Arc<AtomicBool>,
}

impl Writer {
    /// The writer and its work, which is for the caller to run. `hold` is kept until the connection is closed.
    pub(crate) fn new<H: Send + 'static>(
        conn: SqliteConnection,
        hold: H,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let work = async move {
            run(conn, jobs).await;
            drop(hold);
        };
        let away = Arc::default();
        (Self { queue, away }, work)
    }

    /// Runs `work` in a transaction and returns after its commit. `work` never runs twice.
    pub(crate) async fn write<T, F>(&self, work: F) -> Result<T, DbError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, DbError>>
            + Send
            + 'static,
    {
        self.queue(Undo::Savepoint, work).await
    }

    /// [`Self::write`] for work that is one statement, which SQLite undoes by itself when it breaks a
    /// rule of the schema. It saves the savepoint, and with it half the time of a lease.
    pub(crate) async fn write_statement<T, F>(&self, work: F) -> Result<T, DbError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, DbError>>
            + Send
            + 'static,
    {
        self.queue(Undo::Statement, work).await
    }

    async fn queue<T, F>(&self, undo: Undo, work: F) -> Result<T, DbError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, DbError>>
            + Send
            + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let request = Request {
            undo,
            work: Some(work),
            result: None,
            reply,
        };
        let result = match self.queue.send(Box::new(request)).await {
            Ok(()) => answer.await.unwrap_or(Err(DbError::Closed)),
            Err(_) => Err(DbError::Closed),
        };
        match &result {
            Ok(_) => self.away.store(false, Ordering::Relaxed),
            Err(error) if error.is_away() => self.away.store(true, Ordering::Relaxed),
            Err(_) => {}
        }
        result
    }

    pub(crate) fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }
}

/// What takes a failing request out of its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Undo {
    Savepoint,
    Statement,
}

/// A request with the type of its result hidden, so that one queue holds all kinds.
trait Job: Send {
    fn undo(&self) -> Undo;

    /// Does the work; an error says that it must not stay in the transaction.
    fn run<'a>(&'a mut self, conn: &'a mut SqliteConnection) -> BoxFuture<'a, Result<(), DbError>>;

    /// Tells the caller. A request that failed by itself reports its own error in any case.
    fn finish(self: Box<Self>, outcome: Result<(), DbError>);
}

struct Request<T, F> {
    undo: Undo,
    work: Option<F>,
    result: Option<Result<T, DbError>>,
    reply: oneshot::Sender<Result<T, DbError>>,
}

impl<T, F> Job for Request<T, F>
where
    T: Send,
    F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, DbError>> + Send,
{
    fn undo(&self) -> Undo {
        self.undo
    }

    fn run<'a>(&'a mut self, conn: &'a mut SqliteConnection) -> BoxFuture<'a, Result<(), DbError>> {
        Box::pin(async move {
            let Some(work) = self.work.take() else {
                return Err(DbError::Closed);
            };
            let result = work(conn).await;
            let ran = result.as_ref().map(drop).map_err(DbError::clone);
            self.result = Some(result);
            ran
        })
    }

    fn finish(self: Box<Self>, outcome: Result<(), DbError>) {
        let result = match (self.result, outcome) {
            (Some(Err(own)), _) => Err(own),
            (_, Err(lost)) => Err(lost),
            (Some(done), Ok(())) => done,
            (None, Ok(())) => Err(DbError::Closed),
        };
        // A caller that stopped waiting does not undo what it asked for.
        let _ = self.reply.send(result);
    }
}

async fn run(mut conn: SqliteConnection, mut jobs: mpsc::Receiver<Box<dyn Job>>) {
    while let Some(first) = jobs.recv().await {
        let mut batch = vec![first];
        while batch.len() < MAX_BATCH
            && let Ok(job) = jobs.try_recv()
        {
            batch.push(job);
        }
        commit_batch(&mut conn, batch).await;
    }
    if let Err(e) = conn.close().await {
        tracing::warn!(error = %e, "could not close the database cleanly; it recovers at the next start");
    }
}

async fn commit_batch(conn: &mut SqliteConnection, mut batch: Vec<Box<dyn Job>>) {
    let outcome = transact(conn, &mut batch).await;
    if outcome.is_err() {
        // SQLite may have ended the transaction itself; then there is nothing to roll back.
        let _ = conn.execute("ROLLBACK").await;
    }
    for job in batch {
        job.finish(outcome.clone());
    }
}

/// One transaction over all requests. An error means that it is lost as a whole.
async fn transact(conn: &mut SqliteConnection, batch: &mut [Box<dyn Job>]) -> Result<(), DbError> {
    if let [only] = batch
        && only.undo() == Undo::Statement
    {
        // A statement outside of a transaction is one by itself. The request tells its own error.
        let _ = only.run(conn).await;
        return Ok(());
    }
    execute(conn, "BEGIN IMMEDIATE").await?;
    if let [only] = batch {
        // Alone, the transaction is the savepoint. The request tells its own error.
        let end = match only.run(conn).await {
            Ok(()) => "COMMIT",
            Err(_) => "ROLLBACK",
        };
        return execute(conn, end).await;
    }
    for job in batch {
        match job.undo() {
            Undo::Savepoint => run_in_savepoint(conn, job.as_mut()).await?,
            Undo::Statement => run_statement(conn, job.as_mut()).await?,
        }
    }
    execute(conn, "COMMIT").await
}

async fn run_in_savepoint(conn: &mut SqliteConnection, job: &mut dyn Job) -> Result<(), DbError> {
    execute(conn, "SAVEPOINT request").await?;
    if job.run(conn).await.is_err() {
        // Fails when a full disk or a failing one made SQLite end the transaction: then all is lost.
        execute(conn, "ROLLBACK TO request").await?;
    }
    execute(conn, "RELEASE request").await
}

/// Whether SQLite ended the transaction cannot be asked afterwards. The errors it may do that for
/// (<https://sqlite.org/lang_transaction.html> 3.1) therefore count as the end of it.
async fn run_statement(conn: &mut SqliteConnection, job: &mut dyn Job) -> Result<(), DbError> {
    match job.run(conn).await {
        Err(e) if matches!(e.fault(), Some(Fault::Busy | Fault::Full | Fault::Io)) => Err(e),
        _ => Ok(()),
    }
}

async fn execute(conn: &mut SqliteConnection, statement: &'static str) -> Result<(), DbError> {
    match conn.execute(statement).await {
        Ok(_) => Ok(()),
        Err(e) => Err(DbError::storage("write to the database")(e)),
    }
}

#[cfg(test)]
mod tests;
