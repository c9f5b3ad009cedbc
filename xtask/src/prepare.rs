//! What both `up` and `test` need before they start: packages, loaders, kernel and the golden disk.

use anyhow::Result;
use farrier_e2e::{Debs, Lab, Steps, debs, golden::Golden, lab, net, packages};

/// What was prepared.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// The lab's folder.
    pub(crate) lab: Lab,
    /// The disk that is deployed.
    pub(crate) golden: Golden,
}

/// How many steps [`with`] announces.
pub(crate) const STEPS: usize = 3;

/// Prepares and says so, as a task of its own.
pub(crate) fn run() -> Result<Prepared> {
    with(&mut Steps::new(STEPS))
}

/// Prepares as a part of a longer task.
pub(crate) fn with(steps: &mut Steps) -> Result<Prepared> {
    let lab = Lab::open()?;
    lab::check_machine()?;
    steps.step("distribution packages");
    packages::install(packages::LAB)?;
    // Labs of killed runs would keep their memory and their programs for ever.
    net::clean()?;
    steps.step("boot loaders and the agent's kernel, fetched but not installed");
    let store = Debs::open(&lab)?;
    store.loaders()?;
    store.kernel()?;
    for package in debs::FOREIGN {
        store.fetch(package, debs::Suite::Installed)?;
    }
    steps.step("the golden disk: a small Debian to capture and deploy");
    let golden = Golden::ensure(&lab)?;
    Ok(Prepared { lab, golden })
}
