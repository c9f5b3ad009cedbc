//! From power-on to the agent's inventory, on real firmware, in every way the server can stand on a network.

use std::{fs, net::Ipv4Addr, path::PathBuf, time::Duration};

use farrier_e2e::{
    Bus, Disk, Firmware, Lab, Lan, Machine, Mode, Program, Site, Vm, report::say, server::Dnsmasq,
};
use serde_json::{Value, json};

const BOOT: Duration = Duration::from_secs(150);
const GIB: u64 = 1 << 30;

struct Run {
    folder: PathBuf,
    lan: Lan,
    site: Site,
    _other: Vec<Program>,
}

fn run(name: &str, mode: Mode) -> Run {
    let lab = Lab::open().unwrap();
    let folder = lab.scratch(name).unwrap();
    let lan = Lan::new().unwrap();
    let host = lan.server().unwrap();
    let mut other = Vec::new();
    let (first, last) = (Ipv4Addr::new(10, 77, 0, 100), Ipv4Addr::new(10, 77, 0, 199));
    match mode {
        Mode::Dhcp => {}
        Mode::Proxy | Mode::ProxyWithPool => {
            let elsewhere = lan.other().unwrap();
            other.push(
                Dnsmasq::addresses(first, last)
                    .start(&elsewhere, &folder)
                    .unwrap(),
            );
        }
        Mode::Port4011 => {
            let dhcp = Dnsmasq::addresses(first, last).with("--dhcp-option-force=60,PXEClient");
            other.push(dhcp.start(&host, &folder).unwrap());
        }
    }
    let site = Site::start(&lab, host, &folder, mode).unwrap();
    Run {
        folder,
        lan,
        site,
        _other: other,
    }
}

impl Run {
    /// Powers a machine on, and waits until its agent has sent its inventory.
    fn registers(&self, machine: &Machine) -> Vm {
        let mut vm = machine.start(&self.lan, &self.folder).unwrap();
        vm.wait_for("farrier-agent: ready", BOOT).unwrap();
        vm.wait_for("farrier-agent: inventory sent", BOOT).unwrap();
        let known = self.site.machine(machine.mac()).unwrap();
        assert_eq!(known["registration"], "approved", "{known:#}");
        let inventory = &known["inventory"];
        assert_eq!(
            inventory["system"]["manufacturer"], "Farrier Lab",
            "{inventory:#}"
        );
        assert_eq!(inventory["nics"][0]["mac"], machine.mac(), "{inventory:#}");
        vm
    }
}

/// T1, T6, T7, T20, Z17, F9: SeaBIOS, Farrier is the DHCP server.
#[test]
fn a_t1_bios_machine_registers_from_our_dhcp() {
    let run = run("a-bios-dhcp", Mode::Dhcp);
    let disk = Disk::blank(run.folder.join("disk.raw"), GIB, Bus::Virtio, "DISK-A").unwrap();
    let machine = Machine::new("bios", Firmware::Bios, 11)
        .disk(disk)
        .cores(2)
        .memory(640)
        .extra(&["-cpu", "Nehalem"]);
    let _vm = run.registers(&machine);
    the_agent_is_small(&run.site);
    let known = run.site.machine(machine.mac()).unwrap();
    equals_what_qemu_was_told(&known["inventory"], &machine);
    let leases = run.site.get("leases").unwrap();
    assert!(leases.to_string().contains(machine.mac()), "{leases}");
}

/// What every machine fetches before it can do anything.
fn the_agent_is_small(site: &Site) {
    let file = site.data().join("agent/initrd.img");
    let bytes = fs::metadata(file).unwrap().len();
    let told = format!("the agent's initramfs has {bytes} bytes");
    say(&told);
    assert!(bytes <= 16_000_000, "{told}");
}

/// T1: a machine with 256 MiB has room for the kernel, the agent, and its work.
#[test]
fn a_t1_a_machine_with_little_memory_registers() {
    let run = run("a-little", Mode::Dhcp);
    let machine = Machine::new("little", Firmware::Bios, 17).memory(256);
    let _vm = run.registers(&machine);
    let known = run.site.machine(machine.mac()).unwrap();
    let memory = &known["inventory"]["memory_bytes"];
    assert_eq!(memory, 256 << 20, "{known:#}");
}

/// T20: the inventory says what the machine was made of, no more and no less.
fn equals_what_qemu_was_told(inventory: &Value, machine: &Machine) {
    let expected = json!({
        "system": {
            "manufacturer": "Farrier Lab", "product": "Virtual Machine", "serial": "LAB-011",
            "uuid": machine.uuid(), "bios_vendor": "SeaBIOS",
        },
        "cpu": {
            "model": "Intel Core i7 9xx (Nehalem Class Core i7)", "sockets": 1, "cores": 2, "threads": 2,
        },
        "memory_bytes": 640 << 20,
        "nics": [{ "mac": machine.mac(), "driver": "virtio_net", "pci_id": "1af4:1000", "link_up": true, "boot": true }],
        "disks": [{
            "serial": "DISK-A", "size_bytes": GIB, "bus": "virtio", "logical_sector": 512, "removable": false,
            "table": null,
        }],
        "uefi": false,
        "secure_boot": null,
        "tpm": null,
        "pci_without_driver": [],
    });
    let mut found = inventory.clone();
    keep_what_is_in(&expected, &mut found);
    assert_eq!(found, expected, "of {inventory:#}");
}

/// Drops the fields that the other does not have; lists keep their lengths.
fn keep_what_is_in(wanted: &Value, found: &mut Value) {
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => {
            found.retain(|name, _| wanted.contains_key(name));
            for (name, value) in found {
                keep_what_is_in(&wanted[name], value);
            }
        }
        (Value::Array(wanted), Value::Array(found)) => {
            for (wanted, found) in wanted.iter().zip(found) {
                keep_what_is_in(wanted, found);
            }
        }
        _ => {}
    }
}

/// T1: the ROMs and the agent's drivers of two more cards.
#[test]
fn a_t1_other_network_cards_register() {
    let run = run("a-cards", Mode::Dhcp);
    for (number, card, driver) in [(15, "e1000", "e1000"), (16, "rtl8139", "8139cp")] {
        let machine = Machine::new(card, Firmware::Bios, number).card(card);
        let vm = run.registers(&machine);
        let known = run.site.machine(machine.mac()).unwrap();
        assert_eq!(known["inventory"]["nics"][0]["driver"], driver, "{known:#}");
        vm.power_off().unwrap();
    }
}

/// T10, Z4: OVMF, ProxyDHCP beside dnsmasq on another host.
#[test]
fn b_z4_uefi_machine_registers_beside_a_foreign_dhcp_server() {
    let run = run("b-uefi-proxy", Mode::Proxy);
    let disk = Disk::blank(run.folder.join("disk.raw"), GIB, Bus::Nvme, "DISK-B").unwrap();
    let machine = Machine::new("uefi", Firmware::UefiPxe4, 12).disk(disk);
    let _vm = run.registers(&machine);
    assert_eq!(
        run.site.machine(machine.mac()).unwrap()["inventory"]["uefi"],
        true
    );
}

/// Z5: the DHCP server is on the same host, and the firmware asks again on port 4011.
#[test]
fn c_z5_port_4011_on_the_same_host() {
    let run = run("c-port4011", Mode::Port4011);
    let machine = Machine::new("uefi", Firmware::UefiPxe4, 13);
    let _vm = run.registers(&machine);
}

/// T2: UEFI HTTP Boot.
#[test]
fn d_t2_uefi_http_boot() {
    let run = run("d-http", Mode::Dhcp);
    let machine = Machine::new("http", Firmware::UefiHttp4, 14);
    let _vm = run.registers(&machine);
    run.site.told(machine.mac(), &["by HTTP"]).unwrap();
}

/// F1, F3, F4: a foreign DHCP server gives options 66 and 67 and says nothing else of booting, to iPXE neither. A BIOS
/// machine starts iPXE on the card's UNDI driver, a UEFI machine iPXE on the firmware's; the first script comes by
/// TFTP, under the name of the loader and as `autoexec.ipxe`.
#[test]
fn f1_f4_two_options_of_a_foreign_server_boot_bios_and_uefi() {
    let lab = Lab::open().unwrap();
    let folder = lab.scratch("f1-options").unwrap();
    let lan = Lan::new().unwrap();
    let host = lan.server().unwrap();
    let (first, last) = (Ipv4Addr::new(10, 77, 0, 100), Ipv4Addr::new(10, 77, 0, 199));
    // It runs on our host: dnsmasq fills siaddr with its own address, which firmware believes before option 66.
    let dhcp = Dnsmasq::addresses(first, last)
        .with("--dhcp-match=set:efi,option:client-arch,7")
        .with("--dhcp-option-force=66,10.77.0.1")
        .with("--dhcp-option-force=tag:!efi,67,boot/ipxe-undionly-bios/undionly.kpxe")
        .with("--dhcp-option-force=tag:efi,67,boot/ipxe-snponly-x64/snponly.efi")
        .start(&host, &folder)
        .unwrap();
    let site = Site::start(&lab, host, &folder, Mode::Port4011).unwrap();
    let run = Run {
        folder,
        lan,
        site,
        _other: vec![dhcp],
    };
    for (name, firmware, number, loader, script) in [
        (
            "bios",
            Firmware::Bios,
            18,
            "It fetched undionly.kpxe",
            "It fetched the first script, in place of the loader",
        ),
        (
            "uefi",
            Firmware::UefiPxe4,
            19,
            "It fetched snponly.efi",
            "It fetched the first script by TFTP",
        ),
    ] {
        let machine = Machine::new(name, firmware, number);
        let vm = machine.start(&run.lan, &run.folder).unwrap();
        run.site.hands_over_the_agent(machine.mac()).unwrap();
        let told = run.site.told(machine.mac(), &[loader, script]).unwrap();
        let told = told.join("\n");
        assert!(!told.contains("told to fetch"), "we named nothing:\n{told}");
        vm.power_off().unwrap();
    }
}
