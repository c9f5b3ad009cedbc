//! Events of tasks: applied by the engine's rules, stored, told.

use std::sync::Arc;
use std::time::Duration;

use farrier_engine::WallTime;
use farrier_engine::model::{MachineId, TaskId};
use farrier_engine::task::{Event, Progress, Refused, State, Task, Then, Work, apply};
use farrier_engine::timeline::Entry;
use tokio::sync::watch;

use crate::core::{Core, new_id, now};
use crate::fleet::FleetError;
use crate::silences;

/// The event changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Fleet(#[from] FleetError),
}

/// A task that waits for its machine to boot.
#[must_use]
pub fn queued(machine: MachineId, work: Work, created_by: String, at: WallTime) -> Task {
    Task {
        id: TaskId(new_id()),
        machine,
        work,
        state: State::Queued,
        fence: 0,
        attempts: 0,
        max_attempts: ATTEMPTS,
        created: at,
        created_by,
        by_policy: false,
        expires: at + LIFETIME,
        heard: None,
        progress: Progress::default(),
        reason: None,
        ended: None,
        then: Then::LocalBoot,
        revision: 0,
    }
}

impl Core {
    /// Applies an event to an unfinished task and puts what happened on the machine's timeline.
    pub async fn apply(&self, task: TaskId, event: Event) -> Result<Arc<Task>, TaskError> {
        let changed = self
            .fleet
            .change_task(task, |task| {
                let applied = apply(task, event.clone(), now())?;
                Ok::<_, Refused>((applied.task, applied.said))
            })
            .await??;
        let (task, said) = changed;
        for text in said {
            self.note_entry(Entry::task(task.machine, now(), task.id, &text));
        }
        Ok(task)
    }
}

/// Watches the clock for all tasks: agents that fell silent, tasks nobody started in time.
pub async fn keep_time(core: Arc<Core>, mut stop: watch::Receiver<bool>) {
    let mut forgotten = tokio::time::Instant::now();
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            _ = stop.changed() => return,
        }
        for task in core.fleet.unfinished() {
            let Some(event) = overdue(&task) else {
                continue;
            };
            if let Err(error) = core.apply(task.id, event).await {
                tracing::debug!(task = %task.id, %error, "the clock's event did not fit");
            }
        }
        silences::tell(&core);
        if forgotten.elapsed() >= FORGET_EVERY {
            forgotten = tokio::time::Instant::now();
            forget(&core).await;
        }
    }
}

/// Takes out what lets nobody in any more. Anybody can ask for scripts, and each makes a token.
async fn forget(core: &Core) {
    let ago =
        |kept: Duration| WallTime(now().0 - i64::try_from(kept.as_millis()).unwrap_or(i64::MAX));
    let tokens = core.db.purge_boot_tokens(ago(TOKENS_KEPT)).await;
    let sessions = core.db.purge_agent_sessions(ago(SESSIONS_KEPT)).await;
    if let Err(error) = tokens.and(sessions) {
        tracing::debug!(%error, "old boot tokens and sessions are still there");
    }
}

fn overdue(task: &Task) -> Option<Event> {
    let silent = |heard| now().since(heard) > SILENT;
    match task.state {
        State::Running if silent(task.heard.unwrap_or(task.created)) => Some(Event::Silent),
        State::Queued | State::Lost if now() > task.expires => Some(Event::Expire),
        _ => None,
    }
}

/// A machine that fails three times wants a person.
const ATTEMPTS: u32 = 3;
/// A task ordered on Friday may wait for the machine until the Friday after.
const LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);
/// A used token still tells its key from a stranger while a person takes time to approve.
const TOKENS_KEPT: Duration = Duration::from_secs(2 * 3600);
/// Longer than an agent's certificate is valid.
const SESSIONS_KEPT: Duration = Duration::from_secs(48 * 3600);
const FORGET_EVERY: Duration = Duration::from_secs(300);
const EVERY: Duration = Duration::from_secs(5);
/// Agents report every second; a server restart or a pulled cable is bridged.
const SILENT: Duration = Duration::from_secs(60);
