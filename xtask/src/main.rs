//! `cargo xtask`: everything that is done with the repository, in one place.
//!
//! `up` does the main job where it can be watched, `test` runs all tests, `ci` checks what a review would.
#![forbid(unsafe_code)]

mod bench;
mod build;
mod checks;
mod firmware;
mod fuzz;
mod layers;
mod prepare;
mod prose;
mod testing;
mod up;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use farrier_e2e::report::say;

#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    about = "Set-up, tests and checks of the repository"
)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Does the main job where it can be watched: a blank virtual machine gets an operating system over the network.
    Up(up::Options),
    /// Installs what the tests need and runs all of them.
    Test(testing::Options),
    /// Format, layers, lints, documentation and licences, then the tests.
    Ci(testing::Options),
    /// Checks who depends on whom, and that the pure crates stay pure.
    Layers,
    /// Checks the documents against the tree: named tests, complete tables, paths.
    Prose,
    /// Fuzzes every decoder and session.
    Fuzz(fuzz::Options),
    /// Builds the `farrier` command and the agent, both static.
    Build,
    /// Measures us and our peers on the same disks. Takes minutes and wants root.
    Bench {
        #[command(subcommand)]
        what: Bench,
    },
    /// Parts of the end-to-end tests that are too long for every run.
    E2e {
        #[command(subcommand)]
        what: EndToEnd,
    },
    /// The virtual LAN by itself.
    Lab {
        #[command(subcommand)]
        what: Lab,
    },
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// Capture, second version, deploy, update and verify, next to the pipes of Clonezilla and FOG.
    Image(bench::Options),
    /// DHCP, ProxyDHCP, TFTP and HTTP, next to Kea, dnsmasq, ISC dhcpd, tftpd-hpa, atftpd and nginx.
    Boot(bench::boot::Options),
    /// The highest rate of DHCP exchanges, ours and the peers'.
    Rate(bench::boot::Options),
    /// Start, memory and cost of a packet with 10 to 100,000 known machines.
    Known(bench::boot::Options),
}

#[derive(Debug, Subcommand)]
enum EndToEnd {
    /// Every firmware that can be emulated, with a table of what was seen.
    Firmware(firmware::Options),
}

#[derive(Debug, Subcommand)]
enum Lab {
    /// Installs packages, fetches loaders and the kernel, builds the golden disk.
    Prepare,
    /// Removes virtual LANs that an interrupted run left behind.
    Clean,
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("xtask: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Up(options) => up::run(&options),
        Task::Test(options) => testing::run(&options),
        Task::Ci(options) => {
            checks::run()?;
            testing::run(&options)
        }
        Task::Layers => layers::run(),
        Task::Prose => prose::run(),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::Build => build::programs().map(|built| {
            say(&format!(
                "built {} and {}",
                built.farrier.display(),
                built.agent.display()
            ));
        }),
        Task::Bench {
            what: Bench::Image(options),
        } => bench::image(&options),
        Task::Bench {
            what: Bench::Boot(options),
        } => bench::boot::run_all(&options),
        Task::Bench {
            what: Bench::Rate(options),
        } => bench::boot::rate::run_all(&options),
        Task::Bench {
            what: Bench::Known(options),
        } => bench::boot::known::run_all(&options),
        Task::E2e {
            what: EndToEnd::Firmware(options),
        } => firmware::run(&options),
        Task::Lab { what: Lab::Prepare } => prepare::run().map(drop),
        Task::Lab { what: Lab::Clean } => farrier_e2e::net::clean()
            .map(|count| say(&format!("removed {count} namespaces of ended labs"))),
    }
}
