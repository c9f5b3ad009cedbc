//! `cargo xtask e2e firmware`: every firmware that can be emulated against the real server, with a table of what was
//! seen.

use std::{env, time::Instant};

use anyhow::{Result, bail};
use clap::Args;
use farrier_e2e::{
    Debs, Lab, Steps, Suite, debs, lab,
    matrix::{self, ROWS, Row, Table},
    net, packages,
    report::say,
};

use crate::build;

/// Machines of rows have numbers from here on.
const FIRST_NUMBER: u8 = 100;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only rows whose name contains this.
    filter: Option<String>,
    /// Writes what these rows showed into the table of docs/hardware.md. So does FARRIER_UPDATE=1.
    #[arg(long)]
    write: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let rows = chosen(options)?;
    let mut steps = Steps::new(rows.len() + 2);
    let lab = prepare(&rows, &mut steps)?;
    steps.step("building farrier and its agent");
    // Who names programs means those.
    if env::var_os("FARRIER_BIN").is_none() {
        build::programs()?;
    }
    let started = Instant::now();
    let mut table = Table::default();
    for (number, row) in (FIRST_NUMBER..).zip(rows) {
        steps.step(&format!("{}: {}, {}", row.name, row.way, row.role.title()));
        let outcome = matrix::run(&lab, *row, number);
        match &outcome.seen {
            Ok(seen) => steps.detail(&format!("{} after {:.1} s", row.seen, seen.seconds)),
            Err(error) => steps.detail(&format!("FAILED: {error:#}")),
        }
        table.add(outcome);
    }
    show(&table);
    let minutes = started.elapsed().as_secs_f64() / 60.0;
    say(&format!("{} rows took {minutes:.1} minutes", table.len()));
    if options.write || env::var_os("FARRIER_UPDATE").is_some() {
        matrix::write_into(&lab.workspace().join("docs/hardware.md"), &table)?;
    }
    let failed: Vec<_> = table.failures().map(|(name, _)| name).collect();
    if !failed.is_empty() {
        bail!(
            "{} of {} failed: {}",
            failed.len(),
            table.len(),
            failed.join(", ")
        );
    }
    Ok(())
}

fn chosen(options: &Options) -> Result<Vec<&'static Row>> {
    let filter = options.filter.as_deref().unwrap_or_default();
    let rows: Vec<_> = ROWS
        .iter()
        .filter(|row| row.name.contains(filter))
        .collect();
    if rows.is_empty() {
        let names: Vec<_> = ROWS.iter().map(|row| row.name).collect();
        bail!("no row is called so; there are {}", names.join(", "));
    }
    Ok(rows)
}

/// Installs the emulators that these rows need, and fetches the loaders.
fn prepare(rows: &[&Row], steps: &mut Steps) -> Result<Lab> {
    let lab = Lab::open()?;
    lab::check_machine()?;
    steps.step("distribution packages and loaders");
    let mut wanted = packages::LAB.to_vec();
    wanted.extend(rows.iter().flat_map(|row| row.firmware.packages()));
    wanted.sort_unstable();
    wanted.dedup();
    packages::install(&wanted)?;
    net::clean()?;
    let store = Debs::open(&lab)?;
    store.loaders()?;
    store.kernel()?;
    for package in debs::FOREIGN {
        store.fetch(package, Suite::Installed)?;
    }
    Ok(lab)
}

#[allow(clippy::print_stdout, reason = "the table is this command's data")]
fn show(table: &Table) {
    println!("{table}");
}
