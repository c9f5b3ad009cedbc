//! What a loader that asks for its script gets.

use super::*;
use crate::script::Language;

#[test]
fn the_third_loader_within_a_minute_is_the_last() {
    let ago = |seconds: i64| WallTime(NOW.0 - seconds * 1000);
    for (name, loads, options, expected) in [
        ("two", vec![ago(10), ago(20)], UEFI, tftp("snponly")),
        (
            "three",
            vec![ago(1), ago(10), ago(59)],
            UEFI,
            DhcpAction::AddressOnly(Reason::LoaderLoop),
        ),
        (
            "three, one long ago",
            vec![ago(1), ago(10), ago(60)],
            UEFI,
            tftp("snponly"),
        ),
        (
            "iPXE that came up is no loop",
            vec![ago(1), ago(2), ago(3)],
            IPXE,
            DhcpAction::Boot(Boot::Script),
        ),
    ] {
        let known = Known {
            recent_loads: &loads,
            ..Known::default()
        };
        let decision = decide_dhcp(&dhcp(options), Service::Dhcp, &known, &snapshot(), NOW);
        assert_eq!(
            decision.action, expected,
            "{name}\n{}",
            decision.explanation
        );
    }
}

#[test]
fn script_decisions() {
    use Registration::{Approved, Disabled, Pending, Seen};
    use ScriptAction::{Agent, LocalDisk, MemoryTest, Menu, Message};
    let due = task(State::Queued, WallTime(NOW.0 + 1));
    let running = task(State::Running, WallTime(0));
    let over = task(State::Queued, NOW);
    let done = task(State::Done, WallTime(NOW.0 + 1));
    let menu = Menu {
        default: MenuEntry::LocalDisk,
        timeout: Policy::DEFAULT.menu_timeout,
        on_key: true,
        media: vec![],
        local_disk: local(),
    };
    let task_agent = Agent(AgentPurpose::Task(due.id));
    let told = |reason| Message {
        reason,
        local_disk: local(),
    };
    let known = |registration| (Some(registration), None, false);
    type Row<'a> = (
        &'a str,
        (Option<Registration>, Option<&'a Task>, bool),
        Option<MenuEntry>,
        ScriptAction,
        &'a str,
    );
    let rows: Vec<Row<'_>> = vec![
        (
            "task due",
            (Some(Approved), Some(&due), false),
            None,
            task_agent.clone(),
            "task due",
        ),
        (
            "task at work before a restart",
            (Some(Approved), Some(&running), false),
            None,
            task_agent,
            "task due",
        ),
        (
            "task whose time is over",
            (Some(Approved), Some(&over), false),
            None,
            menu.clone(),
            "menu",
        ),
        (
            "task done",
            (Some(Approved), Some(&done), false),
            None,
            menu.clone(),
            "menu",
        ),
        (
            "no work, no agent",
            known(Approved),
            None,
            menu.clone(),
            "menu",
        ),
        (
            "task, not approved",
            (Some(Pending), Some(&due), false),
            None,
            menu.clone(),
            "menu",
        ),
        (
            "conflict (R9)",
            (Some(Approved), Some(&due), true),
            None,
            told(Reason::IdentityConflict),
            "identity",
        ),
        (
            "disabled",
            (Some(Disabled), Some(&due), false),
            None,
            told(Reason::MachineDisabled),
            "machine enabled",
        ),
        (
            "unknown",
            (None, None, false),
            None,
            Agent(AgentPurpose::Register),
            "unknown machine",
        ),
        (
            "seen",
            known(Seen),
            None,
            Agent(AgentPurpose::Register),
            "unknown machine",
        ),
        (
            "pending registers no second time",
            known(Pending),
            None,
            menu,
            "menu",
        ),
        (
            "chose the disk",
            (Some(Approved), Some(&due), false),
            Some(MenuEntry::LocalDisk),
            LocalDisk(local()),
            "menu choice",
        ),
        (
            "chose to register",
            known(Approved),
            Some(MenuEntry::Register),
            Agent(AgentPurpose::Register),
            "menu choice",
        ),
        (
            "chose the test",
            known(Approved),
            Some(MenuEntry::MemoryTest),
            MemoryTest(file("memtest")),
            "menu choice",
        ),
        (
            "disabled chose",
            known(Disabled),
            Some(MenuEntry::Register),
            told(Reason::MachineDisabled),
            "machine enabled",
        ),
    ];
    for (name, (registration, due, conflict), choice, expected, rule) in rows {
        let machine = registration.map(machine);
        let known = Known {
            machine: machine.as_ref(),
            due,
            conflict,
            wants_signature: false,
            recent_loads: &[],
            ..Known::default()
        };
        let decision = decide_script(
            &script("efi", "x86_64", "1.21.1"),
            choice,
            &known,
            &snapshot(),
            NOW,
        );
        assert_eq!(
            decision.action, expected,
            "{name}\n{}",
            decision.explanation
        );
        let decided = decision
            .explanation
            .steps
            .iter()
            .find(|step| step.matched)
            .unwrap();
        assert_eq!(decided.rule, rule, "{name}\n{}", decision.explanation);
    }
}

#[test]
fn t11_the_way_to_the_local_disk_by_firmware() {
    let approved = machine(Registration::Approved);
    let known = Known {
        machine: Some(&approved),
        ..Known::default()
    };
    for (platform, buildarch, version, expected) in [
        ("pcbios", "i386", "1.21.1", LocalBoot::Sanboot),
        ("efi", "x86_64", "1.21.1", local()),
        ("efi", "arm64", "1.21.1", LocalBoot::Exit),
        ("efi", "arm64", "2.0.0", LocalBoot::SanbootFile),
        ("linux", "x86_64", "2.0.0", LocalBoot::Exit),
    ] {
        let facts = script(platform, buildarch, version);
        let decision = decide_script(&facts, Some(MenuEntry::LocalDisk), &known, &snapshot(), NOW);
        assert_eq!(
            decision.action,
            ScriptAction::LocalDisk(expected),
            "{platform} {buildarch} {version}"
        );
    }
}

/// iPXE before 2.0 starts no disk on UEFI, and is what Debian 12 has: GRUB does it in its place.
#[test]
fn t11_grub_starts_the_disk_of_an_older_ipxe_on_uefi() {
    use FirmwareKind::Uefi;
    use LocalBootChoice::{Auto, Firmware, FirstDisk};
    let grub = || LocalBoot::Grub(file("grub"));
    let ours = loader("grub", Arch::X86_64, Uefi, LoaderKind::Grub);
    let foreign = loader("grub", Arch::Ia32, Uefi, LoaderKind::Grub);
    let starter = loader("local-x64", Arch::X86_64, Uefi, LoaderKind::LocalBoot);
    let approved = machine(Registration::Approved);
    for (name, version, choice, stops_in_grub, loaders, expected) in [
        ("old", "1.0.0+", Auto, false, vec![&ours], grub()),
        ("of unknown age", "", Auto, false, vec![&ours], grub()),
        (
            "the disk is wanted",
            "1.0.0+",
            FirstDisk,
            false,
            vec![&ours],
            grub(),
        ),
        (
            "the firmware is wanted",
            "1.0.0+",
            Firmware,
            false,
            vec![&ours],
            LocalBoot::Firmware,
        ),
        ("no GRUB", "1.0.0+", Auto, false, vec![], LocalBoot::Exit),
        (
            "of another architecture",
            "1.0.0+",
            Auto,
            false,
            vec![&foreign],
            LocalBoot::Exit,
        ),
        (
            "it stopped there",
            "1.0.0+",
            Auto,
            true,
            vec![&ours],
            LocalBoot::Exit,
        ),
        (
            "a program for it",
            "1.0.0+",
            Auto,
            false,
            vec![&ours, &starter],
            local(),
        ),
        (
            "new",
            "2.0.0",
            Auto,
            false,
            vec![&ours],
            LocalBoot::SanbootFile,
        ),
    ] {
        let known = Known {
            machine: Some(&approved),
            stops_in_grub,
            ..Known::default()
        };
        let mut snapshot = snapshot();
        snapshot.site.local_boot = Some(choice);
        snapshot.catalogue = Catalogue::new(loaders.into_iter().cloned());
        let facts = script("efi", "x86_64", version);
        let decision = decide_script(&facts, Some(MenuEntry::LocalDisk), &known, &snapshot, NOW);
        assert_eq!(decision.action, ScriptAction::LocalDisk(expected), "{name}");
    }
    // GRUB itself, asking for its own script, has no need of another.
    let known = Known {
        machine: Some(&approved),
        ..Known::default()
    };
    let mut snapshot = snapshot();
    snapshot.catalogue = Catalogue::new([ours.clone()]);
    let (arch, firmware) = (Some(Arch::X86_64), Some(Uefi));
    let mac = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
    let facts = BootFacts::from_loader(mac, Language::Grub, arch, firmware, None);
    let decision = decide_script(&facts, Some(MenuEntry::LocalDisk), &known, &snapshot, NOW);
    assert_eq!(decision.action, ScriptAction::LocalDisk(LocalBoot::Exit));
}

/// No one way works on every firmware, so people can say which (protocols: `sanboot`, `exit`, the boot order).
#[test]
fn t21_the_way_to_the_local_disk_as_somebody_sets_it() {
    use LocalBootChoice::{Auto, Firmware, FirstDisk};
    let approved = machine(Registration::Approved);
    let known = Known {
        machine: Some(&approved),
        ..Known::default()
    };
    for (platform, version, choice, expected) in [
        ("pcbios", "1.21.1", Auto, LocalBoot::Sanboot),
        ("pcbios", "1.21.1", Firmware, LocalBoot::Firmware),
        ("pcbios", "1.21.1", FirstDisk, LocalBoot::Sanboot),
        ("efi", "2.0.0", Auto, local()),
        ("efi", "2.0.0", Firmware, LocalBoot::Firmware),
        ("efi", "2.0.0", FirstDisk, LocalBoot::SanbootFile),
        // An older iPXE has no way of its own there.
        ("efi", "1.21.1", FirstDisk, local()),
    ] {
        let mut snapshot = snapshot();
        snapshot.site.local_boot = Some(choice);
        let facts = script(platform, "x86_64", version);
        let decision = decide_script(&facts, Some(MenuEntry::LocalDisk), &known, &snapshot, NOW);
        let expected = ScriptAction::LocalDisk(expected);
        assert_eq!(decision.action, expected, "{platform} {version} {choice:?}");
    }
}

#[test]
fn what_we_do_not_have_is_said() {
    let approved = machine(Registration::Approved);
    let known = Known {
        machine: Some(&approved),
        ..Known::default()
    };
    let facts = script("efi", "arm64", "1.21.1");
    for (choice, expected) in [
        (MenuEntry::Register, Reason::NoAgentForMachine),
        (MenuEntry::MemoryTest, Reason::NoMemoryTest),
    ] {
        let decision = decide_script(&facts, Some(choice), &known, &snapshot(), NOW);
        assert!(
            matches!(decision.action, ScriptAction::Message { reason, .. } if reason == expected),
            "{decision:?}"
        );
    }
    // A PC could have an agent, so something is to be done.
    let bare = Snapshot::default();
    let pc = script("pcbios", "i386", "1.21.1");
    let decision = decide_script(&pc, Some(MenuEntry::Register), &known, &bare, NOW);
    assert!(
        matches!(decision.action, ScriptAction::Message { reason, .. } if reason == Reason::NoAgent),
        "{decision:?}"
    );
}
