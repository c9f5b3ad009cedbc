//! Booting over IPv6 alone: DHCPv6, router advertisements, TFTP and HTTP, on real firmware.

use std::time::Duration;

use farrier_e2e::site::OVER_IPV6;
use farrier_e2e::{Firmware, Lab, Lan, Machine, Site};

/// The firmware tries IPv4 first, in vain: up to 72 s.
const BOOT: Duration = Duration::from_secs(240);

/// Boots `firmware` until its agent has told what the machine is made of, and returns what the timeline tells.
fn boot(name: &str, firmware: Firmware, number: u8) -> Vec<String> {
    let lab = Lab::open().unwrap();
    let folder = lab.scratch(name).unwrap();
    let lan = Lan::new().unwrap();
    let host = lan.server().unwrap();
    host.ip(["addr", "add", "fd77::1/64", "dev", "eth0", "nodad"])
        .unwrap();
    let site = Site::serving(&lab, host, &folder, OVER_IPV6).unwrap();
    let machine = Machine::new(name, firmware, number);
    let mut vm = machine.start(&lan, &folder).unwrap();
    vm.wait_for("farrier-agent: inventory sent", BOOT).unwrap();
    assert!(vm.console().contains("eth0 is fd77::"), "{}", vm.console());
    let known = site.machine(machine.mac()).unwrap();
    assert_eq!(known["registration"], "approved", "{known:#}");
    let told = site.told(machine.mac(), &["has the address fd77::"]);
    let told = told.unwrap();
    assert!(!told.iter().any(|s| s.contains("10.77.0")), "{told:#?}");
    let missed = |s: &String| s.contains("no request for it") || s.contains("asked for no file");
    assert!(
        !told.iter().any(missed),
        "it did all it was asked to: {told:#?}"
    );
    told
}

/// T2, RFC 5970: OVMF gets an address and a URL by DHCPv6 and its loader by TFTP; iPXE hears our router
/// advertisement and goes on by HTTP.
#[test]
fn j_t2_uefi_pxe_boot_over_ipv6() {
    let told = boot("j-pxe6", Firmware::UefiPxe6, 31);
    let loader = |s: &String| s.contains("fetched snponly.efi") && s.contains("by TFTP");
    assert!(told.iter().any(loader), "{told:#?}");
}

/// T2: UEFI HTTP Boot.
#[test]
fn k_t2_uefi_http_boot_over_ipv6() {
    let told = boot("k-http6", Firmware::UefiHttp6, 32);
    let loader = |s: &String| s.contains("fetched snponly.efi") && s.contains("by HTTP");
    assert!(told.iter().any(loader), "{told:#?}");
}
