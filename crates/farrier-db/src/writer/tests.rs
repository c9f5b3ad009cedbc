use std::sync::{Arc, Mutex};

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection, Executor};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{BoxFuture, Writer};
use crate::{DbError, Fault};

/// A writer over an empty table `t (n UNIQUE, fill)`.
async fn writer(folder: &tempfile::TempDir) -> Writer {
    let mut conn = SqliteConnectOptions::new()
        .filename(folder.path().join("t.db"))
        .create_if_missing(true)
        .connect()
        .await
        .unwrap();
    conn.execute("PRAGMA journal_mode = WAL").await.unwrap();
    conn.execute("CREATE TABLE t (n INTEGER UNIQUE, fill BLOB)")
        .await
        .unwrap();
    let (writer, work) = Writer::new(conn, ());
    tokio::spawn(work);
    writer
}

async fn insert(writer: &Writer, n: i64, fill: i64) -> Result<i64, DbError> {
    writer.write(move |conn| insert_on(conn, n, fill)).await
}

fn insert_on(
    conn: &mut SqliteConnection,
    n: i64,
    fill: i64,
) -> BoxFuture<'_, Result<i64, DbError>> {
    Box::pin(async move {
        sqlx::query("INSERT INTO t VALUES (?1, zeroblob(?2))")
            .bind(n)
            .bind(fill)
            .execute(conn)
            .await
            .map_err(DbError::taken("insert", "number", n))?;
        Ok(n)
    })
}

async fn numbers(folder: &tempfile::TempDir) -> Vec<i64> {
    let mut conn = SqliteConnectOptions::new()
        .filename(folder.path().join("t.db"))
        .connect()
        .await
        .unwrap();
    let rows: Vec<(i64,)> = sqlx::query_as("SELECT n FROM t ORDER BY n")
        .fetch_all(&mut conn)
        .await
        .unwrap();
    conn.close().await.unwrap();
    rows.into_iter().map(|(n,)| n).collect()
}

/// Keeps the writer busy until the sender is used, so that what is asked for meanwhile gathers.
async fn hold(writer: &Writer) -> oneshot::Sender<()> {
    let (started, is_started) = oneshot::channel();
    let (release, released) = oneshot::channel::<()>();
    let writer = writer.clone();
    tokio::spawn(async move {
        let held = writer.write(|_| {
            Box::pin(async move {
                started.send(()).unwrap();
                let _ = released.await;
                Ok(())
            })
        });
        held.await
    });
    is_started.await.unwrap();
    release
}

async fn gather(writer: &Writer, requests: &[(i64, i64)]) -> Vec<Result<i64, DbError>> {
    gather_with(writer, requests, |writer, n, fill| {
        tokio::spawn(async move { writer.write(move |conn| insert_on(conn, n, fill)).await })
    })
    .await
}

async fn gather_statements(writer: &Writer, requests: &[(i64, i64)]) -> Vec<Result<i64, DbError>> {
    gather_with(writer, requests, |writer, n, fill| {
        tokio::spawn(async move {
            writer
                .write_statement(move |conn| insert_on(conn, n, fill))
                .await
        })
    })
    .await
}

async fn gather_with(
    writer: &Writer,
    requests: &[(i64, i64)],
    ask: impl Fn(Writer, i64, i64) -> JoinHandle<Result<i64, DbError>>,
) -> Vec<Result<i64, DbError>> {
    let release = hold(writer).await;
    let waiting: Vec<_> = requests
        .iter()
        .map(|&(n, fill)| ask(writer.clone(), n, fill))
        .collect();
    tokio::task::yield_now().await;
    release.send(()).unwrap();
    let mut results = Vec::new();
    for request in waiting {
        results.push(request.await.unwrap());
    }
    results
}

#[tokio::test]
async fn what_gathers_is_committed_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let writer = writer(&folder).await;
    let events = Arc::new(Mutex::new(Vec::new()));
    let release = hold(&writer).await;
    let waiting: Vec<_> = (0..64)
        .map(|_| {
            let (writer, events) = (writer.clone(), events.clone());
            tokio::spawn(async move {
                let ran = events.clone();
                let work = writer.write(move |_| {
                    ran.lock().unwrap().push("ran");
                    Box::pin(async { Ok(()) })
                });
                work.await.unwrap();
                events.lock().unwrap().push("told");
            })
        })
        .collect();
    tokio::task::yield_now().await;
    release.send(()).unwrap();
    for request in waiting {
        request.await.unwrap();
    }
    let events = events.lock().unwrap();
    assert_eq!(events.len(), 128);
    assert!(
        events[..64].iter().all(|event| *event == "ran"),
        "a caller was told before the batch was through"
    );
}

#[tokio::test]
async fn a_failing_request_leaves_the_rest_of_its_batch() {
    let folder = tempfile::tempdir().unwrap();
    let writer = writer(&folder).await;
    insert(&writer, 5, 0).await.unwrap();
    let results = gather(&writer, &[(1, 0), (5, 0), (2, 0)]).await;
    assert!(
        matches!(
            results.as_slice(),
            [Ok(1), Err(DbError::Taken { .. }), Ok(2)]
        ),
        "{results:?}"
    );
    assert_eq!(numbers(&folder).await, [1, 2, 5]);
}

#[tokio::test]
async fn a_failing_statement_leaves_the_rest_of_its_batch() {
    let folder = tempfile::tempdir().unwrap();
    let writer = writer(&folder).await;
    insert(&writer, 5, 0).await.unwrap();
    let results = gather_statements(&writer, &[(1, 0), (5, 0), (2, 0)]).await;
    assert!(
        matches!(
            results.as_slice(),
            [Ok(1), Err(DbError::Taken { .. }), Ok(2)]
        ),
        "{results:?}"
    );
    assert_eq!(numbers(&folder).await, [1, 2, 5]);
}

/// R4, without savepoints to tell whether the transaction is still there.
#[tokio::test]
async fn r4_a_transaction_lost_by_a_statement_is_told_to_everybody_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let writer = writer(&folder).await;
    insert(&writer, 100, 0).await.unwrap();
    set_page_limit(&writer, "PRAGMA max_page_count = 8").await;
    let results = gather_statements(&writer, &[(1, 0), (2, 1 << 20), (3, 0)]).await;
    assert!(
        results
            .iter()
            .all(|r| r.as_ref().is_err_and(|e| e.fault() == Some(Fault::Full))),
        "{results:?}"
    );
    assert_eq!(numbers(&folder).await, [100]);
    insert(&writer, 200, 0).await.unwrap();
    assert_eq!(numbers(&folder).await, [100, 200]);
}

#[tokio::test]
async fn a_request_that_fails_half_way_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let writer = writer(&folder).await;
    let half = |writer: Writer| async move {
        let work = writer.write(|conn| {
            Box::pin(async move {
                conn.execute("INSERT INTO t VALUES (9, NULL)")
                    .await
                    .map_err(DbError::storage("insert"))?;
                Err::<(), _>(DbError::LastAdmin)
            })
        });
        work.await
    };
    assert!(matches!(
        half(writer.clone()).await,
        Err(DbError::LastAdmin)
    ));
    let release = hold(&writer).await;
    let (failing, other) = (tokio::spawn(half(writer.clone())), writer.clone());
    let other = tokio::spawn(async move { insert(&other, 1, 0).await });
    tokio::task::yield_now().await;
    release.send(()).unwrap();
    assert!(matches!(failing.await.unwrap(), Err(DbError::LastAdmin)));
    assert!(other.await.unwrap().is_ok());
    assert_eq!(numbers(&folder).await, [1]);
}

/// R4: SQLite ends a transaction by itself when the disk is full; nobody may then be told "stored",
/// and no request may run outside a transaction.
#[tokio::test]
async fn r4_a_lost_transaction_is_told_to_everybody_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let writer = writer(&folder).await;
    insert(&writer, 100, 0).await.unwrap();
    set_page_limit(&writer, "PRAGMA max_page_count = 8").await;
    let results = gather(&writer, &[(1, 0), (2, 1 << 20), (3, 0)]).await;
    assert!(
        matches!(&results[1], Err(e) if e.fault() == Some(Fault::Full) && e.retry_helps()),
        "{results:?}"
    );
    let mut told: Vec<i64> = results.into_iter().flatten().collect();
    told.push(100);
    assert_eq!(numbers(&folder).await, told);

    set_page_limit(&writer, "PRAGMA max_page_count = 100000").await;
    insert(&writer, 200, 1 << 20).await.unwrap();
    assert!(numbers(&folder).await.contains(&200));
}

async fn set_page_limit(writer: &Writer, pragma: &'static str) {
    let work = writer.write(move |conn| {
        Box::pin(async move {
            conn.execute(pragma)
                .await
                .map(drop)
                .map_err(DbError::storage("limit"))
        })
    });
    work.await.unwrap();
}

#[tokio::test]
async fn a_caller_that_stops_waiting_undoes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let writer = writer(&folder).await;
    let release = hold(&writer).await;
    let caller = tokio::spawn({
        let writer = writer.clone();
        async move { insert(&writer, 1, 0).await }
    });
    tokio::task::yield_now().await;
    caller.abort();
    release.send(()).unwrap();
    insert(&writer, 2, 0).await.unwrap();
    assert_eq!(numbers(&folder).await, [1, 2]);
}
