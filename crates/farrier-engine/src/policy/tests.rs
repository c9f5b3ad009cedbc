//! Decisions by table: who asks, what is known, what comes out and by which rule.

mod dhcp_requests;
mod menus;
mod scripts;

use farrier_proto::MacAddr;
use farrier_proto::wire::dhcpv4::{Message, MessageType, Xid};
use uuid::Uuid;

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
        by_policy: false,
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
        message.options.set(*code, value);
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
fn settings_are_stored_without_surprises() {
    let text = r#"{"menu":"on_key","menu_timeout_s":5,"secure_boot":true}"#;
    let settings: Settings = serde_json::from_str(text).unwrap();
    assert_eq!(settings.menu, Some(MenuMode::OnKey));
    assert!(
        serde_json::from_str::<Settings>(r#"{"menue":"never"}"#).is_err(),
        "unknown names are refused"
    );
}
