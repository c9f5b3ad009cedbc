//! Building the programs. Both are static and share one build, since they share most of their dependencies.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use farrier_e2e::Lab;

/// The target of both programs. Naming it keeps the static switch away from build scripts and macros.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// The profile of `Cargo.toml` for programs that leave this workspace.
const SHIPPED: &str = "dist";

/// The built programs.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    /// The `farrier` command.
    pub(crate) farrier: PathBuf,
    /// The static agent.
    pub(crate) agent: PathBuf,
}

/// Builds both programs with the release profile, in a target folder of their own so that the static switch does
/// not rebuild everything else.
pub(crate) fn programs() -> Result<Programs> {
    build_programs("release")
}

/// The same as they are shipped, optimised as a whole: what is measured. Takes several times as long.
pub(crate) fn shipped_programs() -> Result<Programs> {
    build_programs(SHIPPED)
}

fn build_programs(profile: &str) -> Result<Programs> {
    let built = build(
        profile,
        &["--package", "farrier", "--package", "farrier-agent"],
    )?;
    let programs = Programs {
        farrier: built.join("farrier"),
        agent: built.join("farrier-agent"),
    };
    check_static(&programs.agent)?;
    Ok(programs)
}

/// Builds an example of a package the way the shipped programs are built, whose dependencies are there already.
pub(crate) fn shipped_example(package: &str, name: &str) -> Result<PathBuf> {
    let built = build(SHIPPED, &["--package", package, "--example", name])?;
    Ok(built.join("examples").join(name))
}

/// Builds `what` and returns the folder it is in.
fn build(profile: &str, what: &[&str]) -> Result<PathBuf> {
    let target = target_folder()?.join("static");
    let build = [
        "build",
        "--profile",
        profile,
        "--locked",
        "--target",
        TARGET,
    ];
    cargo(&[&build[..], what].concat(), |cargo| {
        cargo
            .env("CARGO_TARGET_DIR", &target)
            .env("RUSTFLAGS", "-C target-feature=+crt-static");
    })?;
    Ok(target.join(TARGET).join(profile))
}

/// Runs cargo in the workspace, with its output shown.
pub(crate) fn cargo(arguments: &[&str], change: impl FnOnce(&mut Command)) -> Result<()> {
    let mut cargo = Command::new(cargo_program());
    cargo.args(arguments).current_dir(workspace()?);
    change(&mut cargo);
    let status = cargo.status().context("cannot start cargo")?;
    if !status.success() {
        bail!(
            "`cargo {}` failed; its own words are above",
            arguments.join(" ")
        );
    }
    Ok(())
}

pub(crate) fn cargo_program() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

pub(crate) fn workspace() -> Result<PathBuf> {
    Ok(Lab::open()?.workspace().to_path_buf())
}

/// Where cargo puts what it builds.
pub(crate) fn target_folder() -> Result<PathBuf> {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => Ok(PathBuf::from(folder)),
        None => Ok(workspace()?.join("target")),
    }
}

/// A dynamic agent would start in the initramfs only to miss its loader, so it is refused here.
fn check_static(agent: &Path) -> Result<()> {
    let bytes = std::fs::read(agent).with_context(|| format!("cannot read {}", agent.display()))?;
    if has_interpreter(&bytes)
        .with_context(|| format!("{} is no 64-bit ELF program", agent.display()))?
    {
        bail!(
            "{} asks for a dynamic loader, which the initramfs does not have; is `crt-static` overridden?",
            agent.display()
        );
    }
    Ok(())
}

/// Whether a 64-bit little-endian ELF file has a `PT_INTERP` segment; nothing if it is no such file.
fn has_interpreter(elf: &[u8]) -> Option<bool> {
    const PT_INTERP: u32 = 3;
    if elf.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let word = |at: usize, size: usize| -> Option<u64> {
        let mut bytes = [0; 8];
        bytes[..size].copy_from_slice(elf.get(at..at.checked_add(size)?)?);
        Some(u64::from_le_bytes(bytes))
    };
    let table = usize::try_from(word(0x20, 8)?).ok()?;
    let size = usize::try_from(word(0x36, 2)?).ok()?;
    let count = usize::try_from(word(0x38, 2)?).ok()?;
    let kinds = (0..count)
        .map(|n| word(table.checked_add(n * size)?, 4))
        .collect::<Option<Vec<_>>>()?;
    Some(kinds.contains(&u64::from(PT_INTERP)))
}

#[cfg(test)]
mod tests {
    use super::has_interpreter;

    #[test]
    fn dynamic_program_is_told_from_other_files() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        assert_eq!(has_interpreter(&own), Some(true));
        assert_eq!(has_interpreter(b"#!/bin/sh\n"), None);
        assert_eq!(has_interpreter(&own[..100]), None);
    }
}
