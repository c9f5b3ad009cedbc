//! Where the lab keeps its files, and whether this machine can run it.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::fs::FlockOperation;

/// The lab's folder; see [`Lab::open`].
#[derive(Debug, Clone)]
pub struct Lab {
    folder: PathBuf,
    workspace: PathBuf,
}

impl Lab {
    /// Opens the lab folder, `target/lab` of the workspace unless `FARRIER_LAB_DIR` names another.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open() -> Result<Self> {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("the end-to-end crate lies outside of a workspace")?
            .to_path_buf();
        let folder = std::env::var_os("FARRIER_LAB_DIR")
            .map_or_else(|| workspace.join("target/lab"), PathBuf::from);
        fs::create_dir_all(&folder).with_context(|| {
            format!(
                "cannot make the lab folder {}; set FARRIER_LAB_DIR to another place",
                folder.display()
            )
        })?;
        let folder = fs::canonicalize(&folder)
            .with_context(|| format!("cannot open {}", folder.display()))?;
        Ok(Self { folder, workspace })
    }

    /// The lab's own folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The root of the source tree.
    #[must_use]
    pub fn workspace(&self) -> &Path {
        &self.workspace
    }

    /// A folder below the lab folder, made if absent.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn subfolder(&self, name: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }

    /// An empty folder for one run of one test or scenario; what an earlier run left there is removed.
    ///
    /// # Errors
    /// When it cannot be emptied or made.
    pub fn scratch(&self, name: &str) -> Result<PathBuf> {
        let path = self.folder.join("runs").join(name);
        if path.exists() {
            fs::remove_dir_all(&path)
                .with_context(|| format!("cannot empty {}", path.display()))?;
        }
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }

    /// Waits until no one else makes the thing called `name`, and keeps others waiting until the value is dropped.
    ///
    /// # Errors
    /// When the lock file cannot be made.
    pub fn lock(&self, name: &str) -> Result<Lock> {
        let path = self.folder.join(format!("{name}.lock"));
        let file =
            File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive)
            .with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(Lock { _file: file })
    }
}

/// How long to wait for what must come, and comes within `timeout` on a machine with nothing else to do.
///
/// Only who fails waits so long, so it is ample: the load is that of the last minute, and of a process that is kept
/// from running for some seconds nothing shows in it.
#[must_use]
pub fn patience(timeout: Duration) -> Duration {
    stretched(timeout.max(SHORTEST) * 2)
}

/// Waits until `done` says so, as long as anything that must come is waited for.
///
/// # Errors
/// When that is never.
pub fn until(what: &str, mut done: impl FnMut() -> bool) -> Result<()> {
    let started = Instant::now();
    while !done() {
        if started.elapsed() > patience(SHORTEST) {
            bail!("this did not come about: {what}");
        }
        thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// A process that has to do something may have to wait for the processor first.
const SHORTEST: Duration = Duration::from_secs(30);

/// What takes `time` on a machine with nothing else to do takes so long on this one now.
///
/// An emulator gets only its share of a loaded machine, so the time grows with the load per core, sixfold at most.
#[must_use]
pub fn stretched(time: Duration) -> Duration {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = load
        .split(' ')
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or(1.0);
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let share = load / f64::from(u32::try_from(cores).unwrap_or(1));
    time.mul_f64(share.clamp(1.0, 6.0))
}

/// Held while one process or thread makes something in the lab folder that others wait for.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Says why the virtual LAN cannot run on this machine, if it cannot.
///
/// # Errors
/// Names what is missing and what to do.
pub fn check_machine() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!(
            "the virtual LAN needs network namespaces, and making them needs root; run this again as root"
        );
    }
    if !Path::new("/dev/net/tun").exists() {
        bail!(
            "/dev/net/tun is missing, so no virtual network card can be plugged in; load the module with `modprobe tun`"
        );
    }
    Ok(())
}
