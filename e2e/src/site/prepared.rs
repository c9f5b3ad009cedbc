//! What a site begins with: the built programs, and loaders and agent, made once by the product's own commands.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{Debs, Lab, command::run};

/// The built programs: `FARRIER_BIN` and `FARRIER_AGENT_BIN`, or where `cargo xtask` builds them.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The `farrier` command.
    pub farrier: PathBuf,
    /// The static agent.
    pub agent: PathBuf,
}

impl Programs {
    /// Finds them.
    ///
    /// # Errors
    /// When one was not built.
    pub fn find(lab: &Lab) -> Result<Self> {
        let built = lab
            .workspace()
            .join("target/x86_64-unknown-linux-gnu/release");
        let place = |variable: &str, name: &str| {
            let path = std::env::var_os(variable).map_or_else(|| built.join(name), PathBuf::from);
            if path.is_file() {
                Ok(path)
            } else {
                bail!("{} is not built; run `cargo xtask build`", path.display())
            }
        };
        Ok(Self {
            farrier: place("FARRIER_BIN", "farrier")?,
            agent: place("FARRIER_AGENT_BIN", "farrier-agent")?,
        })
    }
}

/// Puts loaders and agent into a data folder.
///
/// # Errors
/// When they cannot be made.
pub fn fill(lab: &Lab, programs: &Programs, data: &Path) -> Result<()> {
    // Held until the copy is made: a run with other programs would prepare its own in the same place.
    let _lock = lab.lock("prepared")?;
    copy_folder(&prepared(lab, programs)?, data)
}

/// Makes loaders and agent now, so that no site has to wait for them: the agent is packed as tightly as it goes.
///
/// # Errors
/// When they cannot be made.
pub fn make_ready(lab: &Lab, programs: &Programs) -> Result<()> {
    let _lock = lab.lock("prepared")?;
    prepared(lab, programs).map(drop)
}

/// Loaders and agent, made once by the product's own commands and copied for each site. Needs the lock.
fn prepared(lab: &Lab, programs: &Programs) -> Result<PathBuf> {
    // Of each kind of build its own, so that they do not take turns in making it anew.
    let kind = programs.agent.parent().and_then(Path::file_name);
    let kind = kind.unwrap_or_default().to_string_lossy();
    let folder = lab.subfolder(&format!("prepared-{kind}"))?;
    let stamp = folder.join("stamp");
    let now = format!(
        "{:?} {:?}",
        modified(&programs.farrier)?,
        modified(&programs.agent)?
    );
    if fs::read_to_string(&stamp).is_ok_and(|then| then == now) {
        return Ok(folder.join("data"));
    }
    let data = folder.join("data");
    let _ = fs::remove_dir_all(&data);
    let debs = Debs::open(lab)?;
    let mut import = Command::new(&programs.farrier);
    import.args(["loader", "import", "--data"]).arg(&data);
    import.args(debs.loaders()?.into_iter().map(|deb| deb.path));
    run(&mut import)?;
    let mut build = Command::new(&programs.farrier);
    build.args(["agent", "build", "--data"]).arg(&data);
    build
        .arg("--kernel")
        .arg(debs.kernel()?.path)
        .arg("--agent")
        .arg(&programs.agent);
    run(&mut build)?;
    fs::write(stamp, now).context("cannot write the stamp")?;
    Ok(data)
}

pub(super) fn leave_out(folder: &Path, ids: &[&str]) -> Result<()> {
    for entry in fs::read_dir(folder).context("no loaders")? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.ends_with(".json") && ids.iter().any(|id| name.starts_with(id)) {
            fs::remove_file(&path).with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
}

fn modified(path: &Path) -> Result<std::time::SystemTime> {
    fs::metadata(path)
        .and_then(|m| m.modified())
        .with_context(|| path.display().to_string())
}

pub(super) fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    let mut copy = Command::new("cp");
    copy.args(["--archive", "--reflink=auto"])
        .arg(from.join("."))
        .arg(to);
    run(&mut copy).map(drop)
}
