//! Machines and their inventories.

use farrier_api::{admin as api, agent};
use farrier_engine::model::{self, Machine};
use farrier_engine::{MacAddr, WallTime};

use super::Like;
use super::settings::{intent, learned, settings};
use super::tasks::task_summary;
use crate::core::{Core, now};

pub(crate) fn firmware_name(kind: model::FirmwareKind) -> &'static str {
    match kind {
        model::FirmwareKind::Bios => "BIOS",
        model::FirmwareKind::OpenFirmware => "Open Firmware",
        model::FirmwareKind::S390 => "s390",
        model::FirmwareKind::UBoot => "U-Boot",
        model::FirmwareKind::Uefi => "UEFI",
    }
}

pub(crate) fn arch_name(arch: model::Arch) -> &'static str {
    match arch {
        model::Arch::Arm32 => "arm",
        model::Arch::Arm64 => "arm64",
        model::Arch::Ia32 => "ia32",
        model::Arch::LoongArch64 => "loongarch64",
        model::Arch::Ppc64 => "ppc64",
        model::Arch::Sparc64 => "sparc64",
        model::Arch::RiscV64 => "riscv64",
        model::Arch::S390x => "s390x",
        model::Arch::X86_64 => "x86-64",
    }
}

/// What people call a machine: its name, or its first address.
pub(crate) fn machine_name(machine: &Machine) -> String {
    match (&machine.name, machine.macs.first()) {
        (Some(name), _) => name.to_string(),
        (None, Some(mac)) => mac.to_string(),
        (None, None) => machine.id.to_string(),
    }
}

pub(crate) fn machine_summary(core: &Core, machine: &Machine) -> api::MachineSummary {
    let system = machine.inventory.as_ref().map(|i| &i.system);
    let text = |of: fn(&model::SystemInfo) -> &String| system.map(of).cloned().unwrap_or_default();
    api::MachineSummary {
        id: machine.id.0,
        name: machine.name.as_ref().map(ToString::to_string),
        registration: machine.registration.like(),
        macs: machine.macs.iter().map(ToString::to_string).collect(),
        uuid: machine.uuid,
        firmware: machine.firmware.map(|f| firmware_name(f).to_owned()),
        arch: machine.arch.map(|a| arch_name(a).to_owned()),
        manufacturer: text(|s| &s.manufacturer),
        product: text(|s| &s.product),
        serial: text(|s| &s.serial),
        memory_bytes: machine.inventory.as_ref().map_or(0, |i| i.memory_bytes),
        first_seen: machine.first_seen.0,
        last_seen: machine.last_seen.0,
        task: core
            .fleet
            .queue(machine.id)
            .first()
            .map(|t| task_summary(core, t)),
        revision: machine.revision,
    }
}

pub(crate) fn machine_detail(core: &Core, machine: &Machine) -> api::MachineDetail {
    let rules = core.rules.load();
    let judged = rules.judge(None, Some(machine), || core.place_of(machine));
    api::MachineDetail {
        summary: machine_summary(core, machine),
        group: machine.group.as_ref().map(ToString::to_string),
        effective: crate::service::policy::effective(&core.snapshot.load(), Some(machine), &judged),
        // One that is used up is kept for the boot that is under way, and is no news to people.
        intent: machine
            .intent
            .as_ref()
            .filter(|intent| intent.boots_left > 0)
            .map(intent),
        learned: machine.learned.map(learned),
        small_blocks_until: small_blocks_until(core, machine).map(|until| until.0),
        settings: settings(&machine.settings),
        inventory: machine.inventory.as_ref().map(inventory),
    }
}

/// Until when it gets small blocks by TFTP, since none of a transfer with large ones arrived.
pub(in crate::service) fn small_blocks_until(core: &Core, machine: &Machine) -> Option<WallTime> {
    let until = |mac: &MacAddr| core.sightings.small_blocks_until(*mac, now());
    machine.macs.iter().filter_map(until).max()
}

fn inventory(i: &model::Inventory) -> agent::Inventory {
    let s = &i.system;
    agent::Inventory {
        system: agent::System {
            manufacturer: s.manufacturer.clone(),
            product: s.product.clone(),
            family: s.family.clone(),
            sku: s.sku.clone(),
            serial: s.serial.clone(),
            uuid: s.uuid,
            board_serial: s.board_serial.clone(),
            chassis_asset: s.chassis_asset.clone(),
            bios_vendor: s.bios_vendor.clone(),
            bios_version: s.bios_version.clone(),
        },
        cpu: agent::Cpu {
            model: i.cpu.model.clone(),
            sockets: i.cpu.sockets,
            cores: i.cpu.cores,
            threads: i.cpu.threads,
        },
        memory_bytes: i.memory_bytes,
        nics: i.nics.iter().map(nic).collect(),
        disks: i.disks.iter().map(disk).collect(),
        uefi: i.uefi,
        secure_boot: i.secure_boot,
        tpm: i.tpm.clone(),
        pci_without_driver: i.pci_without_driver.clone(),
    }
}

fn nic(n: &model::Nic) -> agent::Nic {
    agent::Nic {
        name: n.name.clone(),
        mac: n.mac.0.to_string(),
        pci_id: n.pci_id.clone(),
        driver: n.driver.clone(),
        link_up: n.link_up,
        boot: n.boot,
    }
}

pub(super) fn disk(d: &model::Disk) -> agent::Disk {
    agent::Disk {
        name: d.name.clone(),
        size_bytes: d.size_bytes,
        logical_sector: d.logical_sector,
        physical_sector: d.physical_sector,
        model: d.model.clone(),
        serial: d.serial.clone(),
        wwn: d.wwn.clone(),
        bus: d.bus.clone(),
        rotational: d.rotational,
        removable: d.removable,
        table: d.table.clone(),
    }
}
