//! Loaders other than iPXE, on real firmware: PXELINUX, GRUB, and the signed chain under Secure Boot.

use std::{
    net::Ipv4Addr,
    path::PathBuf,
    time::{Duration, Instant},
};

use farrier_e2e::{Firmware, Lab, Lan, Machine, Mode, Program, Site, Vm, server::Dnsmasq};

const BOOT: Duration = Duration::from_secs(150);

struct Run {
    folder: PathBuf,
    lan: Lan,
    site: Site,
    _other: Vec<Program>,
}

/// A LAN with our server, whose catalogue lacks the loaders with ids that begin so.
fn run(name: &str, without: &[&str]) -> Run {
    let lab = Lab::open().unwrap();
    let folder = lab.scratch(name).unwrap();
    let lan = Lan::new().unwrap();
    let host = lan.server().unwrap();
    let site = Site::start_without(&lab, host, &folder, Mode::Dhcp, without).unwrap();
    Run {
        folder,
        lan,
        site,
        _other: Vec::new(),
    }
}

/// A DHCP server on another host that names a file of ours and our address; our server answers on TFTP, HTTP and
/// port 4011 only.
fn named_by_dnsmasq(name: &str, file: &str) -> Run {
    let lab = Lab::open().unwrap();
    let folder = lab.scratch(name).unwrap();
    let lan = Lan::new().unwrap();
    let host = lan.server().unwrap();
    let elsewhere = lan.other().unwrap();
    let (first, last) = (Ipv4Addr::new(10, 77, 0, 100), Ipv4Addr::new(10, 77, 0, 199));
    let address = host.address().unwrap();
    let dhcp = Dnsmasq::addresses(first, last)
        .with(&format!("--dhcp-boot={file},farrier,{address}"))
        .start(&elsewhere, &folder)
        .unwrap();
    let site = Site::start(&lab, host, &folder, Mode::Port4011).unwrap();
    Run {
        folder,
        lan,
        site,
        _other: vec![dhcp],
    }
}

impl Run {
    fn start(&self, machine: &Machine) -> Vm {
        machine.start(&self.lan, &self.folder).unwrap()
    }

    /// Powers a machine on and waits for its agent's inventory; returns the seconds.
    fn registers(&self, machine: &Machine) -> f64 {
        let started = Instant::now();
        let mut vm = self.start(machine);
        vm.wait_for("farrier-agent: inventory sent", BOOT).unwrap();
        let known = self.site.machine(machine.mac()).unwrap();
        assert_eq!(known["registration"], "approved", "{known:#}");
        started.elapsed().as_secs_f64()
    }

    fn told(&self, machine: &Machine) -> String {
        self.site.timeline(machine.mac()).unwrap().join("\n")
    }
}

/// Secure Boot with Microsoft's keys and nothing set on the machine: unsigned iPXE is refused and named, and the
/// next boot goes by shim, signed GRUB and signed kernel to the agent's inventory.
#[test]
fn k_secure_boot_gets_the_signed_chain() {
    let run = run("k-secure", &[]);
    let machine = Machine::new("secure", Firmware::SecurePxe4, 41).memory(768);
    let mut vm = run.start(&machine);
    vm.wait_for("Access Denied", BOOT).unwrap();
    vm.power_off().unwrap();
    let refused = "did not run. It is not signed";
    // So long the server waits for a word of the loader.
    std::thread::sleep(Duration::from_secs(22));
    let seconds = run.registers(&machine);
    let known = run.site.machine(machine.mac()).unwrap();
    assert_eq!(known["inventory"]["secure_boot"], true, "{known:#}");
    let told = run.told(&machine);
    for words in [refused, "shimx64.efi", "grubx64.efi", "GRUB's first script"] {
        assert!(told.contains(words), "{words} in\n{told}");
    }
    eprintln!("Secure Boot to the inventory: {seconds:.1} s");
}

/// A foreign DHCP server names our PXELINUX, and our own server says nothing about booting: so the card's iPXE
/// takes it. It finds its configuration and starts the agent.
#[test]
fn l_pxelinux_starts_the_agent() {
    let run = named_by_dnsmasq("l-pxelinux", "boot/lpxelinux-bios/lpxelinux.0");
    let machine = Machine::new("pxelinux", Firmware::Bios, 42);
    let seconds = run.registers(&machine);
    let told = run.told(&machine);
    assert!(told.contains("its PXELINUX configuration"), "{told}");
    eprintln!("PXELINUX to the inventory: {seconds:.1} s");
}

/// GRUB by TFTP starts the agent.
#[test]
fn m_grub_starts_the_agent() {
    let run = run("m-grub", &["ipxe", "shim"]);
    let machine = Machine::new("grub", Firmware::UefiPxe4, 43).memory(768);
    let seconds = run.registers(&machine);
    assert!(run.told(&machine).contains("its GRUB script"));
    eprintln!("GRUB to the inventory: {seconds:.1} s");
}
