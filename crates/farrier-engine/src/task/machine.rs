//! The life of a task: which event is allowed in which state, and what it does.
//!
//! ```text
//!            claim                  finished
//! Queued ------------> Running ----------------> Done | Failed
//!   ^  ^                |   ^ \
//!   |  '-- failed, may  |   |  '- claim (booted again): next attempt
//!   |      try again ---'   |
//!   |                silent |  resume, progress
//!   '------- retry ------- Lost
//! ```
//! Cancel ends any of them; what is queued or lost expires. What has ended never starts again.

use super::{Progress, State, Task};
use crate::WallTime;

/// Something that happens to a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An enrolled agent of the machine asks for its work.
    Claim,
    /// The agent tells how far it is.
    Progress {
        fence: u64,
        progress: Progress,
    },
    Finished {
        fence: u64,
        outcome: Outcome,
    },
    /// The agent was not heard for too long.
    Silent,
    /// The agent that held it is back and goes on.
    Resume {
        fence: u64,
    },
    Cancel {
        by: String,
    },
    /// The time to start it is over.
    Expire,
    /// A person puts it back to the queue.
    Retry {
        by: String,
    },
}

/// How the agent ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    Failed {
        reason: String,
        /// Trying again can help: the network broke, rather than the disk was too small.
        may_retry: bool,
    },
}

/// The task after the event, and what to tell on the machine's timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    pub task: Task,
    pub said: Vec<String>,
}

/// The event does not fit. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the task has ended: create a new one")]
    Ended,
    #[error("the task was started anew since: leave it and ask for work again")]
    StaleFence,
    #[error("the task is not running")]
    NotRunning,
    #[error("the task has not expired yet")]
    NotExpired,
    #[error("the task is in the queue already")]
    Queued,
}

impl State {
    /// Whether nothing can happen any more.
    #[must_use]
    pub fn is_ended(self) -> bool {
        matches!(
            self,
            Self::Done | Self::Failed | Self::Cancelled | Self::Expired
        )
    }
}

impl Task {
    /// Whether the machine should start the agent for it now.
    #[must_use]
    pub fn is_due(&self, now: WallTime) -> bool {
        match self.state {
            State::Queued => now < self.expires,
            // It was at work and boots again: the work goes on, however late.
            State::Running | State::Lost => true,
            State::Done | State::Failed | State::Cancelled | State::Expired => false,
        }
    }
}

/// Applies one event. A claim can also end the task (its time is over, or it was started too
/// often): only a task that is [`State::Running`] afterwards may be handed to the agent. The revision
/// is left as it was read; storing raises it.
///
/// # Errors
///
/// When the event does not fit the state, or its fence is not the task's.
pub fn apply(task: &Task, event: Event, now: WallTime) -> Result<Applied, Refused> {
    if task.state.is_ended() {
        return Err(Refused::Ended);
    }
    let mut next = task.clone();
    let said = match event {
        Event::Claim => claim(&mut next, now),
        Event::Progress { fence, progress } => {
            let said = hear(&mut next, fence, now)?;
            next.progress = progress;
            said
        }
        Event::Finished { fence, outcome } => {
            hear(&mut next, fence, now)?;
            finish(&mut next, outcome, now)
        }
        Event::Silent if task.state == State::Running => {
            next.state = State::Lost;
            vec![wait(
                &mut next,
                "The agent has gone silent; the task goes on when it comes back.",
            )]
        }
        Event::Silent => return Err(Refused::NotRunning),
        Event::Resume { fence } => hear(&mut next, fence, now)?,
        Event::Cancel { by } => vec![end(
            &mut next,
            State::Cancelled,
            format!("{by} cancelled the task."),
            now,
        )],
        Event::Expire => match task.state {
            State::Queued | State::Lost if now >= task.expires => vec![expire(&mut next, now)],
            _ => return Err(Refused::NotExpired),
        },
        Event::Retry { by } => match task.state {
            State::Queued => return Err(Refused::Queued),
            _ => {
                next.state = State::Queued;
                // The agent that may still be at work must not report on the next attempt.
                next.fence += 1;
                vec![wait(
                    &mut next,
                    &format!("{by} put the task back to the queue."),
                )]
            }
        },
    };
    Ok(Applied { task: next, said })
}

fn claim(task: &mut Task, now: WallTime) -> Vec<String> {
    if now >= task.expires {
        return vec![expire(task, now)];
    }
    if task.attempts >= task.max_attempts {
        let words = format!(
            "The task was started {} times and did not finish.",
            task.attempts
        );
        return vec![end(task, State::Failed, words, now)];
    }
    task.attempts += 1;
    task.fence += 1;
    task.state = State::Running;
    task.heard = Some(now);
    task.progress = Progress::default();
    task.reason = None;
    vec![format!(
        "The task starts, attempt {} of {}.",
        task.attempts, task.max_attempts
    )]
}

/// Notes a sign of life of the agent that holds the task.
fn hear(task: &mut Task, fence: u64, now: WallTime) -> Result<Vec<String>, Refused> {
    if fence != task.fence {
        return Err(Refused::StaleFence);
    }
    let said = match task.state {
        State::Running => Vec::new(),
        State::Lost => vec!["The agent is back and goes on.".to_owned()],
        _ => return Err(Refused::NotRunning),
    };
    task.state = State::Running;
    task.heard = Some(now);
    task.reason = None;
    Ok(said)
}

fn finish(task: &mut Task, outcome: Outcome, now: WallTime) -> Vec<String> {
    match outcome {
        Outcome::Done => {
            let words = "The task is done.".to_owned();
            let said = end(task, State::Done, words, now);
            task.reason = None;
            vec![said]
        }
        Outcome::Failed { reason, may_retry } if may_retry && task.attempts < task.max_attempts => {
            task.state = State::Queued;
            // Nobody holds it now; a late word of this attempt must not count.
            task.fence += 1;
            vec![wait(
                task,
                &format!("The attempt failed and is tried again at the next boot: {reason}"),
            )]
        }
        Outcome::Failed { reason, .. } => vec![end(
            task,
            State::Failed,
            format!("The task failed: {reason}"),
            now,
        )],
    }
}

fn expire(task: &mut Task, now: WallTime) -> String {
    end(
        task,
        State::Expired,
        "The time to start the task is over.".to_owned(),
        now,
    )
}

fn end(task: &mut Task, state: State, words: String, now: WallTime) -> String {
    task.state = state;
    task.ended = Some(now);
    task.reason = Some(words.clone());
    words
}

fn wait(task: &mut Task, words: &str) -> String {
    task.reason = Some(words.to_owned());
    words.to_owned()
}
