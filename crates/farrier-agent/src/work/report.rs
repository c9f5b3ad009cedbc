//! How far a task is: collected from the engine's threads, told to the server every second, and shown as a line
//! on the screen now and then.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use farrier_api::agent::{Bottleneck, ProgressReport};
use farrier_image::transport::{Phase, Progress, Watch};
use uuid::Uuid;

use super::Agent;
use crate::screen::bytes;

/// The watcher of one task.
#[derive(Debug, Default)]
pub struct Reporter {
    latest: Mutex<Progress>,
    stop: Mutex<Option<String>>,
}

impl Watch for Reporter {
    fn progress(&self, progress: &Progress) {
        *lock(&self.latest) = *progress;
    }

    fn stop(&self) -> Option<String> {
        lock(&self.stop).clone()
    }
}

const REPORT_EVERY: Duration = Duration::from_secs(1);
/// A serial line of a whole deployment stays a page long.
const SHOW_EVERY: Duration = Duration::from_secs(10);

impl Reporter {
    /// Asks the work to end.
    pub fn stop_because(&self, reason: impl Into<String>) {
        lock(&self.stop).get_or_insert(reason.into());
    }

    /// What most of the time so far was spent on.
    pub fn bottleneck(&self) -> Option<Bottleneck> {
        most(&Progress::default(), &lock(&self.latest))
    }

    /// Tells the server every second, until dropped. A server that is away is not waited for here; what it
    /// missed is in the next report.
    pub async fn report(self: Arc<Self>, agent: Agent, task: Uuid, fence: u64) {
        let mut pace = Pace::default();
        let mut shown = Instant::now();
        loop {
            tokio::time::sleep(REPORT_EVERY).await;
            let progress = *lock(&self.latest);
            let rates = pace.step(progress, Instant::now());
            if shown.elapsed() >= SHOW_EVERY {
                shown = Instant::now();
                agent.screen.show(line(&progress, &rates));
            }
            let report = ProgressReport {
                fence,
                phase: phase(progress.phase).to_owned(),
                done_bytes: progress.done_bytes,
                total_bytes: progress.total_bytes,
                bytes_per_second: rates.bytes_per_second,
                bottleneck: rates.bottleneck,
            };
            match agent.client.progress(task, &report).await {
                Ok(answer) => {
                    if let Some(reason) = answer.stop {
                        self.stop_because(reason);
                    }
                }
                Err(error) if matches!(error.status(), Some(401 | 403 | 404 | 409)) => {
                    self.stop_because(error.to_string());
                }
                Err(_) => {}
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Rates over the last few seconds: over one second they jump, over all they lie.
#[derive(Debug, Default)]
struct Pace {
    samples: std::collections::VecDeque<(Instant, Progress)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Rates {
    bytes_per_second: u64,
    bottleneck: Option<Bottleneck>,
}

const WINDOW: usize = 6;

impl Pace {
    fn step(&mut self, progress: Progress, now: Instant) -> Rates {
        if self
            .samples
            .back()
            .is_some_and(|(_, last)| last.phase != progress.phase)
        {
            self.samples.clear();
        }
        self.samples.push_back((now, progress));
        while self.samples.len() > WINDOW {
            self.samples.pop_front();
        }
        let Some((first_at, first)) = self.samples.front() else {
            return Rates::default();
        };
        let ms = u64::try_from(now.duration_since(*first_at).as_millis()).unwrap_or(u64::MAX);
        let done = progress.done_bytes.saturating_sub(first.done_bytes);
        let bytes_per_second = done.saturating_mul(1000).checked_div(ms).unwrap_or(0);
        Rates {
            bytes_per_second,
            bottleneck: most(first, &progress),
        }
    }
}

/// What most of the time between two looks was spent on.
fn most(first: &Progress, last: &Progress) -> Option<Bottleneck> {
    let busy = [
        (last.disk_ms.saturating_sub(first.disk_ms), Bottleneck::Disk),
        (last.cpu_ms.saturating_sub(first.cpu_ms), Bottleneck::Cpu),
        (
            last.network_ms.saturating_sub(first.network_ms),
            Bottleneck::Network,
        ),
    ];
    let (ms, bottleneck) = busy.into_iter().max_by_key(|(ms, _)| *ms)?;
    (ms > 0).then_some(bottleneck)
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Planning => "reading the disk's layout",
        Phase::Reading => "reading the disk",
        Phase::Writing => "writing the disk",
        Phase::Verifying => "reading back what was written",
        Phase::Committing => "publishing the image",
    }
}

fn line(progress: &Progress, rates: &Rates) -> String {
    let Progress {
        done_bytes,
        total_bytes,
        ..
    } = *progress;
    let mut line = phase(progress.phase).to_owned();
    if total_bytes > 0 {
        let percent = u128::from(done_bytes) * 100 / u128::from(total_bytes);
        line += &format!(": {percent} % of {}", bytes(total_bytes));
    }
    let left = total_bytes.saturating_sub(done_bytes);
    if let Some(left) = left.checked_div(rates.bytes_per_second) {
        line += &format!(
            ", {}/s, {}:{:02} left",
            bytes(rates.bytes_per_second),
            left / 60,
            left % 60
        );
    }
    match rates.bottleneck {
        None => line,
        Some(Bottleneck::Cpu) => line + ", the processor is the limit",
        Some(Bottleneck::Disk) => line + ", the disk is the limit",
        Some(Bottleneck::Network) => line + ", the network is the limit",
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use farrier_api::agent::Bottleneck;
    use farrier_image::transport::{Phase, Progress};

    use super::{Pace, line};

    #[test]
    fn pains_22_the_line_says_how_far_how_fast_and_why_not_faster() {
        let start = Instant::now();
        let mut pace = Pace::default();
        let at = |seconds: u64| Progress {
            phase: Phase::Writing,
            done_bytes: seconds * 50_000_000,
            total_bytes: 5_000_000_000,
            disk_ms: seconds * 900,
            cpu_ms: seconds * 300,
            ..Progress::default()
        };
        let mut rates = Default::default();
        for second in 0..=10 {
            rates = pace.step(at(second), start + Duration::from_secs(second));
        }
        assert_eq!(
            (rates.bytes_per_second, rates.bottleneck),
            (50_000_000, Some(Bottleneck::Disk))
        );
        let shown = line(&at(10), &rates);
        assert_eq!(
            shown,
            "writing the disk: 10 % of 5.0 GB, 50.0 MB/s, 1:30 left, the disk is the limit"
        );
    }

    #[test]
    fn a_new_phase_starts_a_new_rate() {
        let start = Instant::now();
        let mut pace = Pace::default();
        let writing = Progress {
            phase: Phase::Writing,
            done_bytes: 1000,
            ..Progress::default()
        };
        pace.step(writing, start);
        let verifying = Progress {
            phase: Phase::Verifying,
            done_bytes: 0,
            ..Progress::default()
        };
        let rates = pace.step(verifying, start + Duration::from_secs(1));
        assert_eq!((rates.bytes_per_second, rates.bottleneck), (0, None));
    }
}
