//! CPU time of a server and of all it starts: a control group.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use farrier_e2e::{command::command, command::run};

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A group, removed on drop with the processes that are in it.
#[derive(Debug)]
pub(super) struct Group {
    folder: PathBuf,
}

impl Group {
    pub(super) fn new() -> Result<Self> {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("farrier-bench-{}-{number}", std::process::id());
        for place in PLACES {
            let folder = Path::new(place).join(&name);
            if fs::create_dir(&folder).is_ok() {
                let group = Self { folder };
                if group.used().is_ok() {
                    return Ok(group);
                }
            }
        }
        bail!(
            "CPU time cannot be counted: no control group can be made below {PLACES:?}; run as root"
        )
    }

    /// The file that takes process ids.
    pub(super) fn processes(&self) -> PathBuf {
        self.folder.join("cgroup.procs")
    }

    /// User and system time so far.
    pub(super) fn used(&self) -> Result<Duration> {
        if let Ok(text) = fs::read_to_string(self.folder.join("cpuacct.usage")) {
            return Ok(Duration::from_nanos(text.trim().parse()?));
        }
        let text = fs::read_to_string(self.folder.join("cpu.stat"))?;
        let usage = text
            .lines()
            .find_map(|line| line.strip_prefix("usage_usec "));
        let usage = usage.context("cpu.stat has usage_usec")?;
        Ok(Duration::from_micros(usage.trim().parse()?))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // nginx's workers outlive their killed master, keep its port, and would do the next one's work uncounted.
        for _ in 0..TRIES {
            let inside = fs::read_to_string(self.processes()).unwrap_or_default();
            for pid in inside.split_whitespace() {
                let _ = run(&mut command("kill", ["-9", pid]));
            }
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            std::thread::sleep(PAUSE);
        }
    }
}

const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(20);
/// Version 1, then version 2.
const PLACES: [&str; 2] = ["/sys/fs/cgroup/cpuacct", "/sys/fs/cgroup"];
