//! Tasks: durable state, changed only by who read the newest.

use farrier_engine::WallTime;
use farrier_engine::model::{MachineId, TaskId};
use farrier_engine::task::{State, Task};
use sqlx::sqlite::SqliteConnection;

use crate::column::{from_doc, signed, to_doc, to_name, unsigned};
use crate::{Db, DbError};

/// Which tasks a page shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskQuery {
    pub machine: Option<MachineId>,
    /// Of one of these.
    pub machines: Option<Vec<MachineId>>,
    pub state: Option<State>,
}

const WHAT: &str = "task";

type Row = (String, i64);

impl Db {
    /// Stores a new task and returns it with its revision, which is 1.
    pub async fn create_task(&self, task: &Task) -> Result<Task, DbError> {
        let task = Task {
            revision: 1,
            ..task.clone()
        };
        let (state, doc) = columns(&task)?;
        self.write(move |conn| {
            Box::pin(async move {
                let known: Option<(i64,)> = sqlx::query_as("SELECT 1 FROM task WHERE id = ?1")
                    .bind(task.id.0.as_bytes().as_slice())
                    .fetch_optional(&mut *conn)
                    .await
                    .map_err(DbError::storage("store the task"))?;
                if known.is_some() {
                    return Err(DbError::Taken {
                        what: WHAT,
                        id: task.id.to_string(),
                    });
                }
                sqlx::query(
                    "INSERT INTO task (id, machine, state, finished, expires, revision, doc)
                     VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6)",
                )
                .bind(task.id.0.as_bytes().as_slice())
                .bind(task.machine.0.as_bytes().as_slice())
                .bind(state)
                .bind(is_finished(task.state))
                .bind(task.expires.0)
                .bind(doc)
                .execute(conn)
                .await
                .map_err(DbError::missing(
                    "store the task",
                    "machine",
                    task.machine,
                ))?;
                Ok(task)
            })
        })
        .await
    }

    /// Stores a changed task that was read with the revision it still carries, and returns it with the
    /// next one. Refused when somebody else changed it in between. Its machine never changes.
    pub async fn update_task(&self, task: &Task) -> Result<Task, DbError> {
        let read = task.revision;
        let task = Task {
            revision: read.saturating_add(1),
            ..task.clone()
        };
        let (state, doc) = columns(&task)?;
        self.write(move |conn| {
            Box::pin(async move {
                let done = sqlx::query(
                    "UPDATE task SET state = ?2, finished = ?3, expires = ?4, revision = ?5, doc = ?6
                     WHERE id = ?1 AND revision = ?7 AND machine = ?8",
                )
                .bind(task.id.0.as_bytes().as_slice())
                .bind(state)
                .bind(is_finished(task.state))
                .bind(task.expires.0)
                .bind(signed(task.revision))
                .bind(doc)
                .bind(signed(read))
                .bind(task.machine.0.as_bytes().as_slice())
                .execute(&mut *conn)
                .await
                .map_err(DbError::storage("store the task"))?;
                if done.rows_affected() == 0 {
                    return Err(conflict_or_missing(conn, task.id).await);
                }
                Ok(task)
            })
        })
        .await
    }

    pub async fn task(&self, id: TaskId) -> Result<Option<Task>, DbError> {
        let row: Option<Row> = sqlx::query_as("SELECT doc, revision FROM task WHERE id = ?1")
            .bind(id.0.as_bytes().as_slice())
            .fetch_optional(&self.readers)
            .await
            .map_err(DbError::storage("read the task"))?;
        row.map(read).transpose()
    }

    /// Up to `limit` tasks, the newest first, those older than `before`.
    pub async fn tasks(
        &self,
        query: &TaskQuery,
        before: Option<TaskId>,
        limit: u32,
    ) -> Result<Vec<Task>, DbError> {
        let state = query.state.map(|state| to_name(WHAT, &state)).transpose()?;
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT doc, revision FROM task
             WHERE (?1 IS NULL OR machine = ?1) AND (?2 IS NULL OR state = ?2) AND (?3 IS NULL OR id < ?3)
                 AND (?5 IS NULL OR machine IN (SELECT unhex(value) FROM json_each(?5)))
             ORDER BY id DESC LIMIT ?4",
        )
        .bind(query.machine.as_ref().map(|id| id.0.as_bytes().as_slice()))
        .bind(state)
        .bind(before.as_ref().map(|id| id.0.as_bytes().as_slice()))
        .bind(limit)
        .bind(query.machines.as_deref().map(hex_list))
        .fetch_all(&self.readers)
        .await
        .map_err(DbError::storage("list the tasks"))?;
        rows.into_iter().map(read).collect()
    }

    /// The newest task of each of these machines that ever had one, in no order.
    pub async fn newest_tasks(&self, machines: &[MachineId]) -> Result<Vec<Task>, DbError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT doc, revision FROM task WHERE id IN
                 (SELECT (SELECT max(id) FROM task WHERE machine = unhex(value)) FROM json_each(?1))",
        )
        .bind(hex_list(machines))
        .fetch_all(&self.readers)
        .await
        .map_err(DbError::storage("read the newest tasks"))?;
        rows.into_iter().map(read).collect()
    }

    /// The tasks a machine should work on now, the oldest first: queued, running or lost. One that was
    /// never started is due until it expires; one that an agent holds stays due beyond that.
    pub async fn tasks_due(&self, machine: MachineId, now: WallTime) -> Result<Vec<Task>, DbError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT doc, revision FROM task
             WHERE machine = ?1 AND finished = 0 AND (expires > ?2 OR state = ?3) ORDER BY id",
        )
        .bind(machine.0.as_bytes().as_slice())
        .bind(now.0)
        .bind(to_name(WHAT, &State::Running)?)
        .fetch_all(&self.readers)
        .await
        .map_err(DbError::storage("read the tasks that are due"))?;
        rows.into_iter().map(read).collect()
    }

    /// Every task without an end, the oldest first: what the server takes up again at its start.
    pub async fn unfinished_tasks(&self) -> Result<Vec<Task>, DbError> {
        let rows: Vec<Row> =
            sqlx::query_as("SELECT doc, revision FROM task WHERE finished = 0 ORDER BY id")
                .fetch_all(&self.readers)
                .await
                .map_err(DbError::storage("read the unfinished tasks"))?;
        rows.into_iter().map(read).collect()
    }
}

/// An exhaustive match, so that a new state has to be thought of here.
fn is_finished(state: State) -> bool {
    match state {
        State::Queued | State::Running | State::Lost => false,
        State::Done | State::Failed | State::Cancelled | State::Expired => true,
    }
}

fn columns(task: &Task) -> Result<(String, String), DbError> {
    Ok((to_name(WHAT, &task.state)?, to_doc(WHAT, task)?))
}

async fn conflict_or_missing(conn: &mut SqliteConnection, id: TaskId) -> DbError {
    let row: Result<Option<(i64,)>, _> = sqlx::query_as("SELECT revision FROM task WHERE id = ?1")
        .bind(id.0.as_bytes().as_slice())
        .fetch_optional(conn)
        .await;
    match row {
        Ok(Some(_)) => DbError::Conflict {
            what: WHAT,
            id: id.to_string(),
        },
        Ok(None) => DbError::Missing {
            what: WHAT,
            id: id.to_string(),
        },
        Err(e) => DbError::storage("read the task")(e),
    }
}

fn read((doc, revision): Row) -> Result<Task, DbError> {
    let task: Task = from_doc(WHAT, &doc)?;
    Ok(Task {
        revision: unsigned(WHAT, revision)?,
        ..task
    })
}

/// Ids as one bound value: a list of them in the text of the query would be another query for each length.
fn hex_list(machines: &[MachineId]) -> String {
    let ids: Vec<String> = machines
        .iter()
        .map(|id| format!("\"{}\"", id.0.simple()))
        .collect();
    format!("[{}]", ids.join(","))
}
