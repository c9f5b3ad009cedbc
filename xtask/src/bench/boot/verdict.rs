//! The figures of all rounds as a table, and whether the goals are met.

use std::fmt::Write;

use super::Measured;
use super::rows::{ROWS, Row};
use super::server::Peer;

/// One run, as it happens.
pub(super) fn line(of: &Measured) -> String {
    format!(
        "{:<34}{:<10}{:>10.1}{:>10.0}/s{:>9.2} ms p50{:>9.2} ms p99{:>6} failed",
        of.row.name,
        format!("{:?}", of.peer),
        cost(of),
        of.report.per_second,
        of.report.p50_ms,
        of.report.p99_ms,
        of.report.failed
    )
}

/// Microseconds of CPU per answer, or CPU-milliseconds per GiB.
fn cost(of: &Measured) -> f64 {
    if of.row.work.per_byte() {
        of.cpu_s * 1e3 / (of.report.bytes as f64 / f64::from(1 << 30))
    } else {
        of.cpu_s * 1e6 / of.report.done as f64
    }
}

pub(super) fn table(measured: &[Measured]) -> String {
    let mut text = format!(
        "\n{:<34}{:<10}{:>12}{:>12}{:>10}{:>10}{:>8}\n",
        "median", "server", "CPU", "per second", "MiB/s", "p99 ms", "failed"
    );
    for row in ROWS {
        for peer in row.peers {
            let of = runs(measured, row, *peer);
            if of.is_empty() {
                continue;
            }
            let unit = if row.work.per_byte() { "ms/GiB" } else { "us" };
            let _ = writeln!(
                text,
                "{:<34}{:<10}{:>12}{:>12.0}{:>10.1}{:>10.2}{:>8}",
                row.name,
                format!("{peer:?}"),
                format!("{:.1} {unit}", middle(&of, cost)),
                middle(&of, |m| m.report.per_second),
                middle(&of, |m| m.report.bytes as f64
                    / m.report.seconds
                    / f64::from(1 << 20)),
                middle(&of, |m| m.report.p99_ms),
                of.iter().map(|m| m.report.failed).sum::<u64>()
            );
        }
    }
    text.push_str("\nour CPU as a share of the best peer's that failed in nothing\n");
    for row in ROWS {
        if let Some((found, best)) = ratio(measured, row) {
            let met = if found <= row.limit { "met" } else { "missed" };
            let ahead = if found < 1.0 { "ahead of" } else { "behind" };
            let _ = writeln!(
                text,
                "{:<4}{:<34}{found:>6.2}  <= {:.2}  goal {met}, {ahead} {best:?}",
                row.goal, row.name, row.limit
            );
        }
    }
    text
}

fn ratio(measured: &[Measured], row: &Row) -> Option<(f64, Peer)> {
    let ours = runs(measured, row, Peer::Farrier);
    let best = row
        .peers
        .iter()
        .filter(|peer| **peer != Peer::Farrier)
        .map(|peer| (runs(measured, row, *peer), *peer))
        .filter(|(of, _)| !of.is_empty() && of.iter().all(|m| m.report.failed == 0))
        .map(|(of, peer)| (middle(&of, cost), peer))
        .min_by(|a, b| a.0.total_cmp(&b.0))?;
    (!ours.is_empty()).then(|| (middle(&ours, cost) / best.0, best.1))
}

fn runs<'a>(measured: &'a [Measured], row: &Row, peer: Peer) -> Vec<&'a Measured> {
    let of = |m: &&Measured| m.row.name == row.name && m.peer == peer;
    measured.iter().filter(of).collect()
}

fn middle(of: &[&Measured], figure: impl Fn(&Measured) -> f64) -> f64 {
    let mut values: Vec<f64> = of.iter().map(|m| figure(m)).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::super::{Measured, Report, rows::ROWS, server::Peer};
    use super::ratio;

    fn run(peer: Peer, cpu_s: f64, failed: u64) -> Measured {
        let report = Report {
            done: 100,
            failed,
            seconds: 1.0,
            ..Report::default()
        };
        Measured {
            row: &ROWS[0],
            peer,
            cpu_s,
            report,
        }
    }

    #[test]
    fn we_are_compared_with_the_best_peer_that_did_the_work() {
        let measured = [
            run(Peer::Farrier, 3.0, 0),
            run(Peer::Farrier, 1.0, 0),
            run(Peer::Farrier, 2.0, 0),
            run(Peer::Kea, 4.0, 0),
            run(Peer::Dnsmasq, 0.1, 7),
        ];
        let (found, best) = ratio(&measured, &ROWS[0]).unwrap();
        assert!((found - 0.5).abs() < 1e-9);
        assert_eq!(best, Peer::Kea);
        assert!(ratio(&measured[..3], &ROWS[0]).is_none());
    }
}
