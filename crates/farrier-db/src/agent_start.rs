//! When machines were told to start the agent for a task.

use farrier_engine::WallTime;
use farrier_engine::model::TaskId;

use crate::column::{time, uuid};
use crate::{Db, DbError};

impl Db {
    /// Stores one start, and forgets all of before `oldest`, which keeps the table small.
    pub async fn note_agent_start(
        &self,
        task: TaskId,
        at: WallTime,
        oldest: WallTime,
    ) -> Result<(), DbError> {
        self.write(move |conn| {
            Box::pin(async move {
                sqlx::query("DELETE FROM agent_start WHERE at < ?1")
                    .bind(oldest.0)
                    .execute(&mut *conn)
                    .await
                    .map_err(DbError::storage("forget old starts of the agent"))?;
                sqlx::query("INSERT INTO agent_start (task, at) VALUES (?1, ?2)")
                    .bind(task.0.as_bytes().as_slice())
                    .bind(at.0)
                    .execute(conn)
                    .await
                    .map_err(DbError::missing("store a start of the agent", "task", task))?;
                Ok(())
            })
        })
        .await
    }

    /// Forgets the starts for one task.
    pub async fn forget_agent_starts(&self, task: TaskId) -> Result<(), DbError> {
        self.write(move |conn| {
            Box::pin(async move {
                sqlx::query("DELETE FROM agent_start WHERE task = ?1")
                    .bind(task.0.as_bytes().as_slice())
                    .execute(conn)
                    .await
                    .map_err(DbError::storage("forget starts of the agent"))?;
                Ok(())
            })
        })
        .await
    }

    /// All since then, the oldest first.
    pub async fn agent_starts(&self, since: WallTime) -> Result<Vec<(TaskId, WallTime)>, DbError> {
        const SELECT: &str = "SELECT task, at FROM agent_start WHERE at >= ?1 ORDER BY at LIMIT ?2";
        let rows: Vec<(Vec<u8>, i64)> = sqlx::query_as(SELECT)
            .bind(since.0)
            .bind(MAX_STARTS)
            .fetch_all(&self.readers)
            .await
            .map_err(DbError::storage("read starts of the agent"))?;
        let start = |(task, at): (Vec<u8>, i64)| Ok((TaskId(uuid("task", &task)?), time(at)));
        rows.into_iter().map(start).collect()
    }
}

/// More than machines that boot within half an hour.
const MAX_STARTS: i64 = 100_000;
