//! What the lab tells the person who watches: numbered steps on the error stream.

use std::time::Instant;

/// Numbered steps of one piece of work, printed as `[3/7] what`.
#[derive(Debug)]
pub struct Steps {
    total: usize,
    done: usize,
    started: Instant,
}

impl Steps {
    /// Starts counting `total` steps.
    #[must_use]
    pub fn new(total: usize) -> Self {
        Self {
            total,
            done: 0,
            started: Instant::now(),
        }
    }

    /// Announces the next step.
    pub fn step(&mut self, what: &str) {
        self.done += 1;
        say(&format!("[{}/{}] {what}", self.done, self.total));
    }

    /// Announces a detail of the current step.
    pub fn detail(&self, what: &str) {
        say(&format!(
            "      {what} ({:.0} s since the start)",
            self.started.elapsed().as_secs_f64()
        ));
    }
}

/// Prints one line for the person who watches.
#[allow(
    clippy::print_stderr,
    reason = "talk goes to the error stream; this is the one place that talks"
)]
pub fn say(line: &str) {
    eprintln!("{line}");
}
