//! Being the first process: the mounts everything else needs, a clock that is not absurd, and never dying in
//! silence. A PID 1 that ends takes the kernel with it.

use std::fmt;
use std::fs;
use std::panic;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, SystemTime};

use rustix::mount::{MountFlags, mount};
use rustix::process::{WaitOptions, waitpid};
use rustix::system::{RebootCommand, reboot};
use rustix::time::{ClockId, Timespec, clock_settime};

use crate::net;
use crate::screen::Screen;

/// Switching a card off takes some tenths of a second.
const CARDS_WAIT: Duration = Duration::from_secs(5);
/// How long a failure stays readable before the machine restarts, unless `panic=` says otherwise.
const SHOW_FAILURE: Duration = Duration::from_secs(60);

/// A script is used within minutes, since its token is good for 15, and certificates are dated back by a day.
const TOLERATED: Duration = Duration::from_secs(3600);

/// Mounts the kernel's file systems. Failures are returned as text for the screen, which needs `/proc`.
pub fn mount_all() -> Vec<String> {
    let plain = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
    let mounts = [
        ("proc", "/proc", plain),
        ("sysfs", "/sys", plain),
        ("devtmpfs", "/dev", MountFlags::NOSUID | MountFlags::NOEXEC),
        ("tmpfs", "/run", plain),
    ];
    let mut failures = Vec::new();
    for (kind, place, flags) in mounts {
        if let Err(error) = mount(kind, place, kind, flags, None) {
            failures.push(format!("cannot mount {kind} on {place}: {error}"));
        }
    }
    failures
}

/// Mounts the firmware's variables; the module must be loaded.
pub fn mount_efivars() -> rustix::io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
    mount(
        "efivarfs",
        "/sys/firmware/efi/efivars",
        "efivarfs",
        flags,
        None,
    )
}

/// Keeps the kernel's chatter off the screen, makes a kernel panic end in a restart, and turns
/// Ctrl-Alt-Del into a signal so that it cannot cut a disk write in half.
pub fn tame_kernel() {
    let _ = fs::write("/proc/sys/kernel/printk", "3 4 1 3");
    if panic_timeout().is_zero() {
        let _ = fs::write("/proc/sys/kernel/panic", SHOW_FAILURE.as_secs().to_string());
    }
    let _ = reboot(RebootCommand::CadOff);
}

fn panic_timeout() -> Duration {
    let text = fs::read_to_string("/proc/sys/kernel/panic").unwrap_or_default();
    Duration::from_secs(text.trim().parse().unwrap_or(0))
}

/// Sets a clock that is wrong from the boot script: the server's certificate is valid neither in 1970 nor in ten
/// years.
///
/// Nobody vouches for the script, but what it says here sets the clock and nothing else: whom to trust is pinned by
/// a hash, and whoever could change the time in the script could change that hash.
pub fn fix_clock(script_time: Option<SystemTime>, screen: &Screen) {
    let Some(time) = script_time else {
        return;
    };
    let Some(wrong) = wrong(SystemTime::now(), time) else {
        return;
    };
    let Ok(since) = time.duration_since(SystemTime::UNIX_EPOCH) else {
        return;
    };
    let Ok(tv_sec) = since.as_secs().try_into() else {
        return;
    };
    match clock_settime(ClockId::Realtime, Timespec { tv_sec, tv_nsec: 0 }) {
        Ok(()) => screen.say(format!(
            "the clock of this machine was {wrong}; set from the server"
        )),
        Err(error) => screen.say(format!(
            "the clock of this machine is {wrong} and cannot be set: {error}; set it in the firmware's setup"
        )),
    }
}

/// By how much a clock is wrong, and which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Ahead(Duration),
    Behind(Duration),
}

/// Whether a clock has to be set. Below [`TOLERATED`] it is as good as the script's time.
fn wrong(clock: SystemTime, server: SystemTime) -> Option<Wrong> {
    let (wrong, by) = match clock.duration_since(server) {
        Ok(ahead) => (Wrong::Ahead(ahead), ahead),
        Err(behind) => (Wrong::Behind(behind.duration()), behind.duration()),
    };
    (by > TOLERATED).then_some(wrong)
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (by, way) = match self {
            Self::Ahead(by) => (by, "ahead"),
            Self::Behind(by) => (by, "behind"),
        };
        let hours = by.as_secs() / 3600;
        match hours / 24 {
            0 | 1 => write!(f, "{hours} h {way}"),
            days => write!(f, "{days} days {way}"),
        }
    }
}

/// Takes in the children that the kernel gives to process 1. We start none ourselves.
pub fn reap() {
    thread::spawn(|| {
        loop {
            while let Ok(Some(_)) = waitpid(None, WaitOptions::NOHANG) {}
            thread::sleep(Duration::from_secs(5));
        }
    });
}

/// Shows panics on the screen, whichever thread they happen in.
pub fn show_panics(screen: &Arc<Screen>) {
    let screen = Arc::clone(screen);
    panic::set_hook(Box::new(move |info| {
        screen.say(format!("this is a fault of the agent itself: {info}"))
    }));
}

/// The end of an agent that cannot go on: leaves the reason readable, then restarts the machine.
pub fn give_up(screen: &Screen, reason: &str) -> ! {
    let wait = Some(panic_timeout())
        .filter(|wait| !wait.is_zero())
        .unwrap_or(SHOW_FAILURE);
    screen.say(reason);
    screen.say(format!("restarting in {} seconds", wait.as_secs()));
    thread::sleep(wait);
    restart(screen)
}

/// Restarts the machine. Its cards are switched off first, since one that still receives while the kernel shuts devices
/// down may keep it from restarting: a guest was seen in a softirq without end. Not before the machine is switched
/// off, since some cards would hear no wake-up then. A driver that hangs holds nothing up.
pub fn restart(screen: &Screen) -> ! {
    let (done, all_down) = mpsc::channel();
    let switching_off = thread::Builder::new().spawn(move || {
        net::take_down();
        let _ = done.send(());
    });
    if switching_off.is_ok() {
        let _ = all_down.recv_timeout(CARDS_WAIT);
    }
    end(RebootCommand::Restart, screen)
}

/// Switches the machine off.
pub fn power_off(screen: &Screen) -> ! {
    end(RebootCommand::PowerOff, screen)
}

fn end(command: RebootCommand, screen: &Screen) -> ! {
    rustix::fs::sync();
    loop {
        if let Err(error) = reboot(command) {
            screen.say(format!(
                "the kernel did not {command:?}: {error}; switch the machine off by hand"
            ));
        }
        thread::sleep(Duration::from_secs(60));
    }
}

/// Whether the firmware is UEFI.
#[must_use]
pub fn is_uefi() -> bool {
    Path::new("/sys/firmware/efi").exists()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::wrong;

    #[test]
    fn r10_a_clock_is_set_in_both_directions_and_the_way_is_told() {
        let server = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let (hour, day) = (3600, 24 * 3600);
        for (clock, told) in [
            (server, None),
            (server - Duration::from_secs(hour), None),
            (server + Duration::from_secs(hour), None),
            (server - Duration::from_secs(hour + 1), Some("1 h behind")),
            (server + Duration::from_secs(2 * hour), Some("2 h ahead")),
            (
                server + Duration::from_secs(800 * day),
                Some("800 days ahead"),
            ),
            (SystemTime::UNIX_EPOCH, Some("20833 days behind")),
        ] {
            let said = wrong(clock, server).map(|wrong| wrong.to_string());
            assert_eq!(said.as_deref(), told, "{clock:?}");
        }
    }
}
