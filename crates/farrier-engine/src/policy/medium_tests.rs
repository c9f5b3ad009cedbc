//! Who can start which disk image, and in which way.

use farrier_proto::MacAddr;

use super::tests::{NOW, dhcp, machine, snapshot};
use super::*;
use crate::Reason;
use crate::catalogue::tests::loader;
use crate::catalogue::{Catalogue, LoaderKind};
use crate::facts::BootFacts;
use crate::medium::{MEMDISK_LIMIT, Medium, MediumKind, MediumName, MediumStart};
use crate::model::{FirmwareKind, Machine};
use crate::script::Language;

const SMALL: u64 = 1_474_560;
const LARGE: u64 = MEMDISK_LIMIT + 512;

fn name(text: &str) -> MediumName {
    MediumName::new(text).unwrap()
}

fn with_media(memdisk: bool) -> Snapshot {
    let medium = |kind, size, bios, uefi| Medium {
        kind,
        size,
        bios,
        uefi,
    };
    let mut snapshot = snapshot();
    snapshot.media = [
        ("dos.img", medium(MediumKind::Floppy, SMALL, true, false)),
        ("both.iso", medium(MediumKind::Cd, SMALL, true, true)),
        ("large.iso", medium(MediumKind::Cd, LARGE, true, true)),
        ("uefi.iso", medium(MediumKind::Cd, SMALL, false, true)),
    ]
    .into_iter()
    .map(|(text, medium)| (name(text), medium))
    .collect();
    if memdisk {
        let memdisk = loader(
            "memdisk",
            Arch::X86_64,
            FirmwareKind::Bios,
            LoaderKind::Memdisk,
        );
        let all = snapshot.catalogue.iter().cloned().chain([memdisk]);
        snapshot.catalogue = Catalogue::new(all);
    }
    snapshot
}

fn ipxe(platform: &str) -> BootFacts {
    let parameters = [
        ("mac", "52-54-00-00-00-01"),
        ("platform", platform),
        ("buildarch", "x86_64"),
        ("version", "1.21"),
    ];
    BootFacts::from_http(parameters).unwrap()
}

fn grub(firmware: FirmwareKind) -> BootFacts {
    let mac = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
    BootFacts::from_loader(
        mac,
        Language::Grub,
        Some(Arch::X86_64),
        Some(firmware),
        None,
    )
}

fn started(facts: &BootFacts, medium: &str, snapshot: &Snapshot) -> Result<&'static str, Reason> {
    let machine = machine(Registration::Approved);
    let known = Known {
        machine: Some(&machine),
        ..Known::default()
    };
    let choice = Some(MenuEntry::Medium(name(medium)));
    match decide_script(facts, choice, &known, snapshot, NOW).action {
        ScriptAction::Medium { start, .. } => Ok(match start {
            MediumStart::Memdisk(_) => "memdisk",
            MediumStart::Network => "network",
            MediumStart::RamDisk => "ram disk",
        }),
        ScriptAction::Message { reason, .. } => Err(reason),
        other => panic!("{other:?}"),
    }
}

#[test]
fn r3_who_starts_which_medium_and_how() {
    use FirmwareKind::{Bios, Uefi};
    let (with, without) = (with_media(true), with_media(false));
    let (bios, uefi) = (ipxe("pcbios"), ipxe("efi"));
    for (facts, medium, snapshot, expected) in [
        (&bios, "dos.img", &with, Ok("memdisk")),
        (&bios, "both.iso", &with, Ok("memdisk")),
        (&bios, "large.iso", &with, Ok("network")),
        (&bios, "both.iso", &without, Ok("network")),
        (&bios, "dos.img", &without, Err(Reason::NoMemdisk)),
        (&bios, "uefi.iso", &with, Err(Reason::MediumNotForFirmware)),
        (&bios, "gone.iso", &with, Err(Reason::NoMedium)),
        (&uefi, "both.iso", &with, Ok("network")),
        (&uefi, "dos.img", &with, Err(Reason::MediumNotForFirmware)),
        (&grub(Bios), "dos.img", &with, Ok("memdisk")),
        (&grub(Bios), "dos.img", &without, Err(Reason::NoMemdisk)),
        (&grub(Bios), "both.iso", &without, Err(Reason::NoMemdisk)),
        (
            &grub(Bios),
            "large.iso",
            &with,
            Err(Reason::MediumNeedsIpxe),
        ),
        (&grub(Uefi), "both.iso", &with, Err(Reason::MediumNeedsIpxe)),
    ] {
        assert_eq!(started(facts, medium, snapshot), expected, "{medium}");
    }
}

#[test]
fn r3_the_menu_offers_what_this_machine_can_start() {
    let mut snapshot = with_media(true);
    let wanted = ["uefi.iso", "gone.iso", "both.iso"].map(name);
    snapshot.site.media = Some(wanted.to_vec());
    snapshot.site.default_entry = Some(MenuEntry::Medium(name("dos.img")));
    let machine = machine(Registration::Approved);
    let known = Known {
        machine: Some(&machine),
        ..Known::default()
    };
    let offered =
        |facts: &BootFacts| match decide_script(facts, None, &known, &snapshot, NOW).action {
            ScriptAction::Menu { media, .. } => {
                let names = media.iter().map(|medium| medium.name.to_string());
                names.collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        };
    assert_eq!(offered(&ipxe("pcbios")), ["dos.img", "both.iso"]);
    assert_eq!(offered(&ipxe("efi")), ["uefi.iso", "both.iso"]);
}

fn wishing(medium: &str) -> Machine {
    let mut machine = machine(Registration::Approved);
    machine.intent = Some(BootIntent {
        entry: MenuEntry::Medium(name(medium)),
        boots_left: 1,
        expires: WallTime(NOW.0 + 1000),
        until: Until::Used,
        set_at: NOW,
        set_by: "anna".into(),
        counted: None,
    });
    machine
}

#[test]
fn r4_http_boot_gets_the_image_itself_when_it_is_to_start_without_a_menu() {
    let http: &[(u8, &[u8])] = &[(60, b"HTTPClient:Arch:00016:UNDI:003000"), (93, &[0, 16])];
    let pxe: &[(u8, &[u8])] = &[(60, b"PXEClient:Arch:00007:UNDI:003000"), (93, &[0, 7])];
    let snapshot = with_media(true);
    let told = |options, medium: &str| {
        let machine = wishing(medium);
        let known = Known {
            machine: Some(&machine),
            ..Known::default()
        };
        decide_dhcp(&dhcp(options), Service::Dhcp, &known, &snapshot, NOW).action
    };
    let image = DhcpAction::Boot(Boot::Medium(name("uefi.iso")));
    assert_eq!(told(http, "uefi.iso"), image);
    // What it cannot start it reads about in its loader.
    assert!(matches!(
        told(http, "dos.img"),
        DhcpAction::Boot(Boot::HttpLoader(_))
    ));
    assert!(matches!(
        told(pxe, "uefi.iso"),
        DhcpAction::Boot(Boot::Loader(_))
    ));
}
