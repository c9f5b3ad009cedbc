//! Waiting for tasks, with a bar for each on a terminal and a line per change elsewhere. A server that
//! restarts meanwhile is waited for, as the agents do.

use std::time::{Duration, Instant};

use farrier_api::admin::{TaskState, TaskSummary};
use farrier_api::client::{AdminClientError, Answer};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use uuid::Uuid;

use crate::connection::{Session, is_interactive};
use crate::exit::Failure;
use crate::output;
use crate::task::line;

/// Returns when all have ended, with a failure if one of them did not succeed.
pub(crate) async fn wait(session: &Session, tasks: &[Uuid]) -> anyhow::Result<()> {
    let bars = MultiProgress::new();
    let mut waiting: Vec<Waiting> = tasks.iter().map(|id| Waiting::new(*id, &bars)).collect();
    let mut failed = Vec::new();
    let mut away: Option<Instant> = None;
    let mut renewed = None;
    while !waiting.is_empty() {
        let mut next = Vec::new();
        for mut task in waiting {
            let asker = renewed.as_ref().unwrap_or(session);
            let answer: Answer<TaskSummary> =
                match asker.client.get(&["tasks", &task.id.to_string()]).await {
                    Err(AdminClientError::Refused { status: 401, .. }) if away.is_some() => {
                        renewed = Some(session.renewed()?);
                        away = None;
                        next.push(task);
                        continue;
                    }
                    Err(error) if error.may_retry() => {
                        patience(&mut away, error)?;
                        next.push(task);
                        continue;
                    }
                    other => other?,
                };
            away = None;
            let now = answer.read()?;
            task.note(&now);
            if !now.state.is_final() {
                next.push(task);
                continue;
            }
            task.bar.finish_and_clear();
            session.show(&answer, line)?;
            if now.state != TaskState::Done {
                failed.push(now);
            }
        }
        waiting = next;
        if !waiting.is_empty() {
            tokio::time::sleep(EVERY).await;
        }
    }
    let Some(first) = failed.first() else {
        return Ok(());
    };
    let message = match failed.len() {
        1 => format!("the task is {}", first.state.as_str()),
        many => format!("{many} of {} tasks did not succeed", tasks.len()),
    };
    let hint = format!(
        "see what happened: farrier machine timeline {}",
        first.machine
    );
    Err(Failure::task_failed(message).hint(hint).into())
}

/// Says once that the server is away, and gives up after a while.
fn patience(away: &mut Option<Instant>, error: AdminClientError) -> Result<(), AdminClientError> {
    match away {
        None => {
            output::talk(&format!("{error}; waiting for it"));
            *away = Some(Instant::now());
            Ok(())
        }
        Some(since) if since.elapsed() < PATIENCE => Ok(()),
        Some(_) => Err(error),
    }
}

struct Waiting {
    id: Uuid,
    bar: ProgressBar,
    said: Option<(TaskState, String)>,
}

impl Waiting {
    fn new(id: Uuid, bars: &MultiProgress) -> Self {
        Self {
            id,
            bar: bars.add(bar(0)),
            said: None,
        }
    }

    fn note(&mut self, task: &TaskSummary) {
        let state = (task.state, task.progress.phase.clone());
        if !is_interactive() && self.said.as_ref() != Some(&state) && !task.state.is_final() {
            output::talk(&format!("{}  {}", line(task), crate::task::progress(task)));
        }
        self.said = Some(state);
        self.bar.set_length(task.progress.total_bytes);
        self.bar.set_position(task.progress.done_bytes);
        let what = if task.state == TaskState::Running {
            &task.progress.phase
        } else {
            task.state.as_str()
        };
        self.bar
            .set_message(farrier_server::ui::text::shown(&format!(
                "{} {what}",
                task.machine_name
            )));
    }
}

/// A bar for bytes. It is drawn on terminals only.
pub(crate) fn bar(total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total);
    let style = ProgressStyle::with_template(
        "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}",
    );
    bar.set_style(
        style
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("=> "),
    );
    bar
}

const EVERY: Duration = Duration::from_secs(1);
/// Longer than a server takes to restart and check its store.
const PATIENCE: Duration = Duration::from_secs(300);
