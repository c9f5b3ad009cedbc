//! A machine with real firmware under QEMU: [`Firmware`] and its board, [`Disk`]s, and [`Vm`] when it is on.
//!
//! Always `-accel tcg`: it runs everywhere, and the firmware's own waiting dominates anyway.

mod authority;
mod console;
mod disk;
mod firmware;
mod sockets;
mod vm;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result};

pub use disk::{Bus, Disk};
pub use firmware::Firmware;
use sockets::Sockets;
pub use vm::Vm;

use crate::net::Lan;

/// The description of a machine; [`Machine::start`] powers it on.
#[derive(Debug, Clone)]
pub struct Machine {
    name: String,
    firmware: Firmware,
    mac: String,
    uuid: String,
    card: String,
    network: bool,
    memory: u32,
    cores: u32,
    disks: Vec<Disk>,
    manufacturer: String,
    product: String,
    serial: String,
    built: Option<PathBuf>,
    extra: Vec<String>,
}

impl Machine {
    /// A machine that boots from the network first, then from its disks in order.
    ///
    /// `number` makes its MAC address and its UUID.
    #[must_use]
    pub fn new(name: &str, firmware: Firmware, number: u8) -> Self {
        Self {
            name: name.to_owned(),
            firmware,
            mac: format!("52:54:00:77:00:{number:02x}"),
            uuid: format!("33221100-5544-7766-8899-aabbccddee{number:02x}"),
            card: firmware.card().to_owned(),
            network: true,
            memory: firmware.memory(),
            cores: 1,
            disks: Vec::new(),
            manufacturer: "Farrier Lab".to_owned(),
            product: "Virtual Machine".to_owned(),
            serial: format!("LAB-{number:03}"),
            built: None,
            extra: Vec::new(),
        }
    }

    /// Adds a disk.
    #[must_use]
    pub fn disk(mut self, disk: Disk) -> Self {
        self.disks.push(disk);
        self
    }

    /// Memory in MiB instead of what the firmware needs.
    #[must_use]
    pub fn memory(mut self, mebibytes: u32) -> Self {
        self.memory = mebibytes;
        self
    }

    /// Processor cores instead of one.
    #[must_use]
    pub fn cores(mut self, cores: u32) -> Self {
        self.cores = cores;
        self
    }

    /// Another network card: a QEMU device such as `e1000e`.
    #[must_use]
    pub fn card(mut self, device: &str) -> Self {
        self.card = device.to_owned();
        self
    }

    /// Boots from its disks only; the network card stays.
    #[must_use]
    pub fn without_network_boot(mut self) -> Self {
        self.network = false;
        self
    }

    /// The SMBIOS manufacturer and product.
    #[must_use]
    pub fn model(mut self, manufacturer: &str, product: &str) -> Self {
        self.manufacturer = manufacturer.to_owned();
        self.product = product.to_owned();
        self
    }

    /// Another build of its UEFI firmware: a folder with files of the same names.
    #[must_use]
    pub fn built(mut self, folder: &Path) -> Self {
        self.built = Some(folder.to_path_buf());
        self
    }

    /// Its UEFI firmware trusts servers that the authority in this PEM file vouches for; the list that says so
    /// is written into `folder`.
    ///
    /// # Errors
    /// When there is no such authority.
    pub fn trusts(self, pem: &Path, folder: &Path) -> Result<Self> {
        let list = folder.join(format!("{}.cacerts", self.name));
        authority::signature_list(pem, &list)?;
        let file = format!("name=etc/edk2/https/cacerts,file={}", list.display());
        Ok(self.extra(&["-fw_cfg", &file]))
    }

    /// Further arguments of QEMU.
    #[must_use]
    pub fn extra(mut self, arguments: &[&str]) -> Self {
        self.extra
            .extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    /// The MAC address of its network card.
    #[must_use]
    pub fn mac(&self) -> &str {
        &self.mac
    }

    /// The UUID in its SMBIOS tables.
    #[must_use]
    pub fn uuid(&self) -> &str {
        &self.uuid
    }

    /// Powers it on, with its files (console, firmware variables, sockets) in `folder`.
    ///
    /// # Errors
    /// When QEMU cannot be started, or ends at once.
    pub fn start(&self, lan: &Lan, folder: &Path) -> Result<Vm> {
        let tap = lan.tap()?;
        let console = folder.join(format!("{}.console", self.name));
        let _ = fs::remove_file(&console);
        let sockets = Sockets::new(folder, &self.name);
        let mut qemu = lan.switch_command(self.firmware.emulator());
        qemu.args([
            "-accel",
            "tcg",
            "-display",
            "none",
            "-nodefaults",
            "-monitor",
            "none",
        ]);
        let built = self.built.as_deref();
        qemu.args(self.firmware.board(&self.name, folder, built)?);
        qemu.args([
            "-m",
            &self.memory.to_string(),
            "-smp",
            &self.cores.to_string(),
            "-uuid",
            &self.uuid,
        ]);
        if self.firmware.has_smbios() {
            qemu.arg("-smbios").arg(format!(
                "type=1,manufacturer={},product={},serial={},uuid={}",
                self.manufacturer, self.product, self.serial, self.uuid
            ));
        }
        qemu.arg("-netdev")
            .arg(format!("tap,id=n0,ifname={tap},script=no,downscript=no"));
        qemu.arg("-device").arg(self.card_device());
        qemu.args(self.disk_devices());
        qemu.arg("-chardev").arg(format!(
            "socket,id=console,path={},server=on,wait=off,logfile={},logappend=on",
            sockets.console.display(),
            console.display()
        ));
        qemu.args(["-serial", "chardev:console", "-qmp"]);
        qemu.arg(format!(
            "unix:{},server=on,wait=off",
            sockets.control.display()
        ));
        qemu.args(&self.extra);
        let errors = folder.join(format!("{}.qemu", self.name));
        let output = fs::File::create(&errors)
            .with_context(|| format!("cannot make {}", errors.display()))?;
        let child = qemu.stderr(output).spawn().context("cannot start QEMU")?;
        let mut vm = Vm {
            name: self.name.clone(),
            child,
            console,
            errors,
            sockets,
            started: Instant::now(),
            read: 0,
            keyboard: None,
        };
        vm.wait_until_controllable()?;
        Ok(vm)
    }

    fn card_device(&self) -> String {
        let rom = if self.firmware.leaves_out_rom() {
            ",romfile="
        } else {
            ""
        };
        let first = if self.network { ",bootindex=0" } else { "" };
        let (card, mac) = (&self.card, &self.mac);
        format!("{card},id={CARD},netdev=n0,mac={mac}{rom}{first}")
    }

    fn disk_devices(&self) -> Vec<String> {
        let mut words = Vec::new();
        if self.disks.iter().any(|disk| disk.bus == Bus::Ahci) {
            words.extend(strings(&["-device", "ahci,id=sata"]));
        }
        let mut port = 0;
        for (number, disk) in self.disks.iter().enumerate() {
            let drive = format!("d{number}");
            words.push("-drive".to_owned());
            // A test reads the file when the machine is off; the host's cache serves it as well as a disk's.
            words.push(format!(
                "id={drive},if=none,format={},file={},cache=unsafe,discard=unmap,detect-zeroes=unmap",
                disk.format,
                disk.path.display()
            ));
            let device = match disk.bus {
                Bus::Virtio => "virtio-blk-pci".to_owned(),
                Bus::Nvme => "nvme".to_owned(),
                Bus::Ahci => {
                    port += 1;
                    format!("ide-hd,bus=sata.{}", port - 1)
                }
            };
            words.push("-device".to_owned());
            words.push(format!(
                "{device},drive={drive},serial={},bootindex={}",
                disk.serial,
                number + 1
            ));
        }
        words
    }
}

/// What the emulator calls the network card.
const CARD: &str = "card";

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uefi_cards_carry_no_option_rom_and_disks_follow_the_network() {
        let machine = Machine::new("m", Firmware::UefiPxe4, 7)
            .disk(Disk::raw("/a", Bus::Ahci, "A"))
            .disk(Disk::raw("/b", Bus::Ahci, "B"));
        assert!(machine.card_device().contains("romfile=,bootindex=0"));
        let disks = machine.disk_devices().join(" ");
        assert!(
            disks.contains("bus=sata.0,drive=d0,serial=A,bootindex=1"),
            "{disks}"
        );
        assert!(
            disks.contains("bus=sata.1,drive=d1,serial=B,bootindex=2"),
            "{disks}"
        );
    }
}
