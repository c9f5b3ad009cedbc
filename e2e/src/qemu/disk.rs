//! Disks of a machine.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::command::{command, run};

/// How a disk is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bus {
    /// AHCI, as SATA disks are.
    Ahci,
    /// NVMe.
    Nvme,
    /// virtio-blk.
    Virtio,
}

/// A disk of a machine.
#[derive(Debug, Clone)]
pub struct Disk {
    pub(super) path: PathBuf,
    pub(super) format: &'static str,
    pub(super) bus: Bus,
    pub(super) serial: String,
}

impl Disk {
    /// A disk whose file holds its blocks one to one.
    #[must_use]
    pub fn raw(path: impl Into<PathBuf>, bus: Bus, serial: &str) -> Self {
        Self {
            path: path.into(),
            format: "raw",
            bus,
            serial: serial.to_owned(),
        }
    }

    /// A blank disk in a new sparse file.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn blank(path: impl Into<PathBuf>, bytes: u64, bus: Bus, serial: &str) -> Result<Self> {
        let path = path.into();
        let file =
            fs::File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
        file.set_len(bytes)
            .with_context(|| format!("cannot size {}", path.display()))?;
        Ok(Self::raw(path, bus, serial))
    }

    /// A disk in a new qcow2 file that takes unwritten blocks from the raw file `base`, which stays as it is.
    ///
    /// # Errors
    /// When `qemu-img` fails.
    pub fn overlay(base: &Path, path: impl Into<PathBuf>, bus: Bus, serial: &str) -> Result<Self> {
        let path = path.into();
        run(command(
            "qemu-img",
            ["create", "-q", "-f", "qcow2", "-F", "raw", "-b"],
        )
        .arg(base)
        .arg(&path))?;
        Ok(Self {
            path,
            format: "qcow2",
            bus,
            serial: serial.to_owned(),
        })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}
