//! A machine that is powered on.

use std::{
    fs,
    io::{self, BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Child,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{CARD, console::plain, sockets::Sockets};
use crate::{command::last_lines, lab::patience};

const POLL: Duration = Duration::from_millis(100);
/// An emulator answers between two pieces of its machine's work.
const ANSWER: Duration = Duration::from_secs(120);

/// Words on the console behind which nothing more will come.
const DEAD_ENDS: &[&str] = &[
    "No bootable device",
    "Kernel panic",
    "grub rescue>",
    "grub>",
    "iPXE>",
    "Shell>",
    "UEFI Interactive Shell",
    "You are in emergency mode",
    "(initramfs)",
];

/// A machine that is powered on; dropping it cuts the power.
#[derive(Debug)]
pub struct Vm {
    pub(super) name: String,
    pub(super) child: Child,
    pub(super) console: PathBuf,
    pub(super) errors: PathBuf,
    pub(super) sockets: Sockets,
    pub(super) started: Instant,
    /// How much of the console text was passed by [`Vm::wait_for`].
    pub(super) read: usize,
    pub(super) keyboard: Option<UnixStream>,
}

impl Vm {
    /// Waits until `marker` shows on the console, behind what an earlier wait found, and returns the seconds since power-on.
    ///
    /// # Errors
    /// When the machine stops at a known prompt, ends, or the time is up; the error shows the end of the console.
    pub fn wait_for(&mut self, marker: &str, timeout: Duration) -> Result<f64> {
        self.wait_for_any(&[marker], timeout)
            .map(|_| self.started.elapsed().as_secs_f64())
    }

    /// Waits for the first of several markers and returns which one it was.
    ///
    /// # Errors
    /// As [`Vm::wait_for`].
    pub fn wait_for_any(&mut self, markers: &[&str], timeout: Duration) -> Result<usize> {
        self.look_for(markers, || patience(timeout))
    }

    /// Looks for the first of several markers for `time` by the clock and no longer, as for what must not show.
    ///
    /// # Errors
    /// As [`Vm::wait_for`].
    pub fn shows_within(&mut self, markers: &[&str], time: Duration) -> Result<usize> {
        self.look_for(markers, || time)
    }

    fn look_for(&mut self, markers: &[&str], limit: impl Fn() -> Duration) -> Result<usize> {
        let started = Instant::now();
        loop {
            let text = self.console();
            let new = text.get(self.read..).unwrap_or_default();
            let found = |word: &str| new.find(word).map(|at| at + word.len());
            let first = (0..markers.len())
                .filter_map(|n| Some((found(markers[n])?, n)))
                .min();
            if let Some((end, number)) = first {
                self.read += end;
                return Ok(number);
            }
            if let Some(stop) = DEAD_ENDS.iter().find(|word| new.contains(**word)) {
                bail!(
                    "{} stopped at `{stop}` instead of {markers:?}:\n{}",
                    self.name,
                    self.tail()
                );
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                bail!(
                    "{} ended with {status} before {markers:?}:\n{}\n{}",
                    self.name,
                    self.complaints(),
                    self.tail()
                );
            }
            let limit = limit();
            if started.elapsed() > limit {
                bail!(
                    "{} did not show {markers:?} within {limit:?}:\n{}",
                    self.name,
                    self.tail()
                );
            }
            thread::sleep(POLL);
        }
    }

    /// The console so far, without its colours and cursor movements.
    #[must_use]
    pub fn console(&self) -> String {
        plain(&fs::read(&self.console).unwrap_or_default())
    }

    /// The end of the console.
    #[must_use]
    pub fn tail(&self) -> String {
        last_lines(&self.console(), 25)
    }

    /// Types a line on the console.
    ///
    /// # Errors
    /// When the console's socket does not take it.
    pub fn type_line(&mut self, line: &str) -> Result<()> {
        if self.keyboard.is_none() {
            self.keyboard = Some(self.plug_keyboard()?);
        }
        let keyboard = self
            .keyboard
            .as_mut()
            .context("the console has no keyboard")?;
        keyboard
            .write_all(format!("{line}\n").as_bytes())
            .context("cannot type on the console")
    }

    /// Presses one key of the machine's own keyboard, by QEMU's name for it, such as `m` or `ret`.
    ///
    /// # Errors
    /// When the emulator does not know the key.
    pub fn press(&self, key: &str) -> Result<()> {
        let keys = json!({ "keys": [{ "type": "qcode", "data": key }] });
        self.control("send-key", &keys).map(drop)
    }

    /// Presses the reset button. Later waits see what the console shows from then on.
    ///
    /// # Errors
    /// When the emulator does not answer.
    pub fn reset(&mut self) -> Result<()> {
        self.control("system_reset", &json!({}))?;
        // The last letter may have come by half.
        self.read = self.console().trim_end_matches('\u{fffd}').len();
        Ok(())
    }

    /// Takes a picture of the screen as a PPM file.
    ///
    /// # Errors
    /// When the emulator does not answer, or the machine has no screen.
    pub fn screenshot(&self, file: &Path) -> Result<()> {
        self.control("screendump", &json!({ "filename": file }))
            .map(drop)
    }

    /// From its next start on the machine asks its disks before the network, as somebody sets in the firmware.
    ///
    /// # Errors
    /// When the emulator does not answer.
    pub fn put_network_last(&self) -> Result<()> {
        let last = json!({
            "path": format!("/machine/peripheral/{CARD}"), "property": "bootindex", "value": 9,
        });
        self.control("qom-set", &last).map(drop)
    }

    /// Lets the cable of the network card be plugged or not.
    ///
    /// # Errors
    /// When the emulator does not answer.
    pub fn set_link(&self, up: bool) -> Result<()> {
        self.control("set_link", &json!({ "name": "n0", "up": up }))
            .map(drop)
    }

    /// Cuts the power, keeping all that was written to the disks.
    ///
    /// # Errors
    /// When the emulator does not end.
    pub fn power_off(mut self) -> Result<()> {
        self.control("quit", &json!({}))?;
        self.child.wait().context("cannot wait for QEMU").map(drop)
    }

    /// Waits until the machine has turned itself off.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn wait_for_power_off(&mut self, timeout: Duration) -> Result<()> {
        let started = Instant::now();
        while self
            .child
            .try_wait()
            .context("cannot wait for QEMU")?
            .is_none()
        {
            if started.elapsed() > patience(timeout) {
                bail!(
                    "{} did not turn itself off within {timeout:?}:\n{}",
                    self.name,
                    self.tail()
                );
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// Seconds since power-on.
    #[must_use]
    pub fn elapsed(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// CPU seconds that the emulator has used, which a busy machine does not falsify.
    #[must_use]
    pub fn cpu_seconds(&self) -> f64 {
        let stat =
            fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        let ticks = |field: usize| {
            fields
                .get(field)
                .and_then(|word| word.parse::<u32>().ok())
                .unwrap_or(0)
        };
        // Linux counts in hundredths here on every architecture.
        f64::from(ticks(11) + ticks(12)) / 100.0
    }

    /// Seconds that the emulator was ready to run and had to wait for a processor, since it was started: time that
    /// passes by the clock and is lost for the machine. Of its threads, the one that waited longest counts.
    #[must_use]
    pub fn kept_waiting(&self) -> f64 {
        let threads = fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let waited = threads
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|thread| {
                // On the processor, on a run queue (both in nanoseconds), and how often.
                let told = fs::read_to_string(thread.path().join("schedstat")).ok()?;
                told.split(' ').nth(1)?.parse().ok()
            });
        Duration::from_nanos(waited.max().unwrap_or(0)).as_secs_f64()
    }

    fn control(&self, name: &str, arguments: &Value) -> Result<Value> {
        let socket =
            UnixStream::connect(&self.sockets.control).context("cannot reach the emulator")?;
        socket
            .set_read_timeout(Some(ANSWER))
            .context("cannot limit the wait for the emulator")?;
        let mut lines = BufReader::new(
            socket
                .try_clone()
                .context("cannot read from the emulator")?,
        )
        .lines();
        let say =
            |value: &Value| writeln!(&socket, "{value}").context("cannot write to the emulator");
        say(&json!({ "execute": "qmp_capabilities" }))?;
        say(&json!({ "execute": name, "arguments": arguments }))?;
        let mut answers = 0;
        for line in lines.by_ref() {
            let line = line.context("the emulator does not answer")?;
            let answer: Value = serde_json::from_str(&line)
                .context("the emulator answers in an unknown language")?;
            if let Some(error) = answer.get("error") {
                bail!("the emulator refuses `{name}`: {error}");
            }
            if let Some(result) = answer.get("return") {
                answers += 1;
                if answers == 2 {
                    return Ok(result.clone());
                }
            }
        }
        // `quit` may close the line before its answer.
        Ok(Value::Null)
    }

    /// Connects to the console and stays: the serial port takes 16 bytes at a time, and what it has not taken when the
    /// connection closes is lost. What the console says arrives here too and is thrown away; it is in the log file.
    fn plug_keyboard(&self) -> Result<UnixStream> {
        let keyboard =
            UnixStream::connect(&self.sockets.console).context("cannot reach the console")?;
        let mut screen = keyboard.try_clone().context("cannot read the console")?;
        thread::spawn(move || io::copy(&mut screen, &mut io::sink()));
        Ok(keyboard)
    }

    pub(super) fn wait_until_controllable(&mut self) -> Result<()> {
        let deadline = Instant::now() + ANSWER;
        while !self.sockets.control.exists() {
            if let Ok(Some(status)) = self.child.try_wait() {
                bail!("QEMU ended at once with {status}: {}", self.complaints());
            }
            if Instant::now() > deadline {
                bail!("QEMU does not come up: {}", self.complaints());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn complaints(&self) -> String {
        fs::read_to_string(&self.errors).unwrap_or_default()
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.sockets.remove();
    }
}
