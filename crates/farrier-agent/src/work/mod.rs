//! Does what the server wants, one task after another, until it says to leave. A server that goes away is
//! waited for: it may restart in the middle of anything.

mod choice;
mod report;
mod task;
mod transport;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use farrier_api::agent::{LogLines, Order, ResultReport};
use farrier_api::client::{AgentClient, AgentClientError};
use farrier_proto::MacAddr;
use uuid::Uuid;

use crate::enrol::{Enrolled, Patience};
use crate::inventory;
use crate::leave::Way;
use crate::screen::Screen;

pub use choice::{Refusal, choose};
pub use report::Reporter;
pub use transport::{HttpSink, HttpSource};

/// What a task needs to know of this agent.
#[derive(Clone, Debug)]
pub struct Agent {
    pub client: AgentClient,
    pub image_keys: Vec<[u8; 32]>,
    /// The address the machine booted with.
    pub mac: MacAddr,
    /// The root of `/sys`, `/proc` and `/dev`.
    pub root: std::path::PathBuf,
    pub screen: Arc<Screen>,
}

/// The server does not want this agent any more.
#[derive(Debug, thiserror::Error)]
#[error("{0}; boot the machine again")]
pub struct Dismissed(AgentClientError);

/// How long the server may think about what there is to do.
const POLL: Duration = Duration::from_secs(20);
/// Console lines go to the server this often, and at most so many at once.
const LOG_EVERY: Duration = Duration::from_secs(2);
const LOG_BATCH: usize = 100;

/// Works until told to leave.
pub async fn until_told_to_leave(
    enrolled: Enrolled,
    mac: MacAddr,
    screen: &Arc<Screen>,
) -> Result<Way, Dismissed> {
    let agent = Agent {
        client: enrolled.client,
        image_keys: enrolled.image_keys,
        mac,
        root: Path::new("/").to_owned(),
        screen: Arc::clone(screen),
    };
    let log = tokio::spawn(send_log(agent.client.clone(), Arc::clone(screen)));
    let way = run(&agent).await;
    log.abort();
    // What was said last matters most; one try, since the machine is about to leave.
    let _ = tokio::time::timeout(Duration::from_secs(3), send_lines(&agent.client, screen)).await;
    way
}

/// The loop of [`until_told_to_leave`], without the log.
pub async fn run(agent: &Agent) -> Result<Way, Dismissed> {
    persist(agent, async || {
        agent
            .client
            .inventory(&inventory::read(&agent.root, agent.mac))
            .await
    })
    .await?;
    agent.screen.show("inventory sent");
    let mut highest_fence = 0;
    let mut start_from = None;
    let mut idle = false;
    loop {
        match persist(agent, async || agent.client.work(POLL).await).await? {
            Order::Wait if idle => {}
            Order::Wait => {
                agent.screen.say("waiting for work");
                idle = true;
            }
            Order::Leave { how } => {
                return Ok(Way {
                    how,
                    start_from,
                    card: agent.mac,
                });
            }
            Order::Run { task, fence, work } => {
                idle = false;
                // A lower fence is an answer from the past: that task belongs to somebody else by now.
                if fence < highest_fence {
                    agent.screen.say(format!(
                        "refused stale work (fence {fence} after {highest_fence})"
                    ));
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
                highest_fence = fence;
                let finished = task::run(agent, task, fence, &work).await;
                start_from = finished.start_from.or(start_from);
                report_result(
                    agent,
                    task,
                    ResultReport {
                        fence,
                        outcome: finished.outcome,
                    },
                )
                .await?;
            }
        }
    }
}

/// The result is the one thing that must arrive. A conflict means that the server already knows better.
async fn report_result(agent: &Agent, task: Uuid, report: ResultReport) -> Result<(), Dismissed> {
    match persist(agent, async || agent.client.result(task, &report).await).await {
        Err(Dismissed(error)) if matches!(error.status(), Some(404 | 409)) => {
            agent
                .screen
                .say(format!("the result was not taken: {error}"));
            Ok(())
        }
        other => other,
    }
}

/// Calls until it works or cannot. A server that is not trusted any more is waited for as well: an agent
/// with a certificate met the right one once, and the address may come back.
async fn persist<T>(
    agent: &Agent,
    call: impl AsyncFn() -> Result<T, AgentClientError>,
) -> Result<T, Dismissed> {
    let mut patience = Patience::default();
    loop {
        match call().await {
            Ok(value) => {
                patience.over(&agent.screen);
                return Ok(value);
            }
            Err(error)
                if error.may_retry() || matches!(error, AgentClientError::Untrusted { .. }) =>
            {
                patience.wait(&error, &agent.screen).await;
            }
            Err(error) => return Err(Dismissed(error)),
        }
    }
}

async fn send_log(client: AgentClient, screen: Arc<Screen>) {
    loop {
        tokio::time::sleep(LOG_EVERY).await;
        send_lines(&client, &screen).await;
    }
}

async fn send_lines(client: &AgentClient, screen: &Screen) {
    let lines = screen.take_unsent(LOG_BATCH);
    if lines.is_empty() {
        return;
    }
    let report = LogLines { lines };
    if client.log(&report).await.is_err() {
        screen.put_back(report.lines);
    }
}
