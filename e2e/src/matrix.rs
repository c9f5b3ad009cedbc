//! Every firmware that can be emulated against the real server: one [`Row`] is one machine that is powered on, and
//! what has to show on its serial line and on its timeline.
//!
//! `cargo xtask e2e firmware` runs all of them and fills the table of `docs/hardware.md`; `cargo xtask test` runs
//! those that are marked as fast.

mod core_image;
mod fleet;
mod rows;
mod stage;
mod table;

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde_json::json;

pub use fleet::Fleet;
pub use rows::{Foreign, ROWS, Role, Row};
use stage::Stage;
pub use table::{Table, write_into};

use crate::{Lab, Machine, Vm, lab::patience};

/// Firmware that tries IPv4 in vain first needs 72 s for it.
const BOOT: Duration = Duration::from_secs(150);
/// What is on the screen is on the timeline soon after.
const TOLD: Duration = Duration::from_secs(15);

/// What came of a row.
#[derive(Debug)]
pub struct Outcome {
    /// Which row.
    pub row: Row,
    /// Firmware and emulator, by their packages' versions.
    pub versions: String,
    /// Seconds from power-on to the marker, and the processor's share of them; or what went wrong.
    pub seen: Result<Seen>,
}

/// How long it took.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// By the clock.
    pub seconds: f64,
    /// What the emulator used.
    pub cpu: f64,
}

/// The rows that every test run does.
pub fn fast() -> impl Iterator<Item = &'static Row> {
    ROWS.iter().filter(|row| row.fast)
}

/// The emulators and firmware that they need.
#[must_use]
pub fn fast_packages() -> Vec<&'static str> {
    let mut packages: Vec<_> = fast().flat_map(|row| row.firmware.packages()).collect();
    packages.sort_unstable();
    packages.dedup();
    packages.into_iter().copied().collect()
}

/// Runs one row. `number` tells its machine from those of other rows.
#[must_use]
pub fn run(lab: &Lab, row: Row, number: u8) -> Outcome {
    let seen = boot(lab, row, number).with_context(|| row.name);
    Outcome {
        row,
        versions: versions(row.firmware.packages()),
        seen,
    }
}

fn boot(lab: &Lab, row: Row, number: u8) -> Result<Seen> {
    let stage = Stage::set_up(lab, &row)?;
    let machine = machine(&row, number);
    if !row.asks_for_script {
        // Strangers get a timeline when they ask for their script.
        let known = json!({ "macs": [machine.mac()] });
        stage.site().post("machines", &known)?;
    }
    watch(&row, &machine, &stage)
}

fn machine(row: &Row, number: u8) -> Machine {
    let mut machine = Machine::new(row.name, row.firmware, number);
    if let Some(card) = row.card {
        machine = machine.card(card);
    }
    if let Some(memory) = row.memory {
        machine = machine.memory(memory);
    }
    machine
}

/// Powers a row's machine on until all that has to show has shown.
fn watch(row: &Row, machine: &Machine, stage: &Stage) -> Result<Seen> {
    let mut vm = machine.start(stage.lan(), stage.folder())?;
    if let Some(line) = row.typed {
        stop_autoboot(&mut vm)?;
        vm.type_line(line)?;
    }
    let seconds = vm.wait_for(row.marker, BOOT)?;
    let cpu = vm.cpu_seconds();
    for words in row.told {
        stage
            .site()
            .wait_for(machine.mac(), words, TOLD)
            .with_context(|| vm.tail())?;
    }
    Ok(Seen { seconds, cpu })
}

/// U-Boot counts two seconds down and starts something unless a key comes. One that came before stops it as well, so
/// keys come all the time and nobody has to be quick.
fn stop_autoboot(vm: &mut Vm) -> Result<()> {
    let started = Instant::now();
    loop {
        vm.type_line("")?;
        match vm.shows_within(&["=> "], Duration::from_millis(500)) {
            Err(error) if started.elapsed() > patience(BOOT) => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(100)),
            Ok(_) => return Ok(()),
        }
    }
}

/// `ovmf 2022.11, QEMU 7.2`: the upstream parts of the versions.
fn versions(packages: &[&str]) -> String {
    let of = |package: &&str| {
        let mut query = crate::command::command("dpkg-query", ["-W", "-f", "${Version}"]);
        let told = crate::command::run(query.arg(package)).ok()?;
        let upstream = told.rsplit(':').next()?.split(['-', '+']).next()?;
        Some(match package.strip_prefix("qemu-system") {
            Some(_) => format!("QEMU {upstream}"),
            None => format!("{package} {upstream}"),
        })
    };
    let mut told: Vec<String> = packages.iter().filter_map(of).collect();
    told.sort();
    told.dedup();
    told.join(", ")
}
