//! The pipes that others use, and what they cost.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use farrier_e2e::command::{command, run};
use serde_json::Value;

use super::disk::Disk;
use super::memory;

#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    pub(super) cpu_s: f64,
    pub(super) bytes: u64,
}

/// Where it starts and how long it is, in bytes.
pub(super) fn largest_partition(disk: &Path) -> Result<(u64, u64)> {
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
    Ok((start * sector, size * sector))
}

/// As Clonezilla calls them.
pub(super) fn clonezilla(partition: &Disk, to: &Path) -> Result<Cost> {
    partition.forget()?;
    let pipe = format!(
        "partclone.ext4 -q -c -a0 -s '{}' -o - | zstd -q -3 -T2 > '{}'",
        partition.device.display(),
        to.display()
    );
    measured(&pipe, to)
}

/// As FOG's init calls them.
pub(super) fn fog(partition: &Disk, to: &Path) -> Result<Cost> {
    partition.forget()?;
    let flags = "--rsyncable --ultra -q -3";
    let pipe = format!(
        "partclone.ext4 -N -f1 -c -a0 -s '{}' -o - | zstdmt {flags} > '{}'",
        partition.device.display(),
        to.display()
    );
    measured(&pipe, to)
}

/// To a blank disk: `target`, which is zeros.
pub(super) fn restore(from: &Path, target: &Disk) -> Result<Cost> {
    target.blank()?;
    let pipe = format!(
        "zstd -q -dc '{}' | partclone.restore -q -C --ignore_crc -s - -O '{}'",
        from.display(),
        target.device.display()
    );
    measured(&pipe, from)
}

/// Unpacks `from`, with zstd's checksum where it has one, and keeps nothing.
pub(super) fn unpack(from: &Path) -> Result<Cost> {
    measured(&format!("zstd -q -t '{}'", from.display()), from)
}

/// Runs a pipe; `bytes` is the size of `file` after it.
fn measured(pipe: &str, file: &Path) -> Result<Cost> {
    memory::warm_up();
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
pub(super) fn children_cpu_s() -> Result<f64> {
    ticks_in_stat("self", 13)
}

/// User and system time of a running program.
pub(super) fn cpu_s_of(pid: u32) -> Result<f64> {
    ticks_in_stat(&pid.to_string(), 11)
}

/// Two neighbouring times, `skip` fields behind the program's name.
fn ticks_in_stat(process: &str, skip: usize) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The second field is the program's name, which may hold anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let times = fields.split_whitespace().skip(skip).take(2);
    let ticks: f64 = times
        .map(str::parse::<f64>)
        .sum::<Result<f64, _>>()
        .with_context(|| format!("/proc/{process}/stat has no times"))?;
    Ok(ticks / 100.0)
}
