//! The timeline: appended in batches, read newest first, bounded per machine.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use farrier_engine::model::MachineId;
use farrier_engine::timeline::Entry;
use sqlx::sqlite::SqliteConnection;
use sqlx::{QueryBuilder, Sqlite};
use tokio::sync::mpsc;

use crate::column::{from_doc, signed, to_doc, unsigned};
use crate::writer::Writer;
use crate::{Db, DbError, Stored};

const WHAT: &str = "timeline entry";

type Row = (i64, String);

impl Db {
    /// How many entries of a machine are kept at least; a few more may be there.
    pub const TIMELINE_KEPT: u32 = 2000;

    /// Appends entries in their order and returns how many were stored: those of machines that are
    /// deleted meanwhile are left out.
    pub async fn append_timeline(&self, entries: &[Entry]) -> Result<u64, DbError> {
        let mut rows = Vec::with_capacity(entries.len());
        for entry in entries {
            rows.push((entry.machine, to_doc(WHAT, entry)?));
        }
        let stored = self
            .write(move |conn| {
                Box::pin(async move {
                    let mut stored = 0;
                    let mut rows = rows.as_slice();
                    while !rows.is_empty() {
                        let (some, rest) = rows.split_at(rows.len().min(rows_at_once(rows.len())));
                        stored += insert(&mut *conn, some).await?;
                        rows = rest;
                    }
                    Ok(stored)
                })
            })
            .await?;
        self.pruner.appended(entries);
        Ok(stored)
    }

    /// Up to `limit` entries of a machine, the newest first, those before the place `before`.
    pub async fn timeline(
        &self,
        machine: MachineId,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<Stored<Entry>>, DbError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT seq, doc FROM timeline WHERE machine = ?1 AND seq < ?2 ORDER BY seq DESC LIMIT ?3",
        )
        .bind(machine.0.as_bytes().as_slice())
        .bind(before.map_or(i64::MAX, signed))
        .bind(limit)
        .fetch_all(&self.readers)
        .await
        .map_err(DbError::storage("read the timeline"))?;
        rows.into_iter().map(read).collect()
    }

    /// Up to `limit` entries of all machines, the newest first, those before the place `before`.
    pub async fn latest_timeline(
        &self,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<Stored<Entry>>, DbError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT seq, doc FROM timeline WHERE seq < ?1 ORDER BY seq DESC LIMIT ?2",
        )
        .bind(before.map_or(i64::MAX, signed))
        .bind(limit)
        .fetch_all(&self.readers)
        .await
        .map_err(DbError::storage("read the timeline"))?;
        rows.into_iter().map(read).collect()
    }
}

/// Few different numbers of rows, since each is a statement of its own in the connection's cache.
fn rows_at_once(waiting: usize) -> usize {
    match waiting {
        64.. => 64,
        8.. => 8,
        _ => 1,
    }
}

/// Stores the entries of machines that are there; returns how many.
async fn insert(conn: &mut SqliteConnection, rows: &[(MachineId, String)]) -> Result<u64, DbError> {
    let mut query = QueryBuilder::<Sqlite>::new(
        "INSERT INTO timeline (machine, doc) SELECT column1, column2 FROM (",
    );
    query.push_values(rows, |mut row, (machine, doc)| {
        row.push_bind(machine.0.as_bytes().to_vec())
            .push_bind(doc.as_str());
    });
    query.push(") WHERE column1 IN (SELECT id FROM machine)");
    let done = query.build().execute(conn).await;
    Ok(done
        .map_err(DbError::storage("store the timeline"))?
        .rows_affected())
}

fn read((seq, doc): Row) -> Result<Stored<Entry>, DbError> {
    Ok(Stored {
        seq: unsigned(WHAT, seq)?,
        value: from_doc(WHAT, &doc)?,
    })
}

/// Shortens timelines behind the back of those who append to them.
#[derive(Clone, Debug)]
pub(crate) struct Pruner {
    appended: mpsc::Sender<Vec<MachineId>>,
}

impl Pruner {
    /// The pruner and its work, which is for the caller to run.
    pub(crate) fn new(writer: Writer) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (appended, batches) = mpsc::channel(QUEUE);
        (Self { appended }, run(writer, batches))
    }

    /// Never waits: what is lost here under overload is made up for by the next entries.
    fn appended(&self, entries: &[Entry]) {
        let _ = self
            .appended
            .try_send(entries.iter().map(|entry| entry.machine).collect());
    }
}

async fn run(writer: Writer, mut batches: mpsc::Receiver<Vec<MachineId>>) {
    let mut since_pruned: HashMap<MachineId, u32> = HashMap::new();
    // How much the last run left over is unknown, and to look at each machine once after a start would cost as much
    // as all its entries. So counting starts somewhere else for each machine and each start: it is looked at
    // once in so many entries, however short the runs are.
    let start = RandomState::new();
    while let Some(batch) = batches.recv().await {
        for machine in batch {
            let count = since_pruned
                .entry(machine)
                .or_insert_with(|| (start.hash_one(machine) % u64::from(PRUNE_EVERY)) as u32);
            *count += 1;
            if *count < PRUNE_EVERY {
                continue;
            }
            *count = 0;
            if let Err(e) = prune(&writer, machine).await {
                tracing::warn!(%machine, error = %e, "could not shorten the timeline; it is tried again later");
            }
        }
        if since_pruned.len() > TRACKED {
            since_pruned.clear();
        }
    }
}

async fn prune(writer: &Writer, machine: MachineId) -> Result<(), DbError> {
    writer
        .write(move |conn| {
            Box::pin(async move {
                sqlx::query(
                    "DELETE FROM timeline WHERE machine = ?1 AND seq <= (
                         SELECT seq FROM timeline WHERE machine = ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?2)",
                )
                .bind(machine.0.as_bytes().as_slice())
                .bind(Db::TIMELINE_KEPT)
                .execute(conn)
                .await
                .map_err(DbError::storage("shorten the timeline"))?;
                Ok(())
            })
        })
        .await
}

/// How many entries of one machine are appended between two prunings.
const PRUNE_EVERY: u32 = 128;

/// How many machines are counted at most; beyond, counting starts anew for all.
const TRACKED: usize = 100_000;

/// Batches that may wait for the pruner.
const QUEUE: usize = 1024;
