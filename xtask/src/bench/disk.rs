//! Files in memory as disks. What a disk does by itself, moving bytes to and from memory, is done here by a kernel
//! thread of the loop device and charged to nobody; what a program does to reach the disk, the page cache included, is
//! charged to it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use farrier_e2e::command::{command, run};

/// A loop device; gone when dropped.
#[derive(Debug)]
pub(super) struct Disk {
    file: PathBuf,
    pub(super) device: PathBuf,
    pub(super) len: u64,
}

impl Disk {
    /// The whole of `file`.
    pub(super) fn whole(file: &Path) -> Result<Self> {
        Self::part(file, 0, fs::metadata(file)?.len())
    }

    /// `len` bytes of `file` from `start`.
    pub(super) fn part(file: &Path, start: u64, len: u64) -> Result<Self> {
        let mut losetup = command("losetup", ["--find", "--show"]);
        losetup
            .args(["--offset", &start.to_string()])
            .args(["--sizelimit", &len.to_string()])
            .arg(file);
        let device = run(&mut losetup).context("a disk of a file needs root and loop devices")?;
        Ok(Self {
            file: file.to_owned(),
            device: device.trim().into(),
            len,
        })
    }

    /// Drops what the page cache holds of it, so that the next reader has to ask the disk.
    pub(super) fn forget(&self) -> Result<()> {
        run(&mut command(
            "blockdev",
            ["--flushbufs".as_ref(), self.device.as_os_str()],
        ))
        .map(drop)
    }

    /// Makes it zeros whose memory is all there: a real disk does not grow while it is written.
    pub(super) fn blank(&self) -> Result<()> {
        self.forget()?;
        let mut out = fs::File::options().write(true).open(&self.file)?;
        let zeros = vec![0; 1 << 20];
        let mut left = self.len;
        while left > 0 {
            let some = left.min(1 << 20);
            out.write_all(&zeros[..usize::try_from(some)?])?;
            left -= some;
        }
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = command("losetup", ["--detach".as_ref(), self.device.as_os_str()]).status();
    }
}
