//! How the command ends: 0 done, 1 refused or a negative answer, 2 usage or configuration, 3 the server
//! cannot be reached, 4 a task failed.

use std::process::ExitCode;

use farrier_server::config::Faults;

/// Says what went wrong, once, and turns it into an exit code.
#[allow(clippy::print_stderr, reason = "talk goes to stderr")]
pub fn code(done: anyhow::Result<()>) -> ExitCode {
    let Err(error) = done else { return ExitCode::SUCCESS };
    eprintln!("error: {error:#}");
    if error.downcast_ref::<Faults>().is_some() { ExitCode::from(2) } else { ExitCode::from(1) }
}
