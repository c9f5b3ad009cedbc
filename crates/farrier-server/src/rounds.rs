//! Machines that go in circles: how often the agent was started for a task, and how often a machine was deployed
//! to. What is decided by it is in [`farrier_engine::policy`].

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use farrier_db::{Db, DbError, TaskQuery};
use farrier_engine::WallTime;
use farrier_engine::model::{MachineId, TaskId};
use farrier_engine::policy::{AGENT_LIMIT, AGENT_WINDOW};
use farrier_engine::task::{State, Work};

use crate::core::Core;

/// Starts of the agent, for each task that has not ended. The database has them, too, so that a restart of the server
/// does not set a machine in a loop free.
#[derive(Debug, Default)]
pub struct Rounds(Mutex<HashMap<TaskId, VecDeque<WallTime>>>);

impl Rounds {
    /// Those of before a restart.
    pub async fn load(db: &Db, now: WallTime) -> Result<Self, DbError> {
        let rounds = Self::default();
        for (task, at) in db.agent_starts(now - AGENT_WINDOW).await? {
            rounds.began(task, at);
        }
        Ok(rounds)
    }

    fn began(&self, task: TaskId, now: WallTime) {
        let mut starts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if starts.len() >= MAX_TASKS && !starts.contains_key(&task) {
            starts.retain(|_, times| times.back().is_some_and(|at| now.since(*at) < AGENT_WINDOW));
        }
        if starts.len() >= MAX_TASKS && !starts.contains_key(&task) {
            return;
        }
        let times = starts.entry(task).or_default();
        times.push_back(now);
        if times.len() > AGENT_LIMIT {
            times.pop_front();
        }
    }

    /// When that was, lately.
    #[must_use]
    pub fn of(&self, task: TaskId) -> Vec<WallTime> {
        let starts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        starts.get(&task).into_iter().flatten().copied().collect()
    }

    fn forget(&self, task: TaskId) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&task);
    }
}

impl Core {
    /// The machine is told to start the agent for this task.
    pub async fn begin_round(&self, task: TaskId, now: WallTime) -> Result<(), DbError> {
        self.rounds.began(task, now);
        self.db
            .note_agent_start(task, now, now - AGENT_WINDOW)
            .await
    }

    /// Somebody gave the task a new attempt.
    pub async fn forget_rounds(&self, task: TaskId) {
        self.rounds.forget(task);
        if let Err(error) = self.db.forget_agent_starts(task).await {
            tracing::warn!(%error, "starts of the agent could not be forgotten");
        }
    }

    /// When this machine was deployed to of late, the newest first.
    pub async fn deployments(&self, machine: MachineId) -> Result<Vec<WallTime>, DbError> {
        let done = TaskQuery {
            machine: Some(machine),
            state: Some(State::Done),
            ..TaskQuery::default()
        };
        let tasks = self.db.tasks(&done, None, LOOK_BACK).await?;
        let deployed = tasks
            .iter()
            .filter(|task| matches!(task.work, Work::Deploy { .. }));
        Ok(deployed.filter_map(|task| task.ended).collect())
    }
}

/// More tasks than machines that boot at once.
const MAX_TASKS: usize = 16_384;
const LOOK_BACK: u32 = 20;

#[cfg(test)]
mod tests {
    use super::{MAX_TASKS, Rounds};
    use farrier_engine::WallTime;
    use farrier_engine::model::TaskId;
    use uuid::Uuid;

    #[test]
    fn t9_starts_are_kept_for_so_many_tasks_and_no_more() {
        let rounds = Rounds::default();
        for n in 0..MAX_TASKS as u128 + 9 {
            rounds.began(TaskId(Uuid::from_u128(n)), WallTime(0));
        }
        assert_eq!(rounds.0.lock().unwrap().len(), MAX_TASKS);
        let first = TaskId(Uuid::from_u128(0));
        for _ in 0..10 {
            rounds.began(first, WallTime(5));
        }
        assert_eq!(rounds.of(first), vec![WallTime(5); 3]);
        rounds.forget(first);
        assert!(rounds.of(first).is_empty());
    }
}
