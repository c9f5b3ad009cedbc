//! The pipes that others use, run on a loop device, and what they cost.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use farrier_e2e::command::{command, is_installed, run};
use serde_json::Value;

#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    pub(super) cpu_s: f64,
    pub(super) bytes: u64,
}

/// A partition as a loop device; detached on drop.
#[derive(Debug)]
pub(super) struct Loop {
    pub(super) path: String,
    pub(super) len: u64,
}

impl Loop {
    /// The largest partition of a raw disk.
    pub(super) fn of_ext(disk: &Path, read_only: bool) -> Result<Self> {
        let table = run(&mut command("sfdisk", ["-J".as_ref(), disk.as_os_str()]))?;
        let table: Value = serde_json::from_str(&table)?;
        let sector = table["partitiontable"]["sectorsize"]
            .as_u64()
            .unwrap_or(512);
        let partitions = table["partitiontable"]["partitions"].as_array();
        let places = partitions
            .into_iter()
            .flatten()
            .filter_map(|p| Some((p["size"].as_u64()?, p["start"].as_u64()?)));
        let (size, start) = places
            .max()
            .with_context(|| format!("{} has no partitions", disk.display()))?;
        Self::attach(disk, start * sector, size * sector, read_only)
    }

    fn attach(file: &Path, offset: u64, len: u64, read_only: bool) -> Result<Self> {
        let mut losetup = command("losetup", ["--find", "--show"]);
        losetup.args([
            "--offset",
            &offset.to_string(),
            "--sizelimit",
            &len.to_string(),
        ]);
        if read_only {
            losetup.arg("--read-only");
        }
        let path = run(losetup.arg(file))?.trim().to_owned();
        Ok(Self { path, len })
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = command("losetup", ["--detach", &self.path]).status();
    }
}

pub(super) fn check_installed() -> Result<()> {
    for program in [
        "partclone.ext4",
        "partclone.restore",
        "zstd",
        "zstdmt",
        "sfdisk",
        "debugfs",
        "losetup",
    ] {
        if !is_installed(program) {
            bail!("{program} is missing: apt-get install partclone zstd fdisk e2fsprogs mount");
        }
    }
    Ok(())
}

/// As Clonezilla calls them.
pub(super) fn clonezilla(device: &Loop, to: &Path) -> Result<Cost> {
    let pipe = format!(
        "partclone.ext4 -q -c -a0 -s {} -o - | zstd -q -3 -T2 > '{}'",
        device.path,
        to.display()
    );
    measured(&pipe, to)
}

/// As FOG's init calls them.
pub(super) fn fog(device: &Loop, to: &Path) -> Result<Cost> {
    let flags = "--rsyncable --ultra -q -3";
    let pipe = format!(
        "partclone.ext4 -N -f1 -c -a0 -s {} -o - | zstdmt {flags} > '{}'",
        device.path,
        to.display()
    );
    measured(&pipe, to)
}

/// To a blank disk.
pub(super) fn restore(from: &Path, len: u64, to: &Path) -> Result<Cost> {
    let _ = fs::remove_file(to);
    fs::File::create(to)?.set_len(len)?;
    let device = Loop::attach(to, 0, len, false)?;
    let pipe = format!(
        "zstd -q -dc '{}' | partclone.restore -q -C --ignore_crc -s - -o {} && sync -d {}",
        from.display(),
        device.path,
        device.path
    );
    let cost = measured(&pipe, from)?;
    drop(device);
    fs::remove_file(to)?;
    Ok(cost)
}

/// Runs a pipe; `bytes` is the size of `file` after it.
fn measured(pipe: &str, file: &Path) -> Result<Cost> {
    let before = children_cpu_s()?;
    let script = format!("set -o pipefail; export TERM=linux; {pipe}");
    let output = command("bash", ["-c", &script]).output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        bail!(
            "`{pipe}` failed: {}",
            farrier_e2e::command::last_lines(&said, 5)
        );
    }
    Ok(Cost {
        cpu_s: children_cpu_s()? - before,
        bytes: fs::metadata(file)?.len(),
    })
}

/// User and system time of all children that were waited for, theirs included. See proc(5): `cutime`, `cstime`, in
/// hundredths of a second on every Linux there is.
fn children_cpu_s() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The second field is the program's name, which may hold anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = fields
        .split_whitespace()
        .skip(13)
        .take(2)
        .map(str::parse::<f64>);
    let ticks: f64 = ticks
        .sum::<Result<f64, _>>()
        .context("/proc/self/stat has times of children")?;
    Ok(ticks / 100.0)
}
