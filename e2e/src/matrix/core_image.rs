//! GRUB for Open Firmware. No package has it ready, so it is made as a person would: by `grub-mkimage`, of the
//! modules in Debian's package for POWER.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::command::{command, run};

/// What our scripts need, and what makes GRUB find its first script by itself.
const MODULES: &[&str] = &[
    "boot",
    "configfile",
    "echo",
    "ls",
    "net",
    "normal",
    "ofnet",
    "regexp",
    "sleep",
    "test",
    "tftp",
];

pub(super) fn build(package: &Path, folder: &Path) -> Result<PathBuf> {
    let modules = package.join("usr/lib/grub/powerpc-ieee1275");
    let image = folder.join("core.elf");
    run(command(
        "grub-mkimage",
        ["--format=powerpc-ieee1275", "--prefix=()/boot/grub"],
    )
    .arg("--directory")
    .arg(&modules)
    .arg("--output")
    .arg(&image)
    .args(MODULES))?;
    Ok(image)
}
