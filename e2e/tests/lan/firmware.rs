//! The firmware matrix: its fast rows one by one, and machines of many kinds at once. `cargo xtask e2e firmware` runs
//! all rows.

use farrier_e2e::{Lab, matrix, packages, report::say};
use serde_json::json;

/// The first machine; rows take the numbers that follow.
const NUMBER: u8 = 80;

/// T3: machines that are no PCs are told so on their own screen, by their own firmware or a loader of ours.
#[test]
fn t3_firmware_of_other_processors_boots_and_says_what_is_missing() {
    let lab = lab();
    let mut failures = Vec::new();
    for (number, row) in (NUMBER..).zip(matrix::fast()) {
        match matrix::run(&lab, *row, number).seen {
            Ok(seen) => say(&format!(
                "{}: {} after {:.1} s, {:.1} CPU seconds",
                row.name, row.seen, seen.seconds, seen.cpu
            )),
            Err(error) => failures.push(format!("{error:#}")),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// Kinds of machines, by their rows: what the server has to tell of each.
const KINDS: [(&str, &str, &str); 8] = [
    ("bios-virtio", "BIOS", "x86-64"),
    ("bios-e1000", "BIOS", "x86-64"),
    ("ovmf-pxe4", "UEFI", "x86-64"),
    ("ovmf-http4", "UEFI", "x86-64"),
    ("secure-pxe4", "UEFI", "x86-64"),
    ("ia32-pxe4", "UEFI", "ia32"),
    ("arm64-pxe4", "UEFI", "arm64"),
    ("uboot-arm64-menu", "U-Boot", "arm64"),
];

/// X5: all of them are powered on in one moment, on one network with one server and one policy. Each comes as far as
/// its kind does, and is one machine of its own kind, whoever else was asking meanwhile.
#[test]
fn x5_eight_kinds_of_machines_boot_at_once_under_one_policy() {
    let lab = lab();
    let fleet = matrix::Fleet::set_up(&lab, &KINDS.map(|(row, ..)| row), NUMBER).unwrap();
    let mut failures = Vec::new();
    for ((row, _), seen) in fleet.machines().iter().zip(fleet.boot()) {
        match seen {
            Ok(seen) => say(&format!(
                "{}: {} after {:.1} s, {:.1} CPU seconds",
                row.name, row.seen, seen.seconds, seen.cpu
            )),
            Err(error) => failures.push(format!("{error:#}")),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));

    let page = fleet.site().get("machines").unwrap();
    let known = page["items"].as_array().unwrap();
    assert_eq!(known.len(), KINDS.len(), "{page:#}");
    for ((row, machine), (_, firmware, arch)) in fleet.machines().iter().zip(KINDS) {
        let known = fleet.site().machine(machine.mac()).unwrap();
        assert_eq!(known["macs"], json!([machine.mac()]), "{known:#}");
        assert_eq!(known["firmware"], firmware, "{}: {known:#}", row.name);
        assert_eq!(known["arch"], arch, "{}: {known:#}", row.name);
    }
}

fn lab() -> Lab {
    let missing = packages::missing(&matrix::fast_packages()).unwrap();
    assert!(
        missing.is_empty(),
        "`cargo xtask test` installs what is missing: {missing:?}"
    );
    Lab::open().unwrap()
}
