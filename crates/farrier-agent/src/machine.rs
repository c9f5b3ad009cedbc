//! One machine's stay in the agent, from the kernel's hand-over to leaving.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::arguments::Arguments;
use crate::enrol::{self, Hardware};
use crate::modules::{self, Loader, SharedLoader, Table, Uevents};
use crate::screen::Screen;
use crate::{init, inventory, leave, net, work};

/// Where the image builder put things.
const MODULE_FOLDER: &str = "/modules";
const MODULE_TABLE: &str = "/modules.table";

/// Runs the agent. It ends by restarting or switching off the machine, never by returning.
pub fn run() -> ! {
    let mount_failures = init::mount_all();
    let screen = Arc::new(Screen::of_machine());
    init::show_panics(&screen);
    for failure in mount_failures {
        screen.say(failure);
    }
    let reason = match catch_unwind(AssertUnwindSafe(|| stay(&screen))) {
        Ok(Ok(how)) => leave::now(how, &screen),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the agent cannot go on; please report the lines above".to_owned(),
    };
    init::give_up(&screen, &reason)
}

type Failure = Box<dyn std::error::Error>;

fn stay(screen: &Arc<Screen>) -> Result<leave::Way, Failure> {
    init::tame_kernel();
    init::reap();
    screen.say(format!(
        "version {} on Linux {}",
        env!("CARGO_PKG_VERSION"),
        kernel_release()
    ));
    let arguments = Arguments::parse(&fs::read_to_string("/proc/cmdline")?)?;
    init::fix_clock(arguments.time, screen);
    let loader = load_drivers(screen)?;
    let nic = net::bring_up(&arguments, screen)?;
    screen.show("ready");
    let loaded = loader
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .loaded();
    screen.say(format!(
        "{} s since the kernel started, {loaded} drivers loaded, booted by {}",
        uptime(),
        nic.name
    ));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (smbios_uuid, serial) = inventory::identity(Path::new("/"));
        let enrolled = enrol::enrol(
            &arguments,
            &Hardware {
                smbios_uuid,
                serial,
            },
            screen,
        )
        .await?;
        screen.show(format!("enrolled as {}", enrolled.machine));
        screen.say(match &enrolled.name {
            Some(name) => format!("this machine is {name}; its server is {}", arguments.server),
            None => format!(
                "this machine has no name yet; its server is {}",
                arguments.server
            ),
        });
        modules::settle(&loader, Duration::from_millis(300), Duration::from_secs(10));
        Ok(work::until_told_to_leave(enrolled, arguments.mac, screen).await?)
    })
}

fn load_drivers(screen: &Arc<Screen>) -> Result<SharedLoader, Failure> {
    let table = Table::parse(&fs::read_to_string(MODULE_TABLE)?);
    let mut loader = Loader::new(table, Path::new(MODULE_FOLDER), Arc::clone(screen));
    // Listening starts before looking, so that no device falls between.
    let uevents = Uevents::open()?;
    if init::is_uefi() {
        loader.load("efivarfs");
        if let Err(error) = init::mount_efivars() {
            screen.say(format!("the firmware's variables cannot be read: {error}"));
        }
    }
    loader.coldplug(Path::new("/sys/devices"));
    let loader = Arc::new(Mutex::new(loader));
    modules::listen(&loader, uevents);
    Ok(loader)
}

fn kernel_release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn uptime() -> String {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split_ascii_whitespace()
        .next()
        .unwrap_or("?")
        .to_owned()
}
