//! Fuzzing: every target of `fuzz/` for a while.

use std::{fs, process::Command};

use anyhow::{Context, Result, bail};
use clap::Args;
use farrier_e2e::{Steps, command::is_installed, report::say};

use crate::build;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Runs each target for 60 seconds, enough to notice a decoder that panics on the first surprises.
    #[arg(long)]
    smoke: bool,
    /// Seconds for each target instead.
    #[arg(long, conflicts_with = "smoke")]
    seconds: Option<u32>,
    /// Only targets whose name contains this.
    filter: Option<String>,
}

const SMOKE_SECONDS: u32 = 60;

pub(crate) fn run(options: &Options) -> Result<()> {
    let folder = build::workspace()?.join("fuzz");
    let mut targets: Vec<String> = fs::read_dir(folder.join("fuzz_targets"))
        .context("there are no fuzz targets")?
        .flatten()
        .filter_map(|entry| {
            entry
                .file_name()
                .to_string_lossy()
                .strip_suffix(".rs")
                .map(str::to_owned)
        })
        .filter(|name| {
            options
                .filter
                .as_ref()
                .is_none_or(|filter| name.contains(filter))
        })
        .collect();
    targets.sort();
    if targets.is_empty() {
        bail!("no fuzz target has that name");
    }
    let seconds = if options.smoke {
        SMOKE_SECONDS
    } else {
        options.seconds.unwrap_or(10 * SMOKE_SECONDS)
    };
    if !is_installed("cargo-fuzz") {
        say(
            "      cargo-fuzz is not installed: the targets are built and run by cargo alone, without coverage guidance",
        );
    }
    let mut steps = Steps::new(targets.len());
    for target in &targets {
        steps.step(&format!("{target}, {seconds} s"));
        run_target(&folder, target, seconds)?;
    }
    Ok(())
}

fn run_target(folder: &std::path::Path, target: &str, seconds: u32) -> Result<()> {
    let corpus = folder.join("corpus").join(target);
    let findings = folder.join("artifacts").join(target);
    for folder in [&corpus, &findings] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let status = Command::new(build::cargo_program())
        .args(["run", "--quiet", "--release", "--bin", target, "--"])
        .arg(&corpus)
        .arg(format!("-artifact_prefix={}/", findings.display()))
        .arg(format!("-max_total_time={seconds}"))
        .args(["-rss_limit_mb=1024", "-verbosity=0", "-print_final_stats=1"])
        .current_dir(folder)
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        bail!(
            "{target} found something; the input is in {}",
            findings.display()
        );
    }
    Ok(())
}
