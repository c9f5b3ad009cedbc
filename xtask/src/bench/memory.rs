//! Where the figures are made: a file system in memory, so that no disk makes one side wait for the other.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use farrier_e2e::command::{command, run};

/// Disks, images and a target of 2 GiB each, and some air.
const NEEDED: u64 = 11 << 30;

/// A mounted file system in memory; gone when dropped.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) folder: PathBuf,
}

impl Memory {
    pub(super) fn mount(folder: &Path) -> Result<Self> {
        let free = available()?;
        if free < NEEDED {
            bail!(
                "the image bench needs {} GiB of free memory and there are {}; end something",
                NEEDED >> 30,
                free >> 30
            );
        }
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut mount = command("mount", ["-t", "tmpfs", "-o", "size=10g", "farrier-bench"]);
        run(mount.arg(folder)).context("a file system in memory needs root")?;
        Ok(Self {
            folder: folder.to_owned(),
        })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let _ = command("umount", [self.folder.as_os_str()]).status();
    }
}

/// In a virtual machine, memory that the guest has not touched of late comes from the host page by page, at a
/// tenth of the speed of everything else here. Touched and given back, it is at hand for what is measured next.
pub(super) fn warm_up() {
    let memory = vec![1_u8; 1 << 30];
    std::hint::black_box(&memory);
}

fn available() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    let kib: u64 = kib.context("/proc/meminfo has MemAvailable")?.parse()?;
    Ok(kib << 10)
}
