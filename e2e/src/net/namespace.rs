//! Network namespaces: made, entered, and taken away with whatever lives in them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{
    command::{command, run},
    lab,
};

/// All namespaces of all labs begin so.
pub(super) const PREFIX: &str = "farrier-lab-";

/// Removes what labs of ended processes left behind, and returns how many namespaces that were.
///
/// # Errors
/// When this is not run as root.
pub fn clean() -> Result<usize> {
    lab::check_machine()?;
    let mut removed = 0;
    for namespace in namespaces(PREFIX) {
        let owner = namespace[PREFIX.len()..]
            .split('-')
            .next()
            .unwrap_or_default();
        if !Path::new("/proc").join(owner).exists() {
            remove(&namespace);
            removed += 1;
        }
    }
    Ok(removed)
}

pub(super) fn enter(namespace: &str) -> Result<()> {
    let path = PathBuf::from("/run/netns").join(namespace);
    let file = fs::File::open(&path)
        .with_context(|| format!("cannot open the namespace {}", path.display()))?;
    use std::os::fd::AsFd;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .with_context(|| format!("cannot enter the namespace {namespace}"))
}

pub(super) fn namespace_command(namespace: &str, program: &str) -> Command {
    command(
        "ip",
        [
            "netns",
            "exec",
            namespace,
            "setpriv",
            "--pdeathsig",
            "KILL",
            "--",
            program,
        ],
    )
}

pub(super) fn add_namespace(name: &str) -> Result<()> {
    run(&mut command("ip", ["netns", "add", name]))?;
    in_namespace(name, ["link", "set", "lo", "up"])?;
    Ok(())
}

pub(super) fn in_namespace<const N: usize>(namespace: &str, words: [&str; N]) -> Result<String> {
    run(command("ip", ["-n", namespace]).args(words))
}

pub(super) fn namespaces(prefix: &str) -> Vec<String> {
    let entries = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let starts = |name: &String| {
        name.strip_prefix(prefix)
            .is_some_and(|rest| prefix == PREFIX || rest.starts_with('-'))
    };
    names.filter(starts).collect()
}

pub(super) fn remove(namespace: &str) {
    let pids = run(&mut command("ip", ["netns", "pids", namespace])).unwrap_or_default();
    for pid in pids
        .split_whitespace()
        .filter_map(|word| rustix::process::Pid::from_raw(word.parse().ok()?))
    {
        // A relay thread lives in the namespace but belongs to this very process.
        if pid != rustix::process::getpid() {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
    let _ = run(&mut command("ip", ["netns", "del", namespace]));
}
