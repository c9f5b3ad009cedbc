//! What an agent tells of its machine.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use farrier_api::agent as wire;
use farrier_engine::facts::is_constant;
use farrier_engine::model::{CpuInfo, Disk, Inventory, MacText, Nic, SystemInfo};
use farrier_engine::timeline::Kind;
use farrier_proto::MacAddr;

use super::{Plane, Session};
use crate::http::failure::Failure;

pub(super) async fn inventory(
    State(plane): State<Arc<Plane>>,
    session: Session,
    Json(reported): Json<wire::Inventory>,
) -> Result<StatusCode, Failure> {
    let inventory = stored(reported);
    let uuid = inventory.system.uuid.filter(|uuid| !is_constant(*uuid));
    // An address that another machine has stays that machine's: a report must not draw it into a conflict.
    let free = |mac: &MacAddr| {
        let holders = plane.core.fleet.candidates(&[*mac], None);
        !mac.is_unusable() && holders.iter().all(|holder| holder.id == session.machine.id)
    };
    let macs: Vec<MacAddr> = inventory
        .nics
        .iter()
        .map(|nic| nic.mac.0)
        .filter(free)
        .collect();
    let machine = plane
        .core
        .fleet
        .change_machine(session.machine.id, |machine| {
            machine.inventory = Some(inventory.clone());
            machine.uuid = machine.uuid.or(uuid);
            for mac in &macs {
                if !machine.macs.contains(mac) && machine.macs.len() < MAX_MACS {
                    machine.macs.push(*mac);
                }
            }
        })
        .await?;
    plane
        .core
        .note(session.machine.id, Kind::Agent, summary(&inventory));
    for id in &inventory.pci_without_driver {
        let text = format!("No driver in the agent fits the device {id}.");
        plane.core.note(session.machine.id, Kind::Warning, text);
    }
    // It asks for work next, and gets in this same boot what rules on its inventory deploy to it.
    let place = plane.core.place_of(&machine);
    plane.core.start_standing_order(machine.id, &place).await;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn log(
    State(plane): State<Arc<Plane>>,
    session: Session,
    Json(log): Json<wire::LogLines>,
) -> Result<StatusCode, Failure> {
    for line in log.lines.iter().take(MAX_LINES) {
        let line: String = line
            .chars()
            .filter(|c| !c.is_control())
            .take(MAX_LINE)
            .collect();
        if !line.is_empty() {
            plane
                .core
                .note(session.machine.id, Kind::Agent, format!("Console: {line}"));
        }
    }
    Ok(StatusCode::NO_CONTENT)
}

fn summary(inventory: &Inventory) -> String {
    let disks = match inventory.disks.len() {
        0 => "no disk".to_owned(),
        1 => "1 disk".to_owned(),
        n => format!("{n} disks"),
    };
    let memory = inventory.memory_bytes / (1 << 20);
    let system = &inventory.system;
    format!(
        "It sent its inventory: {} {}, {memory} MiB of memory, {disks}.",
        system.manufacturer, system.product
    )
}

fn stored(reported: wire::Inventory) -> Inventory {
    let system = reported.system;
    Inventory {
        system: SystemInfo {
            manufacturer: capped(system.manufacturer),
            product: capped(system.product),
            family: capped(system.family),
            sku: capped(system.sku),
            serial: capped(system.serial),
            uuid: system.uuid,
            board_serial: capped(system.board_serial),
            chassis_asset: capped(system.chassis_asset),
            bios_vendor: capped(system.bios_vendor),
            bios_version: capped(system.bios_version),
        },
        cpu: CpuInfo {
            model: capped(reported.cpu.model),
            sockets: reported.cpu.sockets,
            cores: reported.cpu.cores,
            threads: reported.cpu.threads,
        },
        memory_bytes: reported.memory_bytes,
        nics: reported
            .nics
            .into_iter()
            .take(MAX_DEVICES)
            .filter_map(stored_nic)
            .collect(),
        disks: reported
            .disks
            .into_iter()
            .take(MAX_DEVICES)
            .map(stored_disk)
            .collect(),
        uefi: reported.uefi,
        secure_boot: reported.secure_boot,
        tpm: reported.tpm.map(capped),
        pci_without_driver: reported
            .pci_without_driver
            .into_iter()
            .take(MAX_DEVICES)
            .map(capped)
            .collect(),
    }
}

fn stored_nic(nic: wire::Nic) -> Option<Nic> {
    Some(Nic {
        name: capped(nic.name),
        mac: MacText(nic.mac.parse().ok()?),
        pci_id: capped(nic.pci_id),
        driver: capped(nic.driver),
        link_up: nic.link_up,
        boot: nic.boot,
    })
}

fn stored_disk(disk: wire::Disk) -> Disk {
    Disk {
        name: capped(disk.name),
        size_bytes: disk.size_bytes,
        logical_sector: disk.logical_sector,
        physical_sector: disk.physical_sector,
        model: capped(disk.model),
        serial: capped(disk.serial),
        wwn: capped(disk.wwn),
        bus: capped(disk.bus),
        rotational: disk.rotational,
        removable: disk.removable,
        table: disk.table.map(capped),
    }
}

/// Vendors write what they like; it is shown as text everywhere, but not at any length.
fn capped(text: String) -> String {
    if text.len() <= MAX_TEXT {
        text
    } else {
        text.chars().take(MAX_TEXT / 4).collect()
    }
}

const MAX_TEXT: usize = 256;
const MAX_DEVICES: usize = 256;
const MAX_MACS: usize = 32;
const MAX_LINES: usize = 200;
const MAX_LINE: usize = 500;
