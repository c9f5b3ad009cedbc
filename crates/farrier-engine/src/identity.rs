//! Whose request or inventory this is. No single sign is trusted: docks lend their hardware address
//! to many laptops, boards of one maker share a UUID, and serials say "To be filled by O.E.M.". Each
//! sign for or against a machine has a weight; what does not add up is a conflict for a person to
//! look at, never a guess.

use std::fmt;

use farrier_proto::MacAddr;
use farrier_proto::wire::option_value::swap_smbios_order;
use uuid::Uuid;

use crate::facts::{BootFacts, is_constant};
use crate::model::{Inventory, Machine, MachineId};
use crate::quirk;

/// What a request or an inventory shows of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    pub uuid: Option<Uuid>,
    pub serial: Option<String>,
    pub board_serial: Option<String>,
    pub macs: Vec<MacAddr>,
}

/// Whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    Match {
        machine: MachineId,
        signs: Vec<Sign>,
    },
    /// Nothing we know fits.
    New,
    /// It fits several machines, or one only in part. None of them gets work that changes disks.
    Conflict {
        machines: Vec<MachineId>,
        why: String,
    },
}

/// One sign for or against a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Sign {
    BoardSerialDiffers,
    BoardSerialEqual,
    MacEqual,
    SerialDiffers,
    SerialEqual,
    UuidDiffers,
    UuidEqual,
}

impl Sign {
    fn weight(self) -> i32 {
        match self {
            Self::UuidEqual => 60,
            Self::SerialEqual => 50,
            Self::BoardSerialEqual => 40,
            Self::MacEqual => 30,
            // A replaced board changes these; a single one does not outweigh the others.
            Self::BoardSerialDiffers => -15,
            Self::SerialDiffers => -45,
            Self::UuidDiffers => -45,
        }
    }
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BoardSerialDiffers => "the board serial differs",
            Self::BoardSerialEqual => "the board serial fits",
            Self::MacEqual => "a hardware address fits",
            Self::SerialDiffers => "the serial differs",
            Self::SerialEqual => "the serial fits",
            Self::UuidDiffers => "the UUID differs",
            Self::UuidEqual => "the UUID fits",
        })
    }
}

impl Evidence {
    #[must_use]
    pub fn of_facts(facts: &BootFacts) -> Self {
        Self {
            uuid: facts.usable_uuid(),
            serial: facts
                .serial
                .as_ref()
                .map(|serial| serial.as_str().to_owned()),
            board_serial: None,
            macs: vec![facts.mac],
        }
    }

    #[must_use]
    pub fn of_inventory(inventory: &Inventory) -> Self {
        Self {
            uuid: inventory.system.uuid,
            serial: Some(inventory.system.serial.clone()),
            board_serial: Some(inventory.system.board_serial.clone()),
            macs: inventory.nics.iter().map(|nic| nic.mac.0).collect(),
        }
    }
}

/// Finds the machine the evidence is of. `candidates` are all machines that share at least one
/// value with it; others cannot match.
#[must_use]
pub fn identify<'a>(
    evidence: &Evidence,
    candidates: impl IntoIterator<Item = &'a Machine>,
) -> Identity {
    let candidates: Vec<&Machine> = candidates.into_iter().collect();
    let lent = lent_macs(&candidates);
    let mut fitting: Vec<(i32, &Machine, Vec<Sign>)> = Vec::new();
    for machine in candidates {
        let signs = compare(evidence, machine, &lent);
        if signs.iter().any(|sign| sign.weight() > 0) {
            fitting.push((signs.iter().map(|sign| sign.weight()).sum(), machine, signs));
        }
    }
    fitting.sort_by_key(|(score, machine, _)| (std::cmp::Reverse(*score), machine.id));
    let Some((best, machine, signs)) = fitting.first() else {
        return Identity::New;
    };
    if *best < ENOUGH {
        let why = signs
            .iter()
            .map(Sign::to_string)
            .collect::<Vec<_>>()
            .join(", ");
        return Identity::Conflict {
            machines: fitting.iter().map(|(_, m, _)| m.id).collect(),
            why,
        };
    }
    let rivals: Vec<MachineId> = fitting
        .iter()
        .filter(|(score, ..)| best - score < CLEAR_LEAD && *score >= ENOUGH)
        .map(|(_, m, _)| m.id)
        .collect();
    if rivals.len() > 1 {
        let why = format!("{} machines fit about equally well", rivals.len());
        return Identity::Conflict {
            machines: rivals,
            why,
        };
    }
    Identity::Match {
        machine: machine.id,
        signs: signs.clone(),
    }
}

/// Addresses that more than one machine has been seen with: docks and adapters.
fn lent_macs(machines: &[&Machine]) -> Vec<MacAddr> {
    let mut seen: Vec<MacAddr> = machines
        .iter()
        .flat_map(|machine| distinct(&machine.macs))
        .collect();
    seen.sort_unstable();
    let mut lent: Vec<MacAddr> = seen
        .windows(2)
        .filter(|pair| pair[0] == pair[1])
        .map(|pair| pair[0])
        .collect();
    lent.dedup();
    lent
}

fn distinct(macs: &[MacAddr]) -> Vec<MacAddr> {
    let mut macs = macs.to_vec();
    macs.sort_unstable();
    macs.dedup();
    macs
}

fn compare(evidence: &Evidence, machine: &Machine, lent: &[MacAddr]) -> Vec<Sign> {
    let mut signs = Vec::new();
    let system = machine
        .inventory
        .as_ref()
        .map(|inventory| &inventory.system);
    let known_uuid = machine
        .uuid
        .or_else(|| system.and_then(|system| system.uuid));
    if let (Some(shown), Some(known)) = (usable(evidence.uuid), usable(known_uuid)) {
        signs.push(if same_uuid(shown, known) {
            Sign::UuidEqual
        } else {
            Sign::UuidDiffers
        });
    }
    let known =
        |serial: fn(&crate::model::SystemInfo) -> &String| system.map(serial).map(String::as_str);
    if let (Some(shown), Some(known)) =
        (told(evidence.serial.as_deref()), told(known(|s| &s.serial)))
    {
        signs.push(if shown == known {
            Sign::SerialEqual
        } else {
            Sign::SerialDiffers
        });
    }
    if let (Some(shown), Some(known)) = (
        told(evidence.board_serial.as_deref()),
        told(known(|s| &s.board_serial)),
    ) {
        signs.push(if shown == known {
            Sign::BoardSerialEqual
        } else {
            Sign::BoardSerialDiffers
        });
    }
    let is_sign = |mac: &MacAddr| {
        machine.macs.contains(mac) && !lent.contains(mac) && !quirk::is_shared(*mac)
    };
    if evidence.macs.iter().any(is_sign) {
        signs.push(Sign::MacEqual);
    }
    signs
}

/// Equal in either byte order: firmware, loaders and kernels disagree on it (`firmware.md` T7).
fn same_uuid(a: Uuid, b: Uuid) -> bool {
    a == b || swap_smbios_order(a.into_bytes()) == b.into_bytes()
}

fn usable(uuid: Option<Uuid>) -> Option<Uuid> {
    uuid.filter(|uuid| !is_constant(*uuid))
}

/// The serial, unless it is empty or a placeholder.
fn told(serial: Option<&str>) -> Option<&str> {
    let serial = serial?.trim();
    let lower = serial.to_ascii_lowercase();
    let letters_differ = serial.chars().any(|c| !serial.starts_with(c));
    let is_placeholder = PLACEHOLDERS
        .iter()
        .any(|placeholder| lower.contains(placeholder));
    (serial.len() >= 4 && letters_differ && !is_placeholder).then_some(serial)
}

/// What board makers leave in the serial.
const PLACEHOLDERS: [&str; 9] = [
    "o.e.m",
    "default string",
    "system serial",
    "not specified",
    "not applicable",
    "none",
    "invalid",
    "0123456789",
    "chassis serial",
];

/// One hardware address that nothing speaks against is enough to know a machine by.
const ENOUGH: i32 = 30;
/// A second machine this close makes it a guess.
const CLEAR_LEAD: i32 = 20;

#[cfg(test)]
mod tests;
