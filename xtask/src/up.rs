//! `cargo xtask up`: the main job where it can be watched.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use farrier_e2e::{Lan, Steps};

use crate::{build, prepare};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Ends after the repair instead of staying up for the page to be looked at.
    #[arg(long)]
    once: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let mut steps = Steps::new(prepare::STEPS + 2);
    let prepared = prepare::with(&mut steps)?;
    steps.step("building farrier and its agent");
    let programs = build::programs()?;
    steps.step("a private LAN with the server on it");
    let folder = prepared.lab.scratch("up")?;
    let lan = Lan::new()?;
    let server = lan.server()?;
    let _router = lan.router(&folder)?;
    let _ = (
        &programs,
        &server,
        options.once,
        Duration::ZERO,
        &prepared.loaders,
        &prepared.kernel,
        &prepared.golden,
    );
    bail!("the server's part of this command is not written yet");
}
