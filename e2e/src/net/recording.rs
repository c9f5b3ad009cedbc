//! What passes the switch, written down by tcpdump.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use memchr::memmem;

use super::{Lan, namespace::namespace_command};
use crate::{Program, command::run_with_input};

/// Records everything that passes the switch, until it is finished or dropped.
#[derive(Debug)]
pub struct Recording {
    tcpdump: Program,
    file: PathBuf,
    switch: String,
}

impl Recording {
    pub(super) fn start(lan: &Lan, file: &Path) -> Result<Self> {
        let folder = file.parent().context("a recording needs a folder")?;
        let mut tcpdump = lan.switch_command("tcpdump");
        tcpdump
            // A kernel and its RAM disk cross the switch in a second: room for 64 MiB that were not written yet.
            .args([
                "-i", "br0", "-U", "-s", "0", "-B", "65536", "-Z", "root", "-w",
            ])
            .arg(file);
        let tcpdump = Program::start("tcpdump", tcpdump, folder)?;
        tcpdump.wait_for("listening on", Duration::from_secs(10))?;
        Ok(Self {
            tcpdump,
            file: file.to_path_buf(),
            switch: lan.switch(),
        })
    }

    /// Waits until these bytes are in the file.
    ///
    /// # Errors
    /// When they do not come.
    pub fn wait_for(&self, what: &str, bytes: &[u8]) -> Result<()> {
        let finder = memmem::Finder::new(bytes);
        self.tcpdump.wait_until(what, Duration::from_secs(10), |_| {
            finder
                .find(&fs::read(&self.file).unwrap_or_default())
                .is_some()
        })
    }

    /// Ends it when all that passed the switch until now is in the file.
    ///
    /// The kernel hands frames over in their order, but only when it has gathered some, up to a second late, and
    /// tcpdump writes them when it has the processor. So a last frame is sent, and all the others are in the file when
    /// that one is.
    ///
    /// # Errors
    /// When the last frame cannot be sent, or does not come.
    pub fn finish(self) -> Result<()> {
        let mut socat = namespace_command(&self.switch, "socat");
        socat.args(["-u", "STDIN", "INTERFACE:br0"]);
        run_with_input(&mut socat, LAST)?;
        self.wait_for("the last frame", LAST)?;
        // Killed, it could leave half a frame behind, which no reader likes.
        self.tcpdump.stop(Duration::from_secs(10)).map(drop)
    }
}

/// From nobody to nobody, of a kind that is kept for experiments (IEEE 802), which hosts throw away.
const LAST: &[u8] = b"\x02farri\x02er-la\x88\xb5the recording of the lab is over with this frame\0";
