//! What was measured: latencies, losses, bytes.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::output::Table;

/// The figures of one kind of request.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    latencies: Vec<Duration>,
    /// When each answer was there.
    answered: Vec<Instant>,
    failures: BTreeMap<String, u64>,
    resent: u64,
    bytes: u64,
    agreed: BTreeMap<Shape, u64>,
}

/// What TFTP's two ends agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Shape {
    pub(super) blksize: u16,
    pub(super) windowsize: u16,
}

/// Transfers of one shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Agreed {
    #[serde(flatten)]
    pub(super) shape: Shape,
    pub(super) transfers: u64,
}

impl fmt::Display for Agreed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shape {
            blksize,
            windowsize,
        } = self.shape;
        let times = self.transfers;
        write!(f, "{times} x blksize {blksize}, windowsize {windowsize}")
    }
}

/// The same, ready to be read.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    pub(super) what: String,
    pub(super) done: u64,
    pub(super) failed: u64,
    /// Requests that had to be sent again.
    pub(super) resent: u64,
    pub(super) per_second: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) max_ms: f64,
    pub(super) bytes: u64,
    /// Until 99 of 100 were answered.
    pub(super) seconds: f64,
    /// Why requests failed, and how many of each.
    pub(super) failures: BTreeMap<String, u64>,
    /// The shapes of TFTP transfers, and how many there were of each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) agreed: Vec<Agreed>,
}

impl Tally {
    /// A request that was answered.
    pub(super) fn done(&mut self, took: Duration, bytes: u64) {
        self.latencies.push(took);
        self.answered.push(Instant::now());
        self.bytes += bytes;
    }

    pub(super) fn failed(&mut self, why: impl Into<String>) {
        *self.failures.entry(why.into()).or_default() += 1;
    }

    pub(super) fn resent(&mut self, times: u64) {
        self.resent += times;
    }

    /// A transfer of this shape.
    pub(super) fn agreed(&mut self, shape: Shape) {
        *self.agreed.entry(shape).or_default() += 1;
    }

    pub(super) fn add(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        self.answered.extend(other.answered);
        self.resent += other.resent;
        self.bytes += other.bytes;
        for (why, times) in other.failures {
            *self.failures.entry(why).or_default() += times;
        }
        for (shape, times) in other.agreed {
            *self.agreed.entry(shape).or_default() += times;
        }
    }

    pub(super) fn report(mut self, what: &str, started: Instant) -> Report {
        self.latencies.sort_unstable();
        self.answered.sort_unstable();
        let done = self.latencies.len();
        // Without the last of a hundred: one machine that waits for its firmware's next try says nothing of the rate.
        let most = (done * 99).div_ceil(100);
        let until = self
            .answered
            .get(most.saturating_sub(1))
            .copied()
            .unwrap_or_else(Instant::now);
        let seconds = until
            .saturating_duration_since(started)
            .as_secs_f64()
            .max(1e-9);
        Report {
            what: what.to_owned(),
            done: done as u64,
            failed: self.failures.values().sum(),
            resent: self.resent,
            per_second: most as f64 / seconds,
            p50_ms: millis(percentile(&self.latencies, 50)),
            p99_ms: millis(percentile(&self.latencies, 99)),
            max_ms: millis(self.latencies.last().copied().unwrap_or_default()),
            bytes: self.bytes,
            seconds,
            failures: self.failures,
            agreed: self
                .agreed
                .into_iter()
                .map(|(shape, transfers)| Agreed { shape, transfers })
                .collect(),
        }
    }
}

/// The value that `percent` of the sorted values do not exceed.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

pub(super) fn table(reports: &[Report]) -> Table {
    let mut table = Table::new([
        "WHAT",
        "DONE",
        "FAILED",
        "RESENT",
        "PER SECOND",
        "P50 MS",
        "P99 MS",
        "MAX MS",
        "MIB/S",
    ]);
    for report in reports {
        table.row([
            report.what.clone(),
            report.done.to_string(),
            report.failed.to_string(),
            report.resent.to_string(),
            format!("{:.0}", report.per_second),
            format!("{:.2}", report.p50_ms),
            format!("{:.2}", report.p99_ms),
            format!("{:.2}", report.max_ms),
            format!(
                "{:.1}",
                report.bytes as f64 / report.seconds / f64::from(1 << 20)
            ),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Shape, Tally, percentile};

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let ms = |n| Duration::from_millis(n);
        let sorted: Vec<_> = (1..=200).map(ms).collect();
        assert_eq!(percentile(&sorted, 50), ms(100));
        assert_eq!(percentile(&sorted, 99), ms(198));
        assert_eq!(percentile(&[ms(7)], 99), ms(7));
        assert_eq!(percentile(&[], 99), Duration::ZERO);
    }

    #[test]
    fn tallies_of_several_clients_add_up() {
        let mut all = Tally::default();
        for client in 0..3 {
            let mut one = Tally::default();
            one.done(Duration::from_millis(client), 10);
            one.failed("no answer");
            one.resent(2);
            one.agreed(Shape {
                blksize: 512,
                windowsize: 4,
            });
            all.add(one);
        }
        let report = all.report("x", Instant::now());
        assert_eq!(
            (report.done, report.failed, report.resent, report.bytes),
            (3, 3, 6, 30)
        );
        assert_eq!(report.failures["no answer"], 3);
        let json = serde_json::to_value(&report.agreed).unwrap();
        let expected = serde_json::json!([{ "blksize": 512, "windowsize": 4, "transfers": 3 }]);
        assert_eq!(json, expected);
    }
}
