//! The figures of all rounds as a table, and whether the goals are met.

use std::fmt::Write;

use anyhow::{Context, Result};

use super::Round;
use super::network::{Ends, Networked};
use super::peers::Cost;

pub(super) fn table(rounds: &[Round]) -> Result<String> {
    let rounds = Rounds(rounds);
    let mut text = format!(
        "\nmedian of {} rounds{:>32}{:>10}{:>10}\n",
        rounds.0.len(),
        "CPU-s",
        "server",
        "MB"
    );
    for (name, [cpu_s, server_s, bytes]) in rounds.costs()? {
        let server = if server_s > 0.0 {
            format!("{server_s:.2}")
        } else {
            String::new()
        };
        let _ = writeln!(
            text,
            "{name:<40}{cpu_s:>10.2}{server:>10}{:>10.1}",
            bytes / 1e6
        );
    }
    text.push('\n');
    for (goal, what, found, limit) in rounds.goals()? {
        let verdict = limit.verdict(found);
        let _ = writeln!(text, "{goal:<4}{what:<54}{found:>6.2}  {verdict}");
    }
    Ok(text)
}

type Goal = (&'static str, &'static str, f64, Limit);

/// Medians over all rounds.
struct Rounds<'a>(&'a [Round]);

impl Rounds<'_> {
    fn of(&self, value: impl Fn(&Round) -> f64) -> f64 {
        median(self.0.iter().map(value).collect())
    }

    /// A figure of our engine with both ends in one process.
    fn ours(&self, job: &str, field: &str) -> Result<f64> {
        let values = self.0.iter().map(|round| {
            let found = round.ours.iter().find(|line| line["job"] == job);
            found.and_then(|line| line[field].as_f64())
        });
        let values: Option<Vec<f64>> = values.collect();
        values
            .map(median)
            .with_context(|| format!("image_bench does not report {field} of {job}"))
    }

    /// CPU, bytes.
    fn peer(&self, of: impl Fn(&Round) -> Cost) -> [f64; 3] {
        let bytes = self.of(|round| of(round).bytes as f64);
        [self.of(|round| of(round).cpu_s), 0.0, bytes]
    }

    fn networked(&self, of: impl Fn(&Networked) -> Ends) -> [f64; 3] {
        [
            self.of(|round| of(&round.networked).agent_s),
            self.of(|round| of(&round.networked).server_s),
            self.of(|round| of(&round.networked).moved),
        ]
    }

    /// CPU of the job, CPU of a server beside it, bytes stored or moved.
    fn costs(&self) -> Result<Vec<(&'static str, [f64; 3])>> {
        let ours = |job, bytes| {
            Ok::<_, anyhow::Error>([self.ours(job, "cpu_s")?, 0.0, self.ours(job, bytes)?])
        };
        Ok(vec![
            (
                "partclone | zstd -3 -T2, first",
                self.peer(|r| r.clonezilla[0]),
            ),
            ("partclone | zstdmt as FOG, first", self.peer(|r| r.fog)),
            (
                "farrier, first capture, one process",
                ours("capture", "stored")?,
            ),
            (
                "farrier, first capture, networked",
                self.networked(|n| n.first_capture),
            ),
            (
                "partclone | zstd -3 -T2, second",
                self.peer(|r| r.clonezilla[1]),
            ),
            (
                "farrier, second capture, one process",
                ours("second-capture", "stored")?,
            ),
            (
                "farrier, second capture, networked",
                self.networked(|n| n.second_capture),
            ),
            (
                "zstd | partclone.restore, first",
                self.peer(|r| r.restore[0]),
            ),
            ("zstd -t, first", self.peer(|r| r.unpack)),
            ("farrier, unpack and prove only", ours("unpack", "content")?),
            (
                "farrier, deploy of first, one process",
                ours("deploy", "fetched")?,
            ),
            (
                "farrier, deploy of first, networked",
                self.networked(|n| n.deploy),
            ),
            (
                "zstd | partclone.restore, second",
                self.peer(|r| r.restore[1]),
            ),
            (
                "farrier, first to second, one process",
                ours("repair", "fetched")?,
            ),
            (
                "farrier, first to second, networked",
                self.networked(|n| n.update),
            ),
            ("farrier, verify (content)", ours("verify", "content")?),
        ])
    }

    fn goals(&self) -> Result<Vec<Goal>> {
        use Limit::{Least, Most};
        let [first, _, packed_first] = self.peer(|r| r.clonezilla[0]);
        let [second, _, packed_second] = self.peer(|r| r.clonezilla[1]);
        let [fog, ..] = self.peer(|r| r.fog);
        let [restore_first, ..] = self.peer(|r| r.restore[0]);
        let [restore_second, ..] = self.peer(|r| r.restore[1]);
        let [unpacked, ..] = self.peer(|r| r.unpack);
        let [captured, captured_server, _] = self.networked(|n| n.first_capture);
        let [again, again_server, again_bytes] = self.networked(|n| n.second_capture);
        let [deployed, ..] = self.networked(|n| n.deploy);
        let [updated, _, updated_bytes] = self.networked(|n| n.update);
        let share =
            |job, part| Ok::<_, anyhow::Error>(self.ours(job, part)? / self.ours(job, "content")?);
        let rate = |job: &str| {
            let content = self.ours(job, "content")? / 1e9;
            Ok::<_, anyhow::Error>(content / self.ours(job, "cpu_s")?.max(0.001))
        };
        Ok(vec![
            (
                "G1",
                "first capture, agent's CPU of partclone + zstd",
                captured / first,
                Most(0.75),
            ),
            (
                "G1",
                "the same with the server's proof of every chunk",
                (captured + captured_server) / first,
                Most(0.75),
            ),
            (
                "G1",
                "first capture, agent's CPU of FOG's pipe",
                captured / fog,
                Most(0.5),
            ),
            (
                "G3",
                "second capture, both ends' CPU of partclone + zstd",
                (again + again_server) / second,
                Most(0.35),
            ),
            (
                "G3",
                "second capture, bytes on the wire of partclone + zstd",
                again_bytes / packed_second,
                Most(0.5),
            ),
            (
                "G5",
                "first image, stored of partclone + zstd",
                self.ours("capture", "stored")? / packed_first,
                Most(1.06),
            ),
            (
                "G6",
                "blank deploy, agent's CPU of partclone.restore",
                deployed / restore_first,
                Most(0.35),
            ),
            (
                "G6",
                "unpack and prove, GB of content per CPU-s",
                rate("unpack")?,
                Least(1.2),
            ),
            (
                "G6",
                "unpack and prove, CPU of zstd -t of the same content",
                self.ours("unpack", "cpu_s")? / unpacked,
                Most(1.0),
            ),
            (
                "G6",
                "blank deploy, written of used",
                share("deploy", "written")?,
                Most(1.0),
            ),
            (
                "G7",
                "update, agent's CPU of a full partclone.restore",
                updated / restore_second,
                Most(0.25),
            ),
            (
                "G7",
                "update, bytes on the wire of a full restore",
                updated_bytes / packed_second,
                Most(0.5),
            ),
            (
                "G7",
                "update, written of used",
                share("repair", "written")?,
                Most(0.4),
            ),
            ("G8", "verify, GB per CPU-s", rate("verify")?, Least(3.0)),
        ])
    }
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
