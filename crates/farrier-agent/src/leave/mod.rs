//! Leaving the machine: to its disk, off, or around again. On BIOS the server answers the next boot with
//! "local disk"; on UEFI the firmware is told directly, because falling through the network takes it up to
//! 155 s.

mod boot_entry;
mod efi_variables;

use std::path::Path;

use farrier_api::agent::Leave;
use farrier_proto::MacAddr;

use crate::init;
use crate::screen::Screen;

pub use boot_entry::{BootOption, LoadOptionError, NetworkWay};
pub use efi_variables::{BootVariables, EfiError};

/// How to leave, and from what the machine shall start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    pub how: Leave,
    /// The EFI system partition of the disk that was worked on, if it is known.
    pub start_from: Option<EfiSystemPartition>,
    /// The network card it booted from.
    pub card: MacAddr,
}

/// An EFI system partition, as boot entries name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EfiSystemPartition {
    pub number: u32,
    pub first_sector: u64,
    pub sectors: u64,
    /// Of the partition, as it is in the GPT.
    pub guid: uuid::Uuid,
}

/// Leaves.
pub fn now(way: Way, screen: &Screen) -> ! {
    match way.how {
        Leave::LocalBoot => {
            screen.show("leaving: local boot");
            if init::is_uefi() {
                screen.say(prefer_disk(way.start_from));
            }
            init::restart(screen)
        }
        Leave::NetworkBoot => {
            screen.show("leaving: network boot");
            if init::is_uefi() {
                screen.say(prefer_network(way.card));
            }
            init::restart(screen)
        }
        Leave::PowerOff => {
            screen.show("leaving: power off");
            init::power_off(screen)
        }
        Leave::Reboot => {
            screen.show("leaving: restart");
            init::restart(screen)
        }
    }
}

/// Makes the next boot, and only that, start from the disk. The order of boot entries stays as it is: a
/// machine that asks the network first shall do so again.
fn prefer_disk(partition: Option<EfiSystemPartition>) -> String {
    told(variables().start_next_from_disk(partition), "the disk")
}

/// The same for the network, for machines that ask their disk first.
fn prefer_network(card: MacAddr) -> String {
    told(
        variables().start_next_from_network(card),
        "from the network",
    )
}

fn variables() -> BootVariables {
    BootVariables::open(Path::new("/sys/firmware/efi/efivars"))
}

fn told(next: Result<String, EfiError>, what: &str) -> String {
    match next {
        Ok(name) => format!("the firmware starts '{name}' next"),
        Err(error) => format!(
            "the firmware cannot be told to start {what} next: {error}; it follows its own order"
        ),
    }
}
