//! What a review would look at first: format, layers, lints, documentation, licences.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};
use farrier_e2e::{Steps, report::say};

use crate::{
    build::{cargo, target_folder},
    layers, prose,
};

/// Runs all checks in order of speed and stops at the first that fails.
pub(crate) fn run() -> Result<()> {
    let mut steps = Steps::new(6);
    steps.step("format");
    cargo(&["fmt", "--all", "--check"], |_| {})?;
    steps.step("layers");
    layers::run()?;
    steps.step("documents against the tree");
    prose::run()?;
    steps.step("lints, warnings as errors");
    // All targets are those that a plain `cargo test` has, which are not all.
    for targets in [&["--all-targets"][..], &["--test", "*"]] {
        let lints = ["clippy", "--workspace", "--locked"];
        let strict = ["--", "-D", "warnings"];
        cargo(&[&lints[..], targets, &strict].concat(), |_| {})?;
    }
    steps.step("documentation, warnings as errors");
    cargo(
        &[
            "doc",
            "--workspace",
            "--no-deps",
            "--document-private-items",
            "--locked",
        ],
        |cargo| {
            // Private items are documented, so that links to them lead somewhere.
            cargo.env(
                "RUSTDOCFLAGS",
                "-D warnings -A rustdoc::private_intra_doc_links",
            );
        },
    )?;
    steps.step("licences, bans and sources");
    let status = Command::new(cargo_deny()?)
        .args(["deny", "check", "bans", "licenses", "sources"])
        .status()
        .context("cargo-deny does not start")?;
    ensure!(status.success(), "cargo-deny found something, see above");
    Ok(())
}

/// The version that `deny.toml` is written for, built on first use.
fn cargo_deny() -> Result<PathBuf> {
    let tools = target_folder()?.join("tools");
    let program = tools.join("bin/cargo-deny");
    let installed = Command::new(&program).arg("--version").output();
    let current = format!("cargo-deny {CARGO_DENY}");
    if installed.is_ok_and(|said| said.stdout.starts_with(current.as_bytes())) {
        return Ok(program);
    }
    say("      builds cargo-deny, some minutes, once");
    let tools = tools.to_string_lossy();
    let version = ["--version", CARGO_DENY];
    let install = ["install", "--locked", "--quiet", "--root", &tools];
    cargo(
        &[&install[..], &version[..], &["cargo-deny"]].concat(),
        |_| {},
    )
    .context("without cargo-deny licences, bans and sources cannot be checked; is the crate registry reachable?")?;
    Ok(program)
}

const CARGO_DENY: &str = "0.20.2";
