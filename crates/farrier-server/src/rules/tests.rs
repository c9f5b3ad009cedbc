//! Rules in words, and what comes of them.

use std::time::Instant;

use farrier_engine::WallTime;
use farrier_engine::facts::BootFacts;
use farrier_engine::model::{Disk, Inventory, Machine, MachineId, Registration};
use farrier_engine::policy::{Rule, Settings, Verdict};
use uuid::Uuid;

use super::Rules;
use crate::whereabouts::Place;

fn rule(when: &str) -> Rule {
    Rule {
        name: "r".to_owned().try_into().unwrap(),
        when: when.to_owned(),
        settings: Settings::default(),
        refuse_boot: false,
        refuse_tasks: false,
    }
}

fn facts() -> BootFacts {
    let said = [
        ("mac", "52:54:00:00:00:01"),
        ("platform", "efi"),
        ("buildarch", "x86_64"),
        ("manufacturer", "QEMU"),
        ("product", "Standard PC || boot"),
    ];
    BootFacts::from_http(said).unwrap()
}

fn disk(size_bytes: u64, removable: bool) -> Disk {
    Disk {
        name: "sda".to_owned(),
        size_bytes,
        logical_sector: 512,
        physical_sector: 512,
        model: "QEMU HARDDISK".to_owned(),
        serial: "S1".to_owned(),
        wwn: String::new(),
        bus: "sata".to_owned(),
        rotational: false,
        removable,
        table: None,
    }
}

fn machine(disks: usize) -> Machine {
    Machine {
        id: MachineId(Uuid::from_u128(1)),
        name: Some("lab-1".to_owned().try_into().unwrap()),
        registration: Registration::Approved,
        macs: vec!["52:54:00:00:00:01".parse().unwrap()],
        uuid: None,
        firmware: None,
        arch: None,
        group: Some("lab".to_owned().try_into().unwrap()),
        settings: Settings::default(),
        intent: None,
        learned: None,
        inventory: (disks > 0).then(|| Inventory {
            memory_bytes: 8 << 30,
            disks: vec![disk(500 << 30, false); disks],
            ..Inventory::default()
        }),
        first_seen: WallTime(0),
        last_seen: WallTime(0),
        revision: 1,
    }
}

fn judged(when: &str, machine: Option<&Machine>) -> Verdict {
    judged_at(when, machine, Place::default())
}

fn judged_at(when: &str, machine: Option<&Machine>, place: Place) -> Verdict {
    let rules = Rules::of(&[rule(when)]);
    let mut judged = rules.judge(Some(&facts()), machine, || place);
    judged.remove(0).verdict
}

fn office(address: Option<&str>) -> Place {
    let parsed = address.map(|address| address.parse().unwrap());
    Place {
        address: parsed,
        link: parsed.or_else(|| Some([10, 1, 0, 1].into())),
        subnet: "office".to_owned(),
    }
}

#[test]
fn z25_rules_see_where_a_machine_is() {
    let known = machine(0);
    for (when, address, expected) in [
        ("machine.subnet == 'office'", Some("10.1.0.7"), true),
        ("machine.subnet in ['lab', 'hall']", Some("10.1.0.7"), false),
        ("machine.address == '10.1.0.7'", Some("10.1.0.7"), true),
        ("in_subnet('10.1.0.0/16')", Some("10.1.0.7"), true),
        ("in_subnet('10.2.0.0/16')", Some("10.1.0.7"), false),
        ("in_subnet('10.1.0.0/' + '16')", Some("10.1.0.7"), true),
        (
            "['10.2.0.0/16', '10.1.0.0/24'].exists(n, in_subnet(n))",
            Some("10.1.0.7"),
            true,
        ),
        ("in_subnet('fd00:1::/32')", Some("fd00:1::7"), true),
        ("in_subnet('10.0.0.0/8')", Some("fd00:1::7"), false),
        // A DHCPDISCOVER: the wire is known, the address is not.
        ("in_subnet('10.1.0.0/16')", None, true),
        ("machine.subnet == 'office'", None, true),
        ("has(machine.address)", None, false),
    ] {
        let expected = if expected {
            Verdict::Holds
        } else {
            Verdict::DoesNot
        };
        for machine in [Some(&known), None] {
            let found = judged_at(when, machine, office(address));
            assert_eq!(found, expected, "{when} at {address:?}");
        }
    }
    for (when, place, words) in [
        (
            "in_subnet('10.1.0.0/16')",
            Place::default(),
            "not known where",
        ),
        ("machine.subnet == 'office'", Place::default(), "subnet"),
        ("machine.address == '10.1.0.7'", office(None), "address"),
        ("in_subnet(machine.name)", office(None), "not a network"),
    ] {
        let Verdict::Failed(why) = judged_at(when, Some(&known), place) else {
            panic!("{when}")
        };
        assert!(why.contains(words), "{when}: {why}");
    }
}

#[test]
fn z15_rules_see_boot_facts_machine_and_inventory() {
    let known = machine(2);
    for (when, expected) in [
        ("true", true),
        ("facts.firmware == 'uefi' && facts.arch == \"x86_64\"", true),
        ("facts.firmware == 'bios'", false),
        ("facts.stage == 'ipxe' && facts.protocol == 'script'", true),
        ("facts.mac.startsWith('52:54:00')", true),
        ("facts.product.contains('|| boot')", true),
        (
            "machine.known && machine.name == 'lab-1' && machine.group in ['lab', 'office']",
            true,
        ),
        ("machine.registration != 'approved'", false),
        ("inventory.memory_bytes >= 4 * 1024 * 1024 * 1024", true),
        (
            "inventory.disks.exists(d, d.size_bytes > 400000000000 && !d.removable)",
            true,
        ),
        ("inventory.disks.all(d, d.bus == 'nvme')", false),
        ("size(inventory.disks) == 2", true),
        (
            "inventory.disks.filter(d, d.bus == 'sata').map(d, d.serial) == ['S1', 'S1']",
            true,
        ),
        (
            "has(inventory.memory_bytes) ? inventory.memory_bytes > 1 : true",
            true,
        ),
    ] {
        let expected = if expected {
            Verdict::Holds
        } else {
            Verdict::DoesNot
        };
        assert_eq!(judged(when, Some(&known)), expected, "{when}");
    }
    assert_eq!(
        judged("!machine.known && !has(inventory.disks)", None),
        Verdict::Holds
    );
}

#[test]
fn what_is_not_known_fails_and_is_not_taken_for_no() {
    for (when, words) in [
        ("inventory.memory_bytes > 1", "memory_bytes"),
        ("machine.name", "string"),
        ("facts.mac > 3", ""),
        ("1 / 0 == 1", "zero"),
    ] {
        let Verdict::Failed(why) = judged(when, None) else {
            panic!("{when}")
        };
        assert!(why.to_lowercase().contains(words), "{when}: {why}");
    }
}

#[test]
fn a_rule_that_does_not_compile_is_refused_with_its_place() {
    for (when, line, column, words) in [
        ("facts.mac ==", 1, 13, ""),
        (
            "facts.mac == 'x' &&\n  fact.arch == 'y'",
            2,
            3,
            "there is no fact;",
        ),
        ("machine.known && open('x')", 1, 18, "no function open"),
        ("farrier_burn(true)", 1, 1, "no function farrier_burn"),
        ("", 1, 1, ""),
        (
            "machine.known &&\n in_subnet('10.1.0.1/16')",
            2,
            13,
            "bits set behind",
        ),
        ("in_subnet('office')", 1, 12, "is not a network such as"),
        ("!in_subnet(\"10.1.0.0/40\")", 1, 13, "at most 32 bits"),
        ("true || in_subnet(10)", 1, 9, "takes a text"),
        ("in_subnet()", 1, 1, "takes a network"),
        (
            "machine.address.in_subnet('10.1.0.0/16')",
            1,
            17,
            "takes a network",
        ),
    ] {
        let rules = Rules::of(&[rule("true"), rule(when)]);
        let faults: Vec<_> = rules.faults().collect();
        assert_eq!(faults.len(), 1, "{when}");
        assert_eq!(
            (faults[0].line, faults[0].column),
            (line, column),
            "{when}: {}",
            faults[0]
        );
        assert!(faults[0].message.contains(words), "{when}: {}", faults[0]);
        let verdicts = rules.judge(None, None, Place::default);
        assert_eq!(verdicts[0].verdict, Verdict::Holds);
        assert!(matches!(verdicts[1].verdict, Verdict::Failed(_)), "{when}");
    }
    for when in [
        "(".repeat(1500),
        "[".repeat(500),
        "!".repeat(1999),
        "x".repeat(3000),
    ] {
        assert_eq!(Rules::of(&[rule(&when)]).faults().count(), 1, "{when}");
    }
}

/// Loops in loops in loops: 64 disks make sixteen million passes.
#[test]
fn t7_a_rule_that_never_ends_runs_out_of_fuel() {
    let known = machine(64);
    let inner = "inventory.disks.exists(d, d.size_bytes < 0)";
    let middle = format!("inventory.disks.exists(c, {inner} || c.size_bytes < 0)");
    let outer = format!("inventory.disks.exists(b, {middle} || b.size_bytes < 0)");
    let begin = Instant::now();
    let when = format!("inventory.disks.exists(a, {outer} || a.size_bytes < 0)");
    let Verdict::Failed(why) = judged(&when, Some(&known)) else {
        panic!("it ended")
    };
    assert!(why.contains("10000 steps"), "{why}");
    assert!(begin.elapsed().as_secs() < 5, "{:?}", begin.elapsed());
    assert_eq!(
        judged(inner, Some(&known)),
        Verdict::DoesNot,
        "and one loop is fine"
    );
}
