//! What is in this machine. Every reader takes the root of the tree it reads, so that tests can give it one.

mod cpu;
mod disk;
mod firmware;
mod nic;
mod pci;
pub mod smbios;

use std::fs;
use std::path::Path;

use farrier_api::agent::{Inventory, System};
use farrier_proto::MacAddr;
use uuid::Uuid;

use smbios::Smbios;

pub use disk::{FoundDisk, disks};

/// Reads everything. `root` is `/` on a machine; `boot` is the address it booted with.
#[must_use]
pub fn read(root: &Path, boot: MacAddr) -> Inventory {
    let smbios = smbios(root);
    let memory = smbios
        .memory_bytes()
        .filter(|bytes| *bytes > 0)
        .unwrap_or_else(|| usable_memory(root));
    Inventory {
        system: system(root, &smbios),
        cpu: cpu::read(root),
        memory_bytes: memory,
        nics: nic::read(root, boot),
        disks: disks(root).into_iter().map(|found| found.disk).collect(),
        uefi: root.join("sys/firmware/efi").exists(),
        secure_boot: firmware::secure_boot(root),
        tpm: firmware::tpm(root),
        pci_without_driver: pci::without_driver(root),
    }
}

/// The machine's own name for itself, for enrolment.
#[must_use]
pub fn identity(root: &Path) -> (Option<Uuid>, String) {
    let system = system(root, &smbios(root));
    (system.uuid, system.serial)
}

fn smbios(root: &Path) -> Smbios {
    let tables = root.join("sys/firmware/dmi/tables");
    let entry = fs::read(tables.join("smbios_entry_point")).unwrap_or_default();
    let table = fs::read(tables.join("DMI")).unwrap_or_default();
    Smbios::parse(&entry, &table)
}

/// From SMBIOS; fields it lacks come from what the kernel understood of it.
fn system(root: &Path, smbios: &Smbios) -> System {
    let id = |file: &str| line(&root.join("sys/class/dmi/id").join(file));
    let or = |text: &str, file: &str| {
        if text.is_empty() {
            id(file)
        } else {
            text.to_owned()
        }
    };
    System {
        manufacturer: or(&smbios.manufacturer, "sys_vendor"),
        product: or(&smbios.product, "product_name"),
        family: or(&smbios.family, "product_family"),
        sku: or(&smbios.sku, "product_sku"),
        serial: or(&smbios.serial, "product_serial"),
        uuid: smbios.uuid.or_else(|| id("product_uuid").parse().ok()),
        board_serial: or(&smbios.board_serial, "board_serial"),
        chassis_asset: or(&smbios.chassis_asset, "chassis_asset_tag"),
        bios_vendor: or(&smbios.bios_vendor, "bios_vendor"),
        bios_version: or(&smbios.bios_version, "bios_version"),
    }
}

fn usable_memory(root: &Path) -> u64 {
    let text = fs::read_to_string(root.join("proc/meminfo")).unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes =
        total.and_then(|rest| rest.split_ascii_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0).saturating_mul(1024)
}

/// A file of one line, without what surrounds it; empty if it cannot be read. Bytes from hardware may be
/// anything.
fn line(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    clean(&bytes)
}

/// Text from hardware: printable, trimmed, of bounded length.
fn clean(bytes: &[u8]) -> String {
    const MOST: usize = 128;
    let text = String::from_utf8_lossy(bytes);
    let text: String = text
        .chars()
        .filter(|c| !c.is_control() && *c != char::REPLACEMENT_CHARACTER)
        .collect();
    text.trim().chars().take(MOST).collect()
}

/// The names in a folder, sorted; none if it cannot be read.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// The last part of where a link leads: the name of a driver or subsystem.
fn link_name(link: &Path) -> String {
    let target = fs::read_link(link).unwrap_or_default();
    target
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
