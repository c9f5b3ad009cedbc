//! Machines, and what is in them.

use askama::Template;
use farrier_api::admin::{
    EffectiveSetting, LearnedStrategy, MachineDetail, MachineSummary, TimelineEntry,
};

use super::{TaskView, WishView};
use crate::ui::Frame;
use crate::ui::text::{Moment, bytes, shown};

/// A machine as a row.
#[derive(Clone, Debug)]
pub struct MachineView {
    pub id: String,
    pub name: String,
    pub named: bool,
    pub state: &'static str,
    pub macs: Vec<String>,
    pub hardware: String,
    pub serial: String,
    pub firmware: String,
    pub memory: String,
    pub first_seen: Moment,
    pub last_seen: Moment,
    pub task: Option<TaskView>,
}

impl MachineView {
    #[must_use]
    pub fn of(m: &MachineSummary) -> Self {
        let mac = m.macs.first().cloned().unwrap_or_else(|| m.id.to_string());
        let hardware = [&m.manufacturer, &m.product].map(|t| shown(t.trim()));
        let firmware = [m.firmware.as_deref(), m.arch.as_deref()]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>();
        Self {
            id: m.id.to_string(),
            named: m.name.is_some(),
            name: shown(m.name.as_deref().unwrap_or(&mac)),
            state: m.registration.as_str(),
            macs: m.macs.clone(),
            hardware: hardware.join(" ").trim().to_owned(),
            serial: shown(&m.serial),
            firmware: firmware.join(" "),
            memory: if m.memory_bytes == 0 {
                String::new()
            } else {
                bytes(m.memory_bytes)
            },
            first_seen: Moment::of(m.first_seen),
            last_seen: Moment::of(m.last_seen),
            task: m.task.as_ref().map(TaskView::of),
        }
    }
}

/// One entry of a timeline.
#[derive(Clone, Debug)]
pub struct EntryView {
    pub at: Moment,
    pub kind: String,
    pub text: String,
    pub details: Vec<(String, String)>,
    pub machine: String,
}

impl EntryView {
    #[must_use]
    pub fn of(e: &TimelineEntry) -> Self {
        Self {
            at: Moment::of(e.at),
            kind: e.kind.clone(),
            text: shown(&e.text),
            details: e
                .details
                .iter()
                .map(|(name, value)| (shown(name), shown(value)))
                .collect(),
            machine: e.machine.to_string(),
        }
    }
}

/// A fact of a machine: name and value.
pub type Fact = (&'static str, String);

/// A disk of a machine.
#[derive(Clone, Debug)]
pub struct DiskView {
    pub name: String,
    pub model: String,
    pub size: String,
    pub bus: String,
    pub serial: String,
    /// The serial as it must be sent back to name this disk.
    pub key: String,
    pub table: String,
    pub notes: String,
}

/// A network port of a machine.
#[derive(Clone, Debug)]
pub struct NicView {
    pub name: String,
    pub mac: String,
    pub driver: String,
    pub link: &'static str,
    pub boot: bool,
}

/// The inventory, ready to be shown.
#[derive(Clone, Debug, Default)]
pub struct InventoryView {
    pub facts: Vec<Fact>,
    pub disks: Vec<DiskView>,
    pub nics: Vec<NicView>,
    pub without_driver: Vec<String>,
}

impl InventoryView {
    #[must_use]
    pub fn of(m: &MachineDetail) -> Option<Self> {
        let i = m.inventory.as_ref()?;
        let s = &i.system;
        let yes = |b: Option<bool>| match b {
            Some(true) => "on",
            Some(false) => "off",
            None => "",
        };
        let facts = [
            ("Maker", shown(&s.manufacturer)),
            ("Model", shown(&s.product)),
            ("Family", shown(&s.family)),
            ("Serial number", shown(&s.serial)),
            ("Board serial", shown(&s.board_serial)),
            ("Asset tag", shown(&s.chassis_asset)),
            ("Processor", shown(&i.cpu.model)),
            (
                "Cores",
                if i.cpu.cores == 0 {
                    String::new()
                } else {
                    format!("{} ({} threads)", i.cpu.cores, i.cpu.threads)
                },
            ),
            ("Memory", bytes(i.memory_bytes)),
            (
                "Firmware",
                format!(
                    "{} {} {}",
                    if i.uefi { "UEFI" } else { "BIOS" },
                    shown(&s.bios_vendor),
                    shown(&s.bios_version)
                ),
            ),
            ("Secure Boot", yes(i.secure_boot).to_owned()),
            ("TPM", shown(i.tpm.as_deref().unwrap_or(""))),
        ];
        let disks = i.disks.iter().map(|d| DiskView {
            name: shown(&d.name),
            model: shown(&d.model),
            size: bytes(d.size_bytes),
            bus: shown(&d.bus),
            serial: shown(&d.serial),
            key: d.serial.clone(),
            table: shown(d.table.as_deref().unwrap_or("none")),
            notes: [
                d.rotational.then_some("rotating"),
                d.removable.then_some("removable"),
            ]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(", "),
        });
        let nics = i.nics.iter().map(|n| NicView {
            name: shown(&n.name),
            mac: n.mac.clone(),
            driver: shown(&n.driver),
            link: if n.link_up { "up" } else { "down" },
            boot: n.boot,
        });
        Some(Self {
            facts: facts
                .into_iter()
                .filter(|(_, value)| !value.trim().is_empty())
                .collect(),
            disks: disks.collect(),
            nics: nics.collect(),
            without_driver: i.pci_without_driver.iter().map(|t| shown(t)).collect(),
        })
    }
}

#[derive(Debug, Template)]
#[template(path = "machines.html")]
pub struct Machines {
    pub frame: Frame,
    pub rows: Vec<MachineView>,
    pub total: u64,
    pub search: String,
    pub filter: &'static str,
    pub next: Option<String>,
}

#[derive(Debug, Template)]
#[template(path = "machine_row.html")]
pub struct MachineRow {
    pub frame: Frame,
    pub m: MachineView,
}

#[derive(Debug, Template)]
#[template(path = "machine.html")]
pub struct MachinePage {
    pub frame: Frame,
    pub m: MachineView,
    pub uuid: String,
    pub inventory: Option<InventoryView>,
    pub group: Option<String>,
    pub learned: Option<LearnedStrategy>,
    /// What each setting comes to, and from whom.
    pub settings: Vec<EffectiveSetting>,
    pub wish: Option<WishView>,
    pub tasks: Vec<TaskView>,
    pub events: Vec<EntryView>,
    pub more: Option<String>,
}
