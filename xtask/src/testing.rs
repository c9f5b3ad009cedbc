//! `cargo xtask test`: set-up, unit and integration tests, then the end-to-end tests, with one line of result.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    thread,
    time::Instant,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use farrier_e2e::{
    Steps, matrix, packages,
    report::say,
    site::{self, Programs},
};

use crate::{build, prepare};

/// Unit and integration tests that run at the same time. Many of them wait for most of a minute, for what is silent to
/// be given up, beside idle processors.
const SIDE_BY_SIDE: &str = "12";
/// End-to-end tests that run at the same time: each is one or two emulators, and three keep two processors busy.
const PARALLEL: &str = "--test-threads=3";

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Leaves out the end-to-end tests and all set-up for them.
    #[arg(long)]
    fast: bool,
    /// Only tests whose name contains this.
    filter: Option<String>,
}

/// How many tests ended how.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Count {
    passed: u32,
    failed: u32,
    ignored: u32,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let started = Instant::now();
    let mut steps = Steps::new(if options.fast { 1 } else { prepare::STEPS + 3 });
    let mut count = Count::default();
    let mut broken = Vec::new();
    let mut note = |what: &'static str, (counted, ended_well): (Count, bool)| {
        count.passed += counted.passed;
        count.failed += counted.failed;
        count.ignored += counted.ignored;
        if !ended_well {
            broken.push(what);
        }
    };
    if options.fast {
        steps.step("unit and integration tests");
        note("unit and integration tests", unit(options)?);
    } else {
        say("the tests, farrier and its agent are built beside the first steps");
        let building = build::Building::everything()?;
        let prepared = prepare::with(&mut steps)?;
        packages::install(&[packages::page(), matrix::fast_packages()].concat())?;
        steps.step("the rest of the building");
        let programs = building.finish()?;
        steps.step("unit and integration tests");
        // They leave a processor idle most of the time.
        let made = thread::scope(|scope| {
            let making = scope.spawn(|| site::make_ready(&prepared.lab, &programs));
            note("unit and integration tests", unit(options)?);
            making
                .join()
                .unwrap_or_else(|_| bail!("the maker of loaders and agent panicked"))
        });
        made.context("loaders and agent for the machines could not be made")?;
        steps.step("end-to-end tests on virtual machines");
        note(
            "end-to-end tests",
            end_to_end(options, &prepared, &programs)?,
        );
    }
    let minutes = started.elapsed().as_secs_f64() / 60.0;
    say(&format!("all of it took {minutes:.1} minutes"));
    if count.ignored > 0 {
        say(&format!(
            "{} tests are ignored, each with its reason in the source",
            count.ignored
        ));
    }
    summary(count);
    if !broken.is_empty() || count.failed > 0 {
        bail!("failed: {}", broken.join(", "));
    }
    Ok(())
}

fn unit(options: &Options) -> Result<(Count, bool)> {
    let mut cargo = build::cargo_command()?;
    cargo.args(["test", "--workspace", "--locked", "--no-fail-fast"]);
    cargo.args(&options.filter);
    if std::env::var_os("RUST_TEST_THREADS").is_none() {
        cargo.env("RUST_TEST_THREADS", SIDE_BY_SIDE);
    }
    counted(&mut cargo)
}

fn end_to_end(
    options: &Options,
    prepared: &prepare::Prepared,
    programs: &Programs,
) -> Result<(Count, bool)> {
    let mut cargo = build::cargo_command()?;
    cargo.args([
        "test",
        // Of one package alone, what it shares with the others would be built anew, with fewer features.
        "--workspace",
        "--test",
        "lan",
        "--locked",
        "--no-fail-fast",
        "--",
    ]);
    cargo.arg(PARALLEL).args(&options.filter);
    cargo.env("FARRIER_LAB_DIR", prepared.lab.folder());
    cargo
        .env("FARRIER_BIN", &programs.farrier)
        .env("FARRIER_AGENT_BIN", &programs.agent);
    counted(&mut cargo)
}

/// Runs a test command, showing its output as it comes and adding up its result lines.
fn counted(cargo: &mut Command) -> Result<(Count, bool)> {
    let mut child = cargo
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let output = child.stdout.take().context("cargo has no output")?;
    let mut count = Count::default();
    for line in BufReader::new(output).lines() {
        let line = line.context("cannot read cargo's output")?;
        count.add(&line);
        show(&line);
    }
    let status = child.wait().context("cannot wait for cargo")?;
    Ok((count, status.success()))
}

#[allow(clippy::print_stdout, reason = "test results are this command's data")]
fn show(line: &str) {
    println!("{line}");
}

#[allow(clippy::print_stdout, reason = "the result is this command's data")]
fn summary(count: Count) {
    println!("{} passed, {} failed", count.passed, count.failed);
}

impl Count {
    /// Adds a line such as `test result: ok. 12 passed; 0 failed; 1 ignored; …`.
    fn add(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("test result: ") else {
            return;
        };
        for part in rest.split([';', '.']) {
            let mut words = part.split_whitespace();
            let (Some(number), Some(what)) = (
                words.next().and_then(|word| word.parse::<u32>().ok()),
                words.next(),
            ) else {
                continue;
            };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Count;

    #[test]
    fn result_lines_add_up() {
        let mut count = Count::default();
        count.add("running 3 tests");
        count.add("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s");
        count.add("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 204.48s");
        assert_eq!(
            count,
            Count {
                passed: 15,
                failed: 2,
                ignored: 1
            }
        );
    }
}
