//! What a review would look at first: format, layers, lints, documentation, licences.

use anyhow::Result;
use farrier_e2e::{Steps, command::is_installed, report::say};

use crate::{build::cargo, layers, prose};

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
    cargo(
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            "--",
            "-D",
            "warnings",
        ],
        |_| {},
    )?;
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
            cargo.env("RUSTDOCFLAGS", "-D warnings");
        },
    )?;
    steps.step("licences, bans and sources");
    if is_installed("cargo-deny") || home_has("cargo-deny") {
        cargo(&["deny", "check", "bans", "licenses", "sources"], |_| {})
    } else {
        say("      NOT CHECKED: cargo-deny is not installed here (`cargo install cargo-deny`)");
        Ok(())
    }
}

fn home_has(program: &str) -> bool {
    std::env::var_os("CARGO_HOME").is_some_and(|home| {
        std::path::Path::new(&home)
            .join("bin")
            .join(program)
            .is_file()
    })
}
