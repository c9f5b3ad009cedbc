//! Building the programs. All are static, as `.cargo/config.toml` says.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command},
};

use anyhow::{Context, Result, bail};
use farrier_e2e::{Lab, command::run, site::Programs};

/// The target of everything here, as in `.cargo/config.toml`.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// The switch of everything here, as there.
const STATIC: [&str; 2] = ["-C", "target-feature=+crt-static"];
/// The profile of `Cargo.toml` for programs that leave this workspace.
const SHIPPED: &str = "dist";

/// The `farrier` command and the agent in this folder.
fn in_folder(folder: &Path) -> Programs {
    Programs {
        farrier: folder.join("farrier"),
        agent: folder.join("farrier-agent"),
    }
}

/// Builds both programs with the release profile.
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
    let programs = in_folder(&built);
    check_static(&programs.agent)?;
    Ok(programs)
}

/// All tests and what they test while they are built, which is ended when this is dropped.
#[derive(Debug)]
pub(crate) struct Building(Child);

impl Building {
    /// Starts to build everything that is tested at once: what the packages share, they share with the same features.
    pub(crate) fn everything() -> Result<Self> {
        let mut cargo = cargo_command()?;
        cargo
            .args(["test", "--workspace", "--locked", "--no-run"])
            .args(["--lib", "--bins", "--examples", "--test", "*"]);
        cargo.spawn().map(Self).context("cannot start cargo")
    }

    /// Waits for it. The programs are built as their tests are, so that a clean checkout builds everything once; what is
    /// for debuggers is left out, since the agent's would go into each machine's memory.
    pub(crate) fn finish(mut self) -> Result<Programs> {
        let status = self.0.wait().context("cannot wait for cargo")?;
        if !status.success() {
            bail!("the tests do not build; cargo's words are above");
        }
        let built = in_folder(&target_folder()?.join(TARGET).join("debug"));
        let folder = target_folder()?.join("tested");
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let programs = in_folder(&folder);
        for (from, to) in [
            (&built.farrier, &programs.farrier),
            (&built.agent, &programs.agent),
        ] {
            // Its time stays, by which a lab knows whether its own copy is of this program.
            let mut strip = Command::new("strip");
            run(strip.args(["--preserve-dates", "-o"]).arg(to).arg(from))?;
        }
        check_static(&programs.agent)?;
        Ok(programs)
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Builds an example of a package the way the shipped programs are built, whose dependencies are there already.
pub(crate) fn shipped_example(package: &str, name: &str) -> Result<PathBuf> {
    let built = build(SHIPPED, &["--package", package, "--example", name])?;
    Ok(built.join("examples").join(name))
}

/// Builds `what` and returns the folder it is in.
pub(crate) fn build(profile: &str, what: &[&str]) -> Result<PathBuf> {
    let build = ["build", "--profile", profile, "--locked"];
    cargo(&[&build[..], what].concat(), |_| {})?;
    let folder = match profile {
        "dev" => "debug",
        other => other,
    };
    Ok(target_folder()?.join(TARGET).join(folder))
}

/// Runs cargo in the workspace, with its output shown.
pub(crate) fn cargo(arguments: &[&str], change: impl FnOnce(&mut Command)) -> Result<()> {
    let mut cargo = cargo_command()?;
    cargo.args(arguments);
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

/// Cargo in the workspace. Flags in the environment would take the place of those in `.cargo/config.toml`, and a target
/// there that of its target: both are named again beside them.
pub(crate) fn cargo_command() -> Result<Command> {
    let mut cargo = Command::new(cargo_program());
    cargo
        .current_dir(workspace()?)
        .env("CARGO_BUILD_TARGET", TARGET);
    for (variable, between) in [("CARGO_ENCODED_RUSTFLAGS", "\x1f"), ("RUSTFLAGS", " ")] {
        if let Ok(flags) = std::env::var(variable) {
            let given = flags.split(between).filter(|flag| !flag.is_empty());
            let flags: Vec<&str> = given.chain(STATIC).collect();
            cargo.env(variable, flags.join(between));
        }
    }
    Ok(cargo)
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
    let bytes = fs::read(agent).with_context(|| format!("cannot read {}", agent.display()))?;
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
    use std::fs;

    use super::has_interpreter;

    #[test]
    fn dynamic_program_is_told_from_other_files() {
        let own = fs::read("/proc/self/exe").unwrap();
        assert_eq!(has_interpreter(&own), Some(false));
        let shell = fs::read("/bin/sh").unwrap();
        assert_eq!(has_interpreter(&shell), Some(true));
        assert_eq!(has_interpreter(b"#!/bin/sh\n"), None);
        assert_eq!(has_interpreter(&own[..100]), None);
    }
}
