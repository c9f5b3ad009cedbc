//! `cargo xtask bench image`: what our image engine costs, next to the pipes of Clonezilla and FOG on the same
//! disks. The rounds are interleaved, so that a busy machine is unfair to all alike; CPU-seconds are what is
//! compared, since time on the wall says little on a machine that does other things. Never part of a test.

mod peers;
mod verdict;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use farrier_e2e::{Lab, command::command, command::run, report::say};
use serde_json::Value;

use crate::build;
use peers::{Cost, Loop};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// A raw disk with an ext4 partition; by default the lab's golden disk with more files.
    #[arg(long)]
    disk: Option<PathBuf>,
    /// A later version of the disk; by default the disk with more files.
    #[arg(long)]
    second: Option<PathBuf>,
    /// How often everything is run; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// What one round measured.
#[derive(Debug)]
struct Round {
    clonezilla: [Cost; 2],
    fog: Cost,
    restore: [Cost; 2],
    ours: Vec<Value>,
}

/// Files that make the disks as large as a small system.
const FIRST_BYTES: u64 = 500 << 20;
const SECOND_BYTES: u64 = 150 << 20;

pub(crate) fn image(options: &Options) -> Result<()> {
    if options.rounds == 0 {
        bail!("no rounds, no figures: give --rounds 1 or more");
    }
    peers::check_installed()?;
    build::cargo(
        &[
            "build",
            "--release",
            "--locked",
            "-p",
            "farrier-image",
            "--example",
            "image_bench",
        ],
        |_| {},
    )?;
    let ours = build::target_folder()?.join("release/examples/image_bench");
    let folder = build::workspace()?.join("target/bench");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let first = match &options.disk {
        Some(disk) => disk.clone(),
        None => grown(&golden()?, &folder.join("first.raw"), 0..FIRST_BYTES)?,
    };
    let second = match &options.second {
        Some(disk) => disk.clone(),
        None => grown(
            &first,
            &folder.join("second.raw"),
            FIRST_BYTES..FIRST_BYTES + SECOND_BYTES,
        )?,
    };
    let mut rounds = Vec::new();
    for number in 1..=options.rounds {
        say(&format!("round {number} of {}", options.rounds));
        rounds.push(round(&ours, &[first.clone(), second.clone()], &folder)?);
    }
    say(&verdict::table(&rounds)?);
    Ok(())
}

fn round(ours: &Path, disks: &[PathBuf; 2], folder: &Path) -> Result<Round> {
    let loops = [
        Loop::of_ext(&disks[0], true)?,
        Loop::of_ext(&disks[1], true)?,
    ];
    let packed = [folder.join("first.pcl.zst"), folder.join("second.pcl.zst")];
    let mut clonezilla = vec![];
    let mut restore = vec![];
    for (device, packed) in loops.iter().zip(&packed) {
        clonezilla.push(peers::clonezilla(device, packed)?);
    }
    let fog = peers::fog(&loops[0], &folder.join("fog.pcl.zst"))?;
    let ours = measure_ours(ours, disks, folder)?;
    for (device, packed) in loops.iter().zip(&packed) {
        restore.push(peers::restore(
            packed,
            device.len,
            &folder.join("restored.raw"),
        )?);
    }
    let pair = |costs: Vec<Cost>| {
        <[Cost; 2]>::try_from(costs).map_err(|_| anyhow::anyhow!("two disks give two costs"))
    };
    Ok(Round {
        clonezilla: pair(clonezilla)?,
        fog,
        restore: pair(restore)?,
        ours,
    })
}

/// Runs our engine over both disks; one JSON object per job.
fn measure_ours(program: &Path, disks: &[PathBuf; 2], folder: &Path) -> Result<Vec<Value>> {
    let (store, target) = (folder.join("store"), folder.join("target.raw"));
    let _ = fs::remove_dir_all(&store);
    let mut bench = command(
        &program.display().to_string(),
        [disks[0].as_os_str(), store.as_os_str()],
    );
    bench
        .arg("--second")
        .arg(&disks[1])
        .arg("--target")
        .arg(&target)
        .arg("--json");
    let printed = run(&mut bench)?;
    let jobs: Result<Vec<Value>, _> = printed.lines().map(serde_json::from_str).collect();
    fs::remove_dir_all(&store)?;
    fs::remove_file(&target)?;
    jobs.context("image_bench prints one JSON object per line")
}

fn golden() -> Result<PathBuf> {
    let golden = Lab::open()?.folder().join("golden/golden.raw");
    if golden.exists() {
        return Ok(golden);
    }
    bail!(
        "{} is missing; run `cargo xtask lab prepare`, or give --disk",
        golden.display()
    )
}

/// Copies a disk and puts files of this machine's `/usr/lib` into its ext4 partition: those that lie in `bytes` of all
/// of them in a row.
fn grown(disk: &Path, to: &Path, bytes: std::ops::Range<u64>) -> Result<PathBuf> {
    run(&mut command(
        "cp",
        ["--sparse=always".as_ref(), disk.as_os_str(), to.as_os_str()],
    ))?;
    let folder = format!("/bench-{}", bytes.start);
    let mut script = format!("mkdir {folder}\n");
    let (mut at, mut number) = (0, 0);
    let mut files = vec![];
    list(Path::new("/usr/lib"), &mut files)?;
    for (file, len) in files {
        if bytes.contains(&at) {
            script.push_str(&format!("write {} {folder}/{number}\n", file.display()));
            number += 1;
        }
        at += len;
    }
    let commands = to.with_extension("debugfs");
    fs::write(&commands, script)?;
    let device = Loop::of_ext(to, false)?;
    run(&mut command(
        "debugfs",
        [
            "-w".as_ref(),
            "-f".as_ref(),
            commands.as_os_str(),
            device.path.as_ref(),
        ],
    ))?;
    // The counters that debugfs leaves are put right; a capture refuses a file system that contradicts itself.
    let checked = command("e2fsck", ["-fy", &device.path]).output()?;
    if checked.status.code().is_none_or(|code| code > 1) {
        bail!(
            "e2fsck does not like {}: {}",
            to.display(),
            String::from_utf8_lossy(&checked.stdout)
        );
    }
    Ok(to.to_owned())
}

/// Regular files with names that debugfs can take, in a stable order.
fn list(folder: &Path, files: &mut Vec<(PathBuf, u64)>) -> Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() {
            list(&path, files)?;
        } else if kind.is_file() && path.to_str().is_some_and(|text| !text.contains([' ', '"'])) {
            files.push((path, entry.metadata()?.len()));
        }
    }
    Ok(())
}
