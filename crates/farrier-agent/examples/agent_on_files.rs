//! The agent's work without a machine around it, for `cargo xtask bench image`:
//!
//! ```text
//! agent_on_files SCRIPT ROOT
//! ```
//!
//! `SCRIPT` is the boot script that the server rendered for this machine; its kernel arguments are used. The
//! disks are files in `ROOT/dev`, described in `ROOT/sys/block` as the kernel would. Everything between them and
//! the server is the agent's own: enrolment, TLS, orders, progress, chunks.
#![forbid(unsafe_code)]

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use farrier_agent::arguments::Arguments;
use farrier_agent::enrol::{Enrolled, Hardware, enrol};
use farrier_agent::screen::Screen;
use farrier_agent::work::{self, Agent};

const USAGE: &str = "usage: agent_on_files SCRIPT ROOT";

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args_os().skip(1);
    let script = std::fs::read_to_string(words.next().ok_or(USAGE)?)?;
    let root = PathBuf::from(words.next().ok_or(USAGE)?);
    let line = script
        .lines()
        .find(|line| line.contains("farrier.token="))
        .ok_or("the script starts no agent; has the machine a task?")?;
    let arguments = Arguments::parse(line)?;
    let screen = Arc::new(Screen::default());
    let Enrolled {
        client, image_keys, ..
    } = enrol(&arguments, &Hardware::default(), &screen).await?;
    let agent = Agent {
        client,
        image_keys,
        mac: arguments.mac,
        root,
        screen,
    };
    work::run(&agent).await?;
    Ok(())
}
