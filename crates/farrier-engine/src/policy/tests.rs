//! Decisions by table: who asks, what is known, what comes out and by which rule.

use uuid::Uuid;

use farrier_proto::MacAddr;
use farrier_proto::wire::dhcpv4::{Message, MessageType, Xid};

use super::*;
use crate::Reason;
use crate::catalogue::{LoaderFile, LoaderKind, tests::loader};
use crate::facts::BootFacts;
use crate::model::{FirmwareKind, Inventory, MachineId, TaskId};
use crate::task::{Progress, State, Then, Work};

pub(super) const NOW: WallTime = WallTime(1_000_000);

pub(super) fn snapshot() -> Snapshot {
    use FirmwareKind::{Bios, Uefi};
    let snp = LoaderKind::Ipxe {
        variant: IpxeVariant::SnpOnly,
    };
    Snapshot {
        site: Settings::default(),
        groups: BTreeMap::new(),
        catalogue: Catalogue::new([
            loader("undionly", Arch::X86_64, Bios, snp),
            loader("snponly", Arch::X86_64, Uefi, snp),
            loader("snponly-arm64", Arch::Arm64, Uefi, snp),
            loader("local-x64", Arch::X86_64, Uefi, LoaderKind::LocalBoot),
            loader("memtest", Arch::X86_64, Uefi, LoaderKind::MemoryTest),
        ]),
        media: BTreeMap::new(),
        agents: [Arch::X86_64].into(),
        https: true,
    }
}

pub(super) fn machine(registration: Registration) -> Machine {
    Machine {
        id: MachineId(Uuid::from_u128(1)),
        name: None,
        registration,
        macs: vec![],
        uuid: None,
        firmware: None,
        arch: None,
        group: None,
        settings: Settings::default(),
        intent: None,
        learned: None,
        inventory: None,
        first_seen: NOW,
        last_seen: NOW,
        revision: 1,
    }
}

pub(super) fn task(state: State, expires: WallTime) -> Task {
    Task {
        id: TaskId(Uuid::from_u128(9)),
        machine: MachineId(Uuid::from_u128(1)),
        work: Work::Inventory,
        state,
        fence: 0,
        attempts: 0,
        max_attempts: 3,
        created: NOW,
        created_by: "anna".into(),
        expires,
        heard: None,
        progress: Progress::default(),
        reason: None,
        ended: None,
        then: Then::LocalBoot,
        revision: 1,
    }
}

pub(super) fn dhcp(options: Options) -> BootFacts {
    let mut message = Message::request(Xid(1), MacAddr([0x52, 0x54, 0, 0, 0, 1]));
    message.options.set(53, vec![MessageType::Discover as u8]);
    for (code, value) in options {
        message.options.set(*code, value.to_vec());
    }
    BootFacts::from_dhcp(&message).unwrap()
}

/// Options as pairs of code and value.
type Options = &'static [(u8, &'static [u8])];

const BIOS: Options = &[(60, b"PXEClient:Arch:00000:UNDI:002001"), (93, &[0, 0])];
const UEFI: Options = &[(60, b"PXEClient:Arch:00007:UNDI:003000"), (93, &[0, 7])];
const HTTP: Options = &[(60, b"HTTPClient:Arch:00016:UNDI:003000"), (93, &[0, 16])];
const IA32: Options = &[(60, b"PXEClient:Arch:00006:UNDI:003000"), (93, &[0, 6])];
const SLOF_DISCOVER: Options = &[(55, &[1, 3, 6, 66, 67, 93])];
const IPXE: Options = &[
    (77, b"iPXE"),
    (175, &[19, 1, 1, 36, 1, 1]),
    (93, &[0, 7]),
    (60, b"PXEClient"),
];
const WEAK_IPXE: Options = &[
    (77, b"iPXE"),
    (175, &[21, 1, 1, 24, 1, 1]),
    (93, &[0, 0]),
    (60, b"PXEClient"),
];
const GPXE: Options = &[(77, b"gPXE"), (93, &[0, 0]), (60, b"PXEClient")];
const SYSTEM: Options = &[(60, b"MSFT 5.0")];

fn tftp(id: &str) -> DhcpAction {
    DhcpAction::Boot(Boot::Loader(file(id)))
}

fn file(id: &str) -> LoaderFile {
    LoaderFile {
        id: id.into(),
        file_name: format!("{id}.efi"),
    }
}

#[test]
fn dhcp_decisions() {
    use Reason::{ArchitectureUnknown, MachineDisabled, NoLoader, NotABootClient};
    use Registration::{Approved, Disabled, Pending, Seen};
    type Row = (
        &'static str,
        Options,
        Option<Registration>,
        DhcpAction,
        &'static str,
    );
    let rows: Vec<Row> = vec![
        ("BIOS", BIOS, Some(Approved), tftp("undionly"), "loader"),
        ("UEFI", UEFI, Some(Approved), tftp("snponly"), "loader"),
        (
            "HTTP Boot",
            HTTP,
            Some(Approved),
            DhcpAction::Boot(Boot::HttpLoader(file("snponly"))),
            "loader",
        ),
        (
            "iPXE gets the script, never a loader",
            IPXE,
            Some(Approved),
            DhcpAction::Boot(Boot::Script),
            "loader running",
        ),
        (
            "iPXE without HTTP gets ours",
            WEAK_IPXE,
            Some(Approved),
            tftp("undionly"),
            "loader",
        ),
        (
            "gPXE gets ours",
            GPXE,
            Some(Approved),
            tftp("undionly"),
            "loader",
        ),
        (
            "no loader",
            IA32,
            Some(Approved),
            DhcpAction::AddressOnly(NoLoader),
            "loader",
        ),
        (
            "architecture not told yet (T5)",
            SLOF_DISCOVER,
            Some(Approved),
            DhcpAction::AddressOnly(ArchitectureUnknown),
            "architecture",
        ),
        (
            "an operating system",
            SYSTEM,
            Some(Approved),
            DhcpAction::AddressOnly(NotABootClient),
            "boot client",
        ),
        (
            "an operating system of a stranger",
            SYSTEM,
            None,
            DhcpAction::AddressOnly(NotABootClient),
            "boot client",
        ),
        (
            "disabled",
            UEFI,
            Some(Disabled),
            DhcpAction::AddressOnly(MachineDisabled),
            "machine enabled",
        ),
        (
            "disabled, iPXE",
            IPXE,
            Some(Disabled),
            DhcpAction::AddressOnly(MachineDisabled),
            "machine enabled",
        ),
        ("unknown", UEFI, None, tftp("snponly"), "loader"),
        ("seen", UEFI, Some(Seen), tftp("snponly"), "loader"),
        ("pending", UEFI, Some(Pending), tftp("snponly"), "loader"),
    ];
    for (name, options, registration, expected, rule) in rows {
        let machine = registration.map(machine);
        let known = Known {
            machine: machine.as_ref(),
            ..Known::default()
        };
        let facts = dhcp(options);
        let decision = decide_dhcp(&facts, Service::Dhcp, &known, &snapshot(), NOW);
        assert_eq!(
            decision.action, expected,
            "{name}\n{}",
            decision.explanation
        );
        let last = decision.explanation.steps.last().unwrap();
        assert!(
            last.matched && last.rule == rule,
            "{name}\n{}",
            decision.explanation
        );
        let matched = decision
            .explanation
            .steps
            .iter()
            .filter(|step| step.matched)
            .count();
        assert_eq!(matched, 1, "{name}: one rule decides");

        // A proxy that has nothing to boot stays silent.
        let by_proxy = decide_dhcp(&facts, Service::Proxy, &known, &snapshot(), NOW).action;
        let silent = match expected {
            DhcpAction::AddressOnly(reason) => DhcpAction::Ignore(reason),
            other => other,
        };
        assert_eq!(by_proxy, silent, "{name}, proxy");
    }
}

#[test]
fn rfc951_a_bootp_client_boots_by_what_is_known_of_it() {
    let message = Message::request(Xid(1), MacAddr([0x52, 0x54, 0, 0, 0, 1]));
    let facts = BootFacts::from_dhcp(&message).unwrap();
    let told = Machine {
        arch: Some(Arch::X86_64),
        firmware: Some(FirmwareKind::Bios),
        ..machine(Registration::Approved)
    };
    let untold = machine(Registration::Approved);
    for (machine, expected) in [
        (&told, tftp("undionly")),
        (
            &untold,
            DhcpAction::AddressOnly(Reason::ArchitectureUnknown),
        ),
    ] {
        let known = Known {
            machine: Some(machine),
            ..Known::default()
        };
        assert_eq!(
            decide_dhcp(&facts, Service::Dhcp, &known, &snapshot(), NOW).action,
            expected
        );
    }
}

#[test]
fn strangers_by_policy() {
    let ignore = Snapshot {
        site: Settings {
            unknown_machine: Some(UnknownMachine::Ignore),
            ..Settings::default()
        },
        ..snapshot()
    };
    let decide =
        |known: &Known<'_>| decide_dhcp(&dhcp(UEFI), Service::Dhcp, known, &ignore, NOW).action;
    assert_eq!(
        decide(&Known::default()),
        DhcpAction::Ignore(Reason::UnknownMachine)
    );
    let (seen, approved) = (machine(Registration::Seen), machine(Registration::Approved));
    let of = |machine| Known {
        machine: Some(machine),
        ..Known::default()
    };
    assert_eq!(
        decide(&of(&seen)),
        DhcpAction::Ignore(Reason::UnknownMachine)
    );
    assert_eq!(decide(&of(&approved)), tftp("snponly"));
}

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

pub(super) fn script(platform: &str, buildarch: &str, version: &str) -> BootFacts {
    let parameters = [
        ("mac", "52:54:00:00:00:01"),
        ("platform", platform),
        ("buildarch", buildarch),
        ("version", version),
    ];
    BootFacts::from_http(parameters).unwrap()
}

fn local() -> LocalBoot {
    LocalBoot::Program(file("local-x64"))
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
fn menu_modes_and_default_entries() {
    let approved = machine(Registration::Approved);
    let known = Known {
        machine: Some(&approved),
        ..Known::default()
    };
    let decide = |menu, entry| {
        let site = Settings {
            menu: Some(menu),
            default_entry: Some(entry),
            ..Settings::default()
        };
        decide_script(
            &script("efi", "x86_64", "1"),
            None,
            &known,
            &Snapshot { site, ..snapshot() },
            NOW,
        )
        .action
    };
    assert_eq!(
        decide(MenuMode::Never, MenuEntry::LocalDisk),
        ScriptAction::LocalDisk(local())
    );
    assert_eq!(
        decide(MenuMode::Never, MenuEntry::MemoryTest),
        ScriptAction::MemoryTest(file("memtest"))
    );
    for (mode, expected) in [(MenuMode::Always, false), (MenuMode::OnKey, true)] {
        let ScriptAction::Menu {
            on_key, default, ..
        } = decide(mode, MenuEntry::MemoryTest)
        else {
            panic!()
        };
        assert_eq!((on_key, default), (expected, MenuEntry::MemoryTest));
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

#[test]
fn locked_entries_want_a_code() {
    let approved = machine(Registration::Approved);
    let facts = script("pcbios", "i386", "1.21.1");
    let decide = |site: &Settings, choice, code| {
        let known = Known {
            machine: Some(&approved),
            code,
            ..Known::default()
        };
        let snapshot = Snapshot {
            site: site.clone(),
            ..snapshot()
        };
        decide_script(&facts, Some(choice), &known, &snapshot, NOW).action
    };
    let locked = Settings {
        menu_code: Some(true),
        ..Settings::default()
    };
    let default_is_free = Settings {
        default_entry: Some(MenuEntry::Register),
        ..locked.clone()
    };
    let asks = |site, choice, code| match decide(site, choice, code) {
        ScriptAction::AskCode { entry, again, .. } => {
            assert_eq!(entry, choice);
            Some(again)
        }
        _ => None,
    };
    for (site, choice, code, expected) in [
        (
            &locked,
            MenuEntry::Register,
            MenuCode::NotGiven,
            Some(false),
        ),
        (&locked, MenuEntry::Diagnostics, MenuCode::Wrong, Some(true)),
        (&locked, MenuEntry::Register, MenuCode::Right, None),
        (&locked, MenuEntry::LocalDisk, MenuCode::NotGiven, None),
        (
            &default_is_free,
            MenuEntry::Register,
            MenuCode::NotGiven,
            None,
        ),
        (
            &Settings::default(),
            MenuEntry::Register,
            MenuCode::NotGiven,
            None,
        ),
    ] {
        assert_eq!(asks(site, choice, code), expected, "{choice:?} {code:?}");
    }
}

#[test]
fn every_value_comes_from_machine_then_site_then_default() {
    let site = Settings {
        menu: Some(MenuMode::Always),
        menu_timeout_s: Some(30),
        ..Settings::default()
    };
    let own = Settings {
        menu: Some(MenuMode::Never),
        ..Settings::default()
    };
    let inventory = Inventory {
        secure_boot: Some(true),
        ..Inventory::default()
    };
    let machine = Machine {
        settings: own,
        inventory: Some(inventory),
        ..machine(Registration::Approved)
    };
    let snapshot = Snapshot { site, ..snapshot() };
    let Resolved { policy, origins } = resolve(&snapshot, Some(&machine), &[]);
    assert_eq!(
        (policy.menu, origins.menu),
        (MenuMode::Never, Origin::Machine)
    );
    assert_eq!(
        (policy.menu_timeout, origins.menu_timeout),
        (Duration::from_secs(30), Origin::Site)
    );
    assert_eq!(
        (policy.default_entry, origins.default_entry),
        (MenuEntry::LocalDisk, Origin::Default)
    );
    assert_eq!(
        (policy.secure_boot, origins.secure_boot),
        (true, Origin::Machine)
    );
    let unset = resolve(&Snapshot::default(), None, &[]);
    assert_eq!(unset.policy, Policy::DEFAULT);
}

#[test]
fn secure_boot_never_gets_an_unsigned_loader() {
    let locked = Machine {
        settings: Settings {
            secure_boot: Some(true),
            ..Settings::default()
        },
        ..machine(Registration::Approved)
    };
    let known = Known {
        machine: Some(&locked),
        ..Known::default()
    };
    let decision = decide_dhcp(&dhcp(UEFI), Service::Dhcp, &known, &snapshot(), NOW);
    assert_eq!(decision.action, DhcpAction::AddressOnly(Reason::NoLoader));
    let why = &decision.explanation.steps.last().unwrap().why;
    assert_eq!(
        why,
        "There is no signed loader for x86_64 on UEFI: import one, for example from Debian's package shim-signed."
    );
}

#[test]
fn an_explanation_reads_as_text_and_as_json() {
    let decision = decide_dhcp(
        &dhcp(UEFI),
        Service::Dhcp,
        &Known::default(),
        &snapshot(),
        NOW,
    );
    assert_eq!(
        decision.explanation.to_string(),
        "   boot client      It asks to boot from the network.\n   \
            machine enabled  It is not disabled.\n   \
            unknown machine  Unknown ones may boot.\n   \
            loader running   It is firmware and needs a loader.\n   \
            loader loop      0 loaders sent within a minute.\n   \
            architecture     x86_64, UEFI.\n\
         => loader           snponly 1.0 fits.\n"
    );
    let json = serde_json::to_value(&decision).unwrap();
    assert_eq!(json["action"]["boot"]["loader"]["id"], "snponly");
    assert_eq!(json["explanation"]["steps"][6]["matched"], true);
}

#[test]
fn https_is_given_to_who_it_is_set_for_and_who_can() {
    const TLS_IPXE: Options = &[
        (77, b"iPXE"),
        (175, &[19, 1, 1, 20, 1, 1, 36, 1, 1]),
        (93, &[0, 7]),
        (60, b"PXEClient"),
    ];
    let plain = || DhcpAction::Boot(Boot::HttpLoader(file("snponly")));
    let secure = || DhcpAction::Boot(Boot::HttpsLoader(file("snponly")));
    let (script, https) = (
        || DhcpAction::Boot(Boot::Script),
        || DhcpAction::Boot(Boot::HttpsScript),
    );
    for (name, boot_tls, listener, options, expected) in [
        ("nobody", BootTls::Never, true, HTTP, plain()),
        ("firmware", BootTls::Firmware, true, HTTP, secure()),
        (
            "iPXE behind it",
            BootTls::Firmware,
            true,
            TLS_IPXE,
            script(),
        ),
        ("iPXE", BootTls::Always, true, TLS_IPXE, https()),
        ("iPXE without", BootTls::Always, true, IPXE, script()),
        ("TFTP", BootTls::Always, true, UEFI, tftp("snponly")),
        ("no listener", BootTls::Always, false, HTTP, plain()),
    ] {
        let site = Settings {
            boot_tls: Some(boot_tls),
            ..Settings::default()
        };
        let snapshot = Snapshot {
            site,
            https: listener,
            ..snapshot()
        };
        let machine = machine(Registration::Approved);
        let known = Known {
            machine: Some(&machine),
            ..Known::default()
        };
        let decision = decide_dhcp(&dhcp(options), Service::Dhcp, &known, &snapshot, NOW);
        assert_eq!(decision.action, expected, "{name}");
        let steps = decision.explanation.steps;
        let explained = steps.iter().any(|step| step.rule == "boot tls");
        assert_eq!(explained, boot_tls != BootTls::Never, "{name}");
    }
}

#[test]
fn settings_are_stored_without_surprises() {
    let text = r#"{"menu":"on_key","menu_timeout_s":5,"secure_boot":true}"#;
    let settings: Settings = serde_json::from_str(text).unwrap();
    assert_eq!(settings.menu, Some(MenuMode::OnKey));
    assert!(
        serde_json::from_str::<Settings>(r#"{"menue":"never"}"#).is_err(),
        "unknown names are refused"
    );
}

#[test]
fn a_machine_that_does_not_run_unsigned_loaders_gets_the_signed_chain() {
    use FirmwareKind::Uefi;
    let known = Known {
        wants_signature: true,
        ..Known::default()
    };
    let boot = |snapshot: &Snapshot| {
        let decision = decide_dhcp(&dhcp(UEFI), Service::Dhcp, &known, snapshot, NOW);
        match decision.action {
            DhcpAction::Boot(Boot::Loader(file)) => file.id,
            other => panic!("{other:?}: {}", decision.explanation),
        }
    };
    let mut snapshot = snapshot();
    assert_eq!(boot(&snapshot), "snponly", "better than none");
    let signed = |id: &str, kind| crate::catalogue::Loader {
        signer: Some("Microsoft".into()),
        ..loader(id, Arch::X86_64, Uefi, kind)
    };
    let more = [
        signed("shim", LoaderKind::Shim),
        signed("grub", LoaderKind::Grub),
    ];
    snapshot.catalogue = Catalogue::new(snapshot.catalogue.iter().cloned().chain(more));
    assert_eq!(boot(&snapshot), "shim");
}
