//! The agent plane, asked from outside by an honest client and by others: T3, T9, T12, T14 of the threat model.
#![allow(clippy::print_stdout, reason = "the figures are what the run is for")]
#![allow(clippy::print_stderr, reason = "a skipped test must be seen")]

mod chunks;
mod deployment;
mod enrolment;
mod hostile;
mod loss;
mod many;
mod rights;
#[path = "../site/mod.rs"]
mod site;
mod tasks;

use std::time::Duration;

use farrier_api::agent::{Order, Outcome, ProgressReport, ResultReport, Work as WireWork};
use farrier_engine::task::{DiskSelector, Work};
use uuid::Uuid;

use crate::site::Agent;

const MAC: &str = "52:54:00:00:00:01";
const OTHER: &str = "52:54:00:00:00:02";

fn repair(image: &str) -> Work {
    Work::Repair {
        image: image.to_owned(),
        version: None,
        disk: DiskSelector::default(),
    }
}

fn done(fence: u64, root: Option<String>) -> ResultReport {
    let outcome = Outcome::Done {
        root,
        disk: Some("sda".to_owned()),
        read_bytes: 0,
        written_bytes: 0,
        moved_bytes: 0,
        bottleneck: None,
    };
    ResultReport { fence, outcome }
}

fn progress(fence: u64) -> ProgressReport {
    ProgressReport {
        fence,
        phase: "reading the disk".to_owned(),
        done_bytes: 1,
        total_bytes: 2,
        bytes_per_second: 1,
        bottleneck: None,
    }
}

/// Lets the agent begin what is queued.
async fn begin(agent: &Agent) -> (Uuid, u64, WireWork) {
    match agent.client.work(Duration::ZERO).await.unwrap() {
        Order::Run { task, fence, work } => (task, fence, work),
        other => panic!("{other:?}"),
    }
}
