//! The figures of all rounds as a table, and whether the goals are met.

use std::fmt::Write;

use anyhow::{Context, Result};

use super::Round;
use super::peers::Cost;

pub(super) fn table(rounds: &[Round]) -> Result<String> {
    let ours = |job: &str, field: &str| -> Result<f64> {
        let values = rounds.iter().map(|round| {
            let found = round.ours.iter().find(|line| line["job"] == job);
            found.and_then(|line| line[field].as_f64())
        });
        let values: Option<Vec<f64>> = values.collect();
        values
            .map(median)
            .with_context(|| format!("image_bench does not report {field} of {job}"))
    };
    let peer = |of: fn(&Round) -> Cost| {
        let cpu_s = median(rounds.iter().map(|round| of(round).cpu_s).collect());
        (
            cpu_s,
            median(rounds.iter().map(|round| of(round).bytes as f64).collect()),
        )
    };
    let first = peer(|round| round.clonezilla[0]);
    let second = peer(|round| round.clonezilla[1]);
    let fog = peer(|round| round.fog);
    let restore_first = peer(|round| round.restore[0]);
    let restore_second = peer(|round| round.restore[1]);

    let mut text = format!(
        "\nmedian of {} rounds{:>32}{:>10}\n",
        rounds.len(),
        "CPU-s",
        "MB"
    );
    let mut row = |name: &str, cpu_s: f64, bytes: f64| {
        let _ = writeln!(text, "{name:<40}{cpu_s:>10.2}{:>10.1}", bytes / 1e6);
    };
    row("partclone | zstd -3 -T2, first", first.0, first.1);
    row("partclone | zstdmt as FOG, first", fog.0, fog.1);
    row(
        "farrier, first capture",
        ours("capture", "cpu_s")?,
        ours("capture", "stored")?,
    );
    row("partclone | zstd -3 -T2, second", second.0, second.1);
    row(
        "farrier, second capture",
        ours("second-capture", "cpu_s")?,
        ours("second-capture", "stored")?,
    );
    row(
        "zstd | partclone.restore, first",
        restore_first.0,
        restore_first.1,
    );
    row(
        "farrier, deploy of first (fetched)",
        ours("deploy", "cpu_s")?,
        ours("deploy", "fetched")?,
    );
    row(
        "zstd | partclone.restore, second",
        restore_second.0,
        restore_second.1,
    );
    row(
        "farrier, first to second (fetched)",
        ours("repair", "cpu_s")?,
        ours("repair", "fetched")?,
    );
    row(
        "farrier, verify (content)",
        ours("verify", "cpu_s")?,
        ours("verify", "content")?,
    );

    let rate = |job: &str| {
        Ok::<_, anyhow::Error>(ours(job, "content")? / ours(job, "cpu_s")?.max(0.001) / 1e9)
    };
    text.push('\n');
    for (goal, what, found, limit) in [
        (
            "G1",
            "first capture, CPU of partclone + zstd",
            ours("capture", "cpu_s")? / first.0,
            Limit::Most(0.75),
        ),
        (
            "G1",
            "first capture, CPU of FOG's pipe",
            ours("capture", "cpu_s")? / fog.0,
            Limit::Most(0.5),
        ),
        (
            "G3",
            "second capture, CPU of partclone + zstd",
            ours("second-capture", "cpu_s")? / second.0,
            Limit::Most(0.35),
        ),
        (
            "G3",
            "second capture, bytes of partclone + zstd",
            ours("second-capture", "stored")? / second.1,
            Limit::Most(0.5),
        ),
        (
            "G6",
            "blank deploy, CPU of partclone.restore",
            ours("deploy", "cpu_s")? / restore_first.0,
            Limit::Most(0.35),
        ),
        (
            "G6",
            "blank deploy, GB of content per CPU-s",
            rate("deploy")?,
            Limit::Least(1.2),
        ),
        (
            "G6",
            "blank deploy, written of used",
            ours("deploy", "written")? / ours("deploy", "content")?,
            Limit::Most(1.0),
        ),
        (
            "G7",
            "update, CPU of a full partclone.restore",
            ours("repair", "cpu_s")? / restore_second.0,
            Limit::Most(0.25),
        ),
        (
            "G7",
            "update, fetched of a full restore",
            ours("repair", "fetched")? / second.1,
            Limit::Most(0.5),
        ),
        (
            "G7",
            "update, written of used",
            ours("repair", "written")? / ours("repair", "content")?,
            Limit::Most(0.4),
        ),
        (
            "G8",
            "verify, GB per CPU-s",
            rate("verify")?,
            Limit::Least(3.0),
        ),
    ] {
        let _ = writeln!(
            text,
            "{goal}  {what:<44}{found:>6.2}  {}",
            limit.verdict(found)
        );
    }
    Ok(text)
}

enum Limit {
    Most(f64),
    Least(f64),
}

impl Limit {
    fn verdict(&self, found: f64) -> String {
        let (met, sign, limit) = match *self {
            Self::Most(limit) => (found <= limit, "<=", limit),
            Self::Least(limit) => (found >= limit, ">=", limit),
        };
        format!(
            "{sign} {limit:.2}  goal {}",
            if met { "met" } else { "missed" }
        )
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::{Limit, median};

    #[test]
    fn a_goal_is_met_up_to_its_limit_and_missed_beyond_or_without_a_figure() {
        for (limit, found, verdict) in [
            (Limit::Most(0.75), 0.75, "<= 0.75  goal met"),
            (Limit::Most(0.75), 0.76, "<= 0.75  goal missed"),
            (Limit::Least(3.0), 3.1, ">= 3.00  goal met"),
            (Limit::Least(3.0), 2.9, ">= 3.00  goal missed"),
            (Limit::Most(0.5), f64::NAN, "<= 0.50  goal missed"),
        ] {
            assert_eq!(limit.verdict(found), verdict);
        }
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
    }
}
