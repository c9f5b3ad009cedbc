//! What the person in front of the machine sees, and the log that the server gets.
//!
//! Plain lines only: the same text goes to a monitor, to a serial line that somebody records, and to the
//! server's timeline.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::sync::Mutex;

/// Lines kept for the server while it is away; the oldest go first.
const KEPT_LINES: usize = 500;

/// A line longer than this is cut: names and reasons may come from outside.
const LINE_LEN: usize = 400;

/// All consoles of this machine.
#[derive(Debug, Default)]
pub struct Screen {
    consoles: Mutex<Vec<File>>,
    unsent: Mutex<VecDeque<String>>,
}

impl Screen {
    /// A screen that shows on every console the kernel uses. The kernel itself copies a program's output
    /// to one of them only.
    #[must_use]
    pub fn of_machine() -> Self {
        let listed = fs::read_to_string("/proc/consoles").unwrap_or_default();
        let names = listed
            .lines()
            .filter_map(|line| line.split_ascii_whitespace().next());
        let open = |path: String| OpenOptions::new().write(true).open(path).ok();
        let mut consoles: Vec<File> = names
            .filter_map(|name| open(format!("/dev/{name}")))
            .collect();
        if consoles.is_empty() {
            consoles.extend(open("/dev/console".to_owned()));
        }
        Self {
            consoles: Mutex::new(consoles),
            unsent: Mutex::default(),
        }
    }

    /// Shows a line and keeps it for the server.
    pub fn say(&self, line: impl AsRef<str>) {
        let line = printable(line.as_ref());
        self.write(&line);
        let mut unsent = lock(&self.unsent);
        if unsent.len() == KEPT_LINES {
            unsent.pop_front();
        }
        unsent.push_back(line);
    }

    /// Shows a line that the server knows anyway.
    pub fn show(&self, line: impl AsRef<str>) {
        self.write(&printable(line.as_ref()));
    }

    /// Takes up to `most` lines that the server has not got.
    pub fn take_unsent(&self, most: usize) -> Vec<String> {
        let mut unsent = lock(&self.unsent);
        let count = most.min(unsent.len());
        unsent.drain(..count).collect()
    }

    /// Puts lines back that could not be sent, as far as there is room.
    pub fn put_back(&self, lines: Vec<String>) {
        let mut unsent = lock(&self.unsent);
        for line in lines.into_iter().rev() {
            if unsent.len() < KEPT_LINES {
                unsent.push_front(line);
            }
        }
    }

    /// A console that cannot be written to is no reason to stop working.
    fn write(&self, line: &str) {
        let text = format!("farrier-agent: {line}\n");
        for console in lock(&self.consoles).iter_mut() {
            let _ = console.write_all(text.as_bytes());
        }
    }
}

/// A panicking thread leaves the lists whole, so its poison means nothing here.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Control characters from outside must not drive the terminal.
fn printable(line: &str) -> String {
    let shown = |c: char| if c.is_control() { ' ' } else { c };
    line.chars().take(LINE_LEN).map(shown).collect()
}

/// `1234567` as `1.2 MB`.
#[must_use]
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if count < 1000 {
        return format!("{count} B");
    }
    let mut scaled = count;
    let mut unit = 0;
    while scaled >= 1_000_000 && unit + 1 < UNITS.len() {
        scaled /= 1000;
        unit += 1;
    }
    format!("{}.{} {}", scaled / 1000, scaled % 1000 / 100, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::{KEPT_LINES, Screen, bytes};

    #[test]
    fn lines_wait_for_the_server_in_order() {
        let screen = Screen::default();
        screen.say("one");
        screen.say("two\u{1b}[2J");
        screen.show("not for the server");
        let taken = screen.take_unsent(1);
        assert_eq!(taken, ["one"]);
        screen.put_back(taken);
        assert_eq!(screen.take_unsent(9), ["one", "two [2J"]);
    }

    #[test]
    fn r2_a_server_that_stays_away_does_not_fill_the_memory() {
        let screen = Screen::default();
        for number in 0..2 * KEPT_LINES {
            screen.say(number.to_string());
        }
        let kept = screen.take_unsent(usize::MAX);
        assert_eq!((kept.len(), kept[0].as_str()), (KEPT_LINES, "500"));
    }

    #[test]
    fn sizes_read_well() {
        let cases = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (1_234_567, "1.2 MB"),
            (8_589_934_592, "8.5 GB"),
        ];
        for (count, text) in cases {
            assert_eq!(bytes(count), text);
        }
        assert_eq!(bytes(u64::MAX), "18446.7 PB");
    }
}
