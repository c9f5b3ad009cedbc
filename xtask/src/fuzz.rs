//! Fuzzing: every target of `fuzz/` for a while, with the flags that `fuzz/README.md` explains.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use farrier_e2e::{Steps, packages};

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

/// Naming the target keeps the flags away from build scripts.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Coverage guidance and the address sanitizer, with the stable compiler.
const FLAGS: &str = "--cfg fuzzing -Zsanitizer=address -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";

pub(crate) fn run(options: &Options) -> Result<()> {
    let folder = build::workspace()?.join("fuzz");
    let targets = targets(&folder, options.filter.as_deref())?;
    let long = 10 * SMOKE_SECONDS;
    let seconds = if options.smoke {
        SMOKE_SECONDS
    } else {
        options.seconds.unwrap_or(long)
    };
    let mut steps = Steps::new(targets.len() + 1);
    steps.step("building the fuzz targets");
    // libFuzzer is C++.
    packages::install(&["g++"])?;
    let programs = build(&folder)?;
    for target in &targets {
        steps.step(&format!("{target}, {seconds} s"));
        run_target(&folder, &programs.join(target), target, seconds)?;
    }
    Ok(())
}

fn targets(folder: &Path, filter: Option<&str>) -> Result<Vec<String>> {
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
        .filter(|name| filter.is_none_or(|filter| name.contains(filter)))
        .collect();
    targets.sort();
    if targets.is_empty() {
        bail!("no fuzz target has that name");
    }
    Ok(targets)
}

/// Builds all targets and returns the folder of the programs.
fn build(folder: &Path) -> Result<PathBuf> {
    let target = build::target_folder()?.join("fuzz");
    let status = Command::new(build::cargo_program())
        .args(["build", "--release", "--target", TARGET])
        .current_dir(folder)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", FLAGS)
        .env("CARGO_TARGET_DIR", &target)
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        bail!("the fuzz targets do not build; cargo's words are above");
    }
    Ok(target.join(TARGET).join("release"))
}

fn run_target(folder: &Path, program: &Path, target: &str, seconds: u32) -> Result<()> {
    // libFuzzer writes what it finds interesting into the first folder, so the checked-in corpus stays as it is.
    let new = build::target_folder()?.join("fuzz/new").join(target);
    let findings = folder.join("artifacts").join(target);
    for folder in [&new, &findings] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let status = Command::new(program)
        .arg(&new)
        .arg(folder.join("corpus").join(target))
        .arg(format!("-artifact_prefix={}/", findings.display()))
        .arg(format!("-max_total_time={seconds}"))
        .args([
            "-timeout=5",
            "-rss_limit_mb=1024",
            "-verbosity=0",
            "-print_final_stats=1",
        ])
        .status()
        .with_context(|| format!("cannot start {}", program.display()))?;
    if !status.success() {
        bail!(
            "{target} found something; its input is in {}",
            findings.display()
        );
    }
    Ok(())
}
