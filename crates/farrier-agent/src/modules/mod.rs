//! Loads the drivers that the hardware asks for, and no others: loading all takes four times as long.
//!
//! The kernel describes each device by a text, its modalias; [`Table`] says which module serves it.
//! What is there already is found by walking `/sys` once, what comes later (a disk behind a controller,
//! a NIC behind USB) by listening to the kernel.

mod table;
mod uevent;

use std::collections::HashSet;
use std::ffi::CStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::screen::Screen;

pub use table::Table;
pub use uevent::Uevents;

/// Loads modules, each once.
#[derive(Debug)]
pub struct Loader {
    table: Table,
    folder: PathBuf,
    tried: HashSet<String>,
    loaded: usize,
    last_event: Instant,
    screen: Arc<Screen>,
}

/// The loader, shared with the thread that listens to the kernel.
pub type SharedLoader = Arc<Mutex<Loader>>;

impl Loader {
    /// Loads from `folder` by `table`.
    #[must_use]
    pub fn new(table: Table, folder: &Path, screen: Arc<Screen>) -> Self {
        let folder = folder.to_owned();
        Self {
            table,
            folder,
            tried: HashSet::new(),
            loaded: 0,
            last_event: Instant::now(),
            screen,
        }
    }

    /// How many modules it has loaded.
    #[must_use]
    pub fn loaded(&self) -> usize {
        self.loaded
    }

    /// Loads what serves `modalias`.
    pub fn serve(&mut self, modalias: &str) {
        for name in self.table.serving(modalias) {
            self.load(&name);
        }
    }

    /// Loads a module and what it needs. A module that fails is tried once: the device stays without a
    /// driver, which the inventory reports.
    pub fn load(&mut self, name: &str) {
        if self.tried.contains(name) {
            return;
        }
        for step in self.table.steps(name) {
            if !self.tried.insert(step.name.clone()) {
                continue;
            }
            match insert(&self.folder.join(&step.path)) {
                Ok(()) => self.loaded += 1,
                // "No such device" is how a driver says that the hardware is not there after all.
                Err(rustix::io::Errno::EXIST | rustix::io::Errno::NODEV) => {}
                Err(error) => self
                    .screen
                    .say(format!("the driver {} does not load: {error}", step.name)),
            }
        }
    }

    /// Serves every device below `devices` (`/sys/devices`).
    pub fn coldplug(&mut self, devices: &Path) {
        let mut aliases = Vec::new();
        collect(devices, &mut aliases, 0);
        aliases.sort();
        aliases.dedup();
        for alias in aliases {
            self.serve(&alias);
        }
    }
}

/// Listens to the kernel for new devices, for as long as the agent runs.
pub fn listen(loader: &SharedLoader, uevents: Uevents) {
    let loader = Arc::clone(loader);
    thread::spawn(move || {
        while let Some(event) = uevents.next() {
            let mut loader = loader.lock().unwrap_or_else(PoisonError::into_inner);
            loader.last_event = Instant::now();
            if let Some(modalias) = event.added_modalias() {
                loader.serve(modalias);
            }
        }
    });
}

/// Waits until the kernel has been quiet for a while: buses are scanned and disks have appeared.
pub fn settle(loader: &SharedLoader, quiet: Duration, most: Duration) {
    let start = Instant::now();
    while start.elapsed() < most {
        let since = loader
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .last_event
            .elapsed();
        if since >= quiet {
            return;
        }
        thread::sleep(quiet.saturating_sub(since).max(Duration::from_millis(10)));
    }
}

fn insert(path: &Path) -> Result<(), rustix::io::Errno> {
    const NO_PARAMETERS: &CStr = c"";
    let file = File::open(path).map_err(|error| {
        error
            .raw_os_error()
            .map_or(rustix::io::Errno::IO, rustix::io::Errno::from_raw_os_error)
    })?;
    rustix::system::finit_module(file, NO_PARAMETERS, 0)
}

/// `/sys/devices` is a tree of bounded depth; the bound is for file systems that are not `/sys`.
fn collect(folder: &Path, aliases: &mut Vec<String>, depth: usize) {
    const MAX_DEPTH: usize = 32;
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() && depth < MAX_DEPTH {
            collect(&entry.path(), aliases, depth + 1);
        } else if kind.is_file() && entry.file_name() == "modalias" {
            aliases.extend(
                fs::read_to_string(entry.path())
                    .ok()
                    .map(|text| text.trim_end().to_owned()),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use super::{Loader, Table, collect};
    use crate::screen::Screen;

    #[test]
    fn every_modalias_of_a_tree_is_found() {
        let sys = tempfile::tempdir().unwrap();
        let device = sys.path().join("pci0000:00/0000:00:03.0/virtio0");
        fs::create_dir_all(&device).unwrap();
        fs::write(device.join("modalias"), "virtio:d00000001v00001AF4\n").unwrap();
        fs::write(device.parent().unwrap().join("modalias"), "pci:v00001AF4\n").unwrap();
        let mut aliases = Vec::new();
        collect(sys.path(), &mut aliases, 0);
        aliases.sort();
        assert_eq!(aliases, ["pci:v00001AF4", "virtio:d00000001v00001AF4"]);
    }

    #[test]
    fn a_module_that_cannot_be_loaded_is_said_once() {
        let folder = tempfile::tempdir().unwrap();
        let screen = Arc::new(Screen::default());
        let table = Table::parse("m gone drivers/gone.ko \na pci:*\n");
        let mut loader = Loader::new(table, folder.path(), Arc::clone(&screen));
        loader.serve("pci:v1");
        loader.serve("pci:v2");
        let said = screen.take_unsent(9);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("gone does not load"), "{said:?}");
    }
}
