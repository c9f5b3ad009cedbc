//! What firmware sends, as it was captured or as its sources have it, and what we make of it.

use super::*;

#[test]
fn what_real_firmware_sends() {
    use Arch::{Arm32, Arm64, Ppc64, S390x, X86_64};
    use FirmwareKind::{Bios, OpenFirmware, S390, UBoot, Uefi};
    let (rom_bios, rom_efi, prl_slof) = (hex(ROM_BIOS), hex(ROM_EFI), hex(PRL_SLOF));
    let class = |text: &'static str| (60, text.as_bytes());
    type Row<'a> = (
        &'a str,
        Vec<(u8, &'a [u8])>,
        Option<Arch>,
        Option<FirmwareKind>,
        Protocol,
        &'a str,
    );
    let rows: Vec<Row<'_>> = vec![
        (
            "iPXE BIOS ROM",
            vec![
                (93, &[0, 0]),
                class("PXEClient:Arch:00000:UNDI:002001"),
                (77, b"iPXE"),
                (175, &rom_bios),
            ],
            Some(X86_64),
            Some(Bios),
            Protocol::Pxe,
            "ipxe",
        ),
        (
            "iPXE EFI ROM",
            vec![
                (93, &[0, 7]),
                class("PXEClient:Arch:00007:UNDI:003010"),
                (77, b"iPXE"),
                (175, &rom_efi),
            ],
            Some(X86_64),
            Some(Uefi),
            Protocol::Pxe,
            "ipxe",
        ),
        (
            "edk2 PXE4",
            vec![(93, &[0, 7]), class("PXEClient:Arch:00007:UNDI:003000")],
            Some(X86_64),
            Some(Uefi),
            Protocol::Pxe,
            "firmware",
        ),
        (
            "edk2 HTTP4",
            vec![(93, &[0, 16]), class("HTTPClient:Arch:00016:UNDI:003000")],
            Some(X86_64),
            Some(Uefi),
            Protocol::Http,
            "firmware",
        ),
        (
            "AAVMF HTTP4",
            vec![(93, &[0, 19]), class("HTTPClient:Arch:00019:UNDI:003000")],
            Some(Arm64),
            Some(Uefi),
            Protocol::Http,
            "firmware",
        ),
        (
            "U-Boot, first try",
            vec![(93, &[0, 21]), class("U-Boot.armv7")],
            Some(Arm32),
            Some(UBoot),
            Protocol::PlainDhcp,
            "firmware",
        ),
        (
            "U-Boot x86",
            vec![class("U-Boot")],
            None,
            Some(UBoot),
            Protocol::PlainDhcp,
            "firmware",
        ),
        (
            "U-Boot, second try",
            vec![(93, &[0, 10]), class("PXEClient:Arch:00010:UNDI:003000")],
            Some(Arm32),
            Some(Uefi),
            Protocol::Pxe,
            "firmware",
        ),
        (
            "SLOF, DISCOVER",
            vec![(55, &prl_slof)],
            None,
            None,
            Protocol::PlainDhcp,
            "firmware",
        ),
        (
            "SLOF, REQUEST",
            vec![(55, &prl_slof), (93, &[0, 12])],
            Some(Ppc64),
            Some(OpenFirmware),
            Protocol::PlainDhcp,
            "firmware",
        ),
        (
            "s390x, REQUEST",
            vec![(55, &prl_slof), (93, &[0, 31])],
            Some(S390x),
            Some(S390),
            Protocol::PlainDhcp,
            "firmware",
        ),
        (
            "x64 that calls itself EBC",
            vec![(93, &[0, 9]), class("PXEClient:Arch:00009:UNDI:003016")],
            Some(X86_64),
            Some(Uefi),
            Protocol::Pxe,
            "firmware",
        ),
        (
            "several architectures, the first known counts",
            vec![(93, &[0, 99, 0, 11, 0, 0]), class("PXEClient")],
            Some(Arm64),
            Some(Uefi),
            Protocol::Pxe,
            "firmware",
        ),
        (
            "old ROM, architecture in option 60 only",
            vec![class("PXEClient:Arch:00006:UNDI:003000")],
            Some(Arch::Ia32),
            Some(Uefi),
            Protocol::Pxe,
            "firmware",
        ),
        (
            "older ROM, no architecture",
            vec![class("PXEClient")],
            Some(X86_64),
            Some(Bios),
            Protocol::Pxe,
            "firmware",
        ),
        (
            "unknown architecture",
            vec![(93, &[0, 33]), class("PXEClient")],
            None,
            None,
            Protocol::Pxe,
            "firmware",
        ),
        (
            "gPXE",
            vec![
                class("PXEClient:Arch:00000:UNDI:002001"),
                (77, b"gPXE"),
                (93, &[0, 0]),
            ],
            Some(X86_64),
            Some(Bios),
            Protocol::Pxe,
            "gPXE",
        ),
        (
            "busybox udhcpc",
            vec![class("udhcp 1.35.0"), (55, &[1, 3, 6, 12])],
            None,
            None,
            Protocol::PlainDhcp,
            "os",
        ),
        (
            "Windows",
            vec![class("MSFT 5.0")],
            None,
            None,
            Protocol::PlainDhcp,
            "os",
        ),
        (
            "nothing at all",
            vec![],
            None,
            None,
            Protocol::PlainDhcp,
            "os",
        ),
    ];
    for (name, options, arch, firmware, protocol, stage) in rows {
        let facts = facts(&options);
        assert_eq!((facts.arch, facts.firmware), (arch, firmware), "{name}");
        assert_eq!(facts.protocol, protocol, "{name}");
        let told = match &facts.stage {
            Stage::Firmware => "firmware",
            Stage::Ipxe { .. } => "ipxe",
            Stage::Loader(text) => text.as_str(),
            Stage::Os => "os",
        };
        assert_eq!(told, stage, "{name}");
        assert_eq!(facts.wants_boot(), stage != "os", "{name}");
        assert_eq!(facts.never_nak(), stage != "os", "{name}");
    }
}

#[test]
fn the_raspberry_pi_is_told_by_its_address() {
    let class: &[u8] = b"PXEClient:Arch:00000:UNDI:002001";
    let pi3 = MacAddr([0xb8, 0x27, 0xeb, 1, 2, 3]);
    let pi4 = MacAddr([0xdc, 0xa6, 0x32, 1, 2, 3]);
    let of = |mac, options: &[(u8, &[u8])]| BootFacts::from_dhcp(&request(mac, options)).unwrap();

    let rom = of(pi3, &[(60, class), (93, &[0, 0])]);
    assert_eq!((rom.arch, rom.firmware), (Some(Arch::Arm64), None));
    let effects: Vec<_> = rom.effects().collect();
    assert_eq!(
        effects,
        [
            Effect::RaspberryPiMenu,
            Effect::ReplyDelay(Duration::from_millis(1500)),
            Effect::MaxBlksize(512)
        ]
    );
    let eeprom = of(
        pi4,
        &[(60, b"PXEClient:Arch:00041:UNDI:002001"), (93, &[0, 41])],
    );
    assert_eq!((eeprom.arch, eeprom.firmware), (Some(Arch::Arm64), None));
    assert!(
        eeprom
            .effects()
            .any(|effect| effect == Effect::MaxBlksize(1024))
    );
    let said: [(u8, &[u8]); 3] = [
        (60, b"PXEClient:Arch:00011:UNDI:003000"),
        (93, &[0, 11]),
        (
            97,
            &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16],
        ),
    ];
    let uefi = of(pi4, &said);
    assert_eq!(
        (uefi.arch, uefi.firmware),
        (Some(Arch::Arm64), Some(FirmwareKind::Uefi))
    );
    assert!(uefi.quirks.is_empty());
    // U-Boot says the same of itself, but sends no machine identifier.
    let u_boot = of(pi4, &said[..2]);
    assert!(u_boot.effects().any(|effect| effect == Effect::StopsInIpxe));
    let pc = of(MAC, &[(60, class), (93, &[0, 0])]);
    assert_eq!((pc.arch, pc.quirks.len()), (Some(Arch::X86_64), 0));
}

#[test]
fn how_the_boot_file_is_said() {
    let pxe_bios: &[(u8, &[u8])] = &[(60, b"PXEClient:Arch:00000:UNDI:002001"), (93, &[0, 0])];
    let pxe_uefi: &[(u8, &[u8])] = &[(60, b"PXEClient:Arch:00007:UNDI:003000"), (93, &[0, 7])];
    let http: &[(u8, &[u8])] = &[(60, b"HTTPClient:Arch:00016:UNDI:003000"), (93, &[0, 16])];
    let ipxe: &[(u8, &[u8])] = &[
        (60, b"PXEClient:Arch:00007:UNDI:003010"),
        (77, b"iPXE"),
        (93, &[0, 7]),
    ];
    let slof: &[(u8, &[u8])] = &[(55, &[1, 3, 6, 66, 67, 93]), (93, &[0, 12])];
    let no_wait = BootStyle::Ipxe {
        no_proxy_wait: true,
    };
    for (name, options, from_dhcp, from_proxy) in [
        ("BIOS", pxe_bios, BootStyle::Plain, BootStyle::PxeFinal),
        ("UEFI", pxe_uefi, BootStyle::Plain, BootStyle::AskPort4011),
        ("HTTP Boot", http, BootStyle::HttpUrl, BootStyle::HttpUrl),
        ("iPXE", ipxe, no_wait, BootStyle::PxeFinal),
        ("SLOF", slof, BootStyle::Plain, BootStyle::Plain),
    ] {
        let facts = facts(options);
        assert_eq!(
            (facts.style_from_dhcp(), facts.style_from_proxy()),
            (from_dhcp, from_proxy),
            "{name}"
        );
    }
}

/// SLOF and s390x tell their architecture in DHCPREQUEST only, and want the server named before.
#[test]
fn firmware_that_looks_for_itself_is_told_the_server() {
    let prl_slof = hex(PRL_SLOF);
    let slof = facts(&[(55, prl_slof.as_slice())]);
    assert!(slof.looks_for_itself(Reason::ArchitectureUnknown));
    assert!(!slof.looks_for_itself(Reason::MachineDisabled));
    let uefi = facts(&[(93, &[0, 7]), (60, b"PXEClient:Arch:00007:UNDI:003000")]);
    assert!(!uefi.looks_for_itself(Reason::NoLoader));
    let system = facts(&[(60, b"MSFT 5.0")]);
    assert!(!system.looks_for_itself(Reason::ArchitectureUnknown));
}
