//! `cargo xtask bench image`: what our image engine costs, next to the pipes of Clonezilla and FOG on the same
//! disks. The rounds are interleaved, so that a busy machine is unfair to all alike; CPU-seconds are what is
//! compared, since time on the wall says little on a machine that does other things. Disks are block devices whose
//! content lies in memory that was touched before. Never part of a test.

pub(crate) mod boot;
mod disk;
mod memory;
mod network;
mod peers;
mod verdict;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use farrier_e2e::{Steps, command::command, command::run, report::say};
use serde_json::Value;

use crate::{build, prepare};
use disk::Disk;
use memory::Memory;
use network::Networked;
use peers::Cost;

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
    /// `zstd -t` of the first disk: to unpack and do nothing else.
    unpack: Cost,
    ours: Vec<Value>,
    networked: Networked,
}

/// What is measured, in memory.
struct Subjects {
    disks: [Disk; 2],
    /// The ext4 of each, which is all that partclone sees.
    partitions: [Disk; 2],
    target: Disk,
    /// Last, since disks lie in it.
    memory: Memory,
}

/// Our programs.
struct Ours {
    image_bench: PathBuf,
    agent: PathBuf,
}

/// Files that make the disks as large as a small system.
const FIRST_BYTES: u64 = 500 << 20;
const SECOND_BYTES: u64 = 150 << 20;

pub(crate) fn image(options: &Options) -> Result<()> {
    if options.rounds == 0 {
        bail!("no rounds, no figures: give --rounds 1 or more");
    }
    let mut steps = Steps::new(prepare::STEPS);
    let golden = prepare::with(&mut steps)?.golden;
    build::programs()?;
    let ours = Ours {
        image_bench: build::shipped_example("farrier-image", "image_bench")?,
        agent: build::shipped_example("farrier-agent", "agent_on_files")?,
    };
    let folder = build::workspace()?.join("target/bench");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let first = match &options.disk {
        Some(disk) => disk.clone(),
        None => grown(&golden.image, &folder.join("first.raw"), 0..FIRST_BYTES)?,
    };
    let second = match &options.second {
        Some(disk) => disk.clone(),
        None => grown(
            &first,
            &folder.join("second.raw"),
            FIRST_BYTES..FIRST_BYTES + SECOND_BYTES,
        )?,
    };
    let subjects = in_memory(&folder.join("memory"), [&first, &second])?;
    let mut rounds = Vec::new();
    for number in 1..=options.rounds {
        say(&format!("round {number} of {}", options.rounds));
        rounds.push(round(&ours, &subjects)?);
    }
    say(&verdict::table(&rounds)?);
    Ok(())
}

fn in_memory(folder: &Path, disks: [&Path; 2]) -> Result<Subjects> {
    let memory = Memory::mount(folder)?;
    let files = ["first", "second"].map(|name| memory.folder.join(format!("{name}.raw")));
    for (from, to) in disks.iter().zip(&files) {
        run(&mut command(
            "cp",
            ["--sparse=always".as_ref(), from.as_os_str(), to.as_os_str()],
        ))?;
    }
    let partition = |file: &Path| {
        let (start, len) = peers::largest_partition(file)?;
        Disk::part(file, start, len)
    };
    let [first, second] = &files;
    let target = memory.folder.join("target.raw");
    let longest = fs::metadata(first)?.len().max(fs::metadata(second)?.len());
    fs::File::create(&target)?.set_len(longest)?;
    Ok(Subjects {
        disks: [Disk::whole(first)?, Disk::whole(second)?],
        partitions: [partition(first)?, partition(second)?],
        target: Disk::whole(&target)?,
        memory,
    })
}

fn round(ours: &Ours, subjects: &Subjects) -> Result<Round> {
    let folder = &subjects.memory.folder;
    let packed = [folder.join("first.pcl.zst"), folder.join("second.pcl.zst")];
    let fog = folder.join("fog.pcl.zst");
    let [first, second] = &subjects.partitions;
    let clonezilla = [
        peers::clonezilla(first, &packed[0])?,
        peers::clonezilla(second, &packed[1])?,
    ];
    let fog_cost = peers::fog(first, &fog)?;
    fs::remove_file(&fog)?;
    let unpack = peers::unpack(&packed[0])?;
    let measured = measure_ours(&ours.image_bench, subjects)?;
    let restore = [
        peers::restore(&packed[0], &subjects.target)?,
        peers::restore(&packed[1], &subjects.target)?,
    ];
    subjects.target.blank()?;
    let site = folder.join("site");
    fs::create_dir_all(&site)?;
    let networked = network::measure(&ours.agent, &subjects.disks, &subjects.target, &site)?;
    fs::remove_dir_all(&site)?;
    Ok(Round {
        clonezilla,
        fog: fog_cost,
        restore,
        unpack,
        ours: measured,
        networked,
    })
}

/// Runs our engine over both disks, its two ends in one process; one JSON object per job.
fn measure_ours(program: &Path, subjects: &Subjects) -> Result<Vec<Value>> {
    let store = subjects.memory.folder.join("store");
    let _ = fs::remove_dir_all(&store);
    subjects.target.blank()?;
    for disk in &subjects.disks {
        disk.forget()?;
    }
    let [first, second] = &subjects.disks;
    let mut bench = command(
        &program.display().to_string(),
        [first.device.as_os_str(), store.as_os_str()],
    );
    bench
        .arg("--second")
        .arg(&second.device)
        .arg("--target")
        .arg(&subjects.target.device)
        .arg("--json");
    let printed = run(&mut bench)?;
    let jobs: Result<Vec<Value>, _> = printed.lines().map(serde_json::from_str).collect();
    fs::remove_dir_all(&store)?;
    jobs.context("image_bench prints one JSON object per line")
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
    // Both tools take a byte offset behind the name, as libext2fs does.
    let (start, _) = peers::largest_partition(to)?;
    let device = format!("{}?offset={start}", to.display());
    run(&mut command(
        "debugfs",
        [
            "-w".as_ref(),
            "-f".as_ref(),
            commands.as_os_str(),
            device.as_ref(),
        ],
    ))?;
    // The counters that debugfs leaves are put right; a capture refuses a file system that contradicts itself.
    let checked = command("e2fsck", ["-fy", &device]).output()?;
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
