//! Facts from requests as real firmware sends them (the option bytes are from captures), and from
//! script parameters.

use std::time::Duration;

use farrier_proto::MacAddr;
use farrier_proto::wire::dhcpv4::{Message, MessageType, Op, Xid};
use proptest::prelude::*;

use super::*;
use crate::Reason;
use crate::quirk::Effect;

const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x77, 0, 1]);
const UUID_OPTION: &str = "0033221100554477668899525400770001";
/// Option 175 of QEMU's BIOS ROM, of its EFI ROM, and of Debian's snponly.efi.
const ROM_BIOS: &str = "b105011af41000eb03010000170101220101130101110101270101190101290101100102210101150101180101120101";
const ROM_EFI: &str = "b105011af41000eb03010000170101240101130101110101270101290101150101120101";
const PRL_SLOF: &str = "01030642435d";

fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
        .collect()
}

fn request(mac: MacAddr, options: &[(u8, &[u8])]) -> Message {
    let mut message = Message::request(Xid(7), mac);
    message.options.set(53, vec![MessageType::Discover as u8]);
    for (code, value) in options {
        message.options.set(*code, value.to_vec());
    }
    message
}

fn facts(options: &[(u8, &[u8])]) -> BootFacts {
    BootFacts::from_dhcp(&request(MAC, options)).unwrap()
}

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
fn rfc951_a_request_without_message_type_is_bootp() {
    let mut message = Message::request(Xid(7), MAC);
    for cookie in [true, false] {
        message.cookie = cookie;
        let facts = BootFacts::from_dhcp(&message).unwrap();
        assert_eq!(
            (facts.protocol, facts.stage.clone()),
            (Protocol::Bootp, Stage::Firmware)
        );
        assert!(facts.wants_boot());
    }
}

#[test]
fn ipxe_features_decide_whether_the_script_comes_at_once() {
    let rows: [(&str, Vec<u8>, bool); 5] = [
        ("QEMU's BIOS ROM", hex(ROM_BIOS), true),
        ("QEMU's EFI ROM lists no bzImage", hex(ROM_EFI), true),
        ("no HTTP (VirtualBox)", hex("150101180101"), false),
        ("HTTP, nothing to start", hex("130101150101"), false),
        ("features with version 0", hex("130100180101"), false),
    ];
    for (name, encapsulated, enough) in rows {
        let facts = facts(&[(77, b"iPXE"), (175, &encapsulated), (93, &[0, 0])]);
        let Stage::Ipxe { features, .. } = facts.stage else {
            panic!("{name}")
        };
        assert_eq!(features.is_enough(), enough, "{name}");
    }
    let Stage::Ipxe { version, .. } = facts(&[(77, b"iPXE"), (175, &hex(ROM_BIOS))]).stage else {
        panic!()
    };
    assert_eq!(version.unwrap().as_str(), "1.0.0");
    let Stage::Ipxe { features, .. } = facts(&[(77, b"\x04iPXE")]).stage else {
        panic!()
    };
    assert!(!features.is_enough(), "RFC 3004 form, no option 175");
}

#[test]
fn machine_identifiers() {
    let good = hex(UUID_OPTION);
    let facts_of = |value: &[u8]| facts(&[(97, value)]);
    assert_eq!(
        facts_of(&good).usable_uuid().unwrap().to_string(),
        "00112233-4455-6677-8899-525400770001"
    );
    let zero = facts_of(&[0; 17]);
    assert_eq!(zero.usable_uuid(), None);
    assert_eq!(zero.oddities, [Oddity::MachineIdentifierConstant]);
    for bad in [&good[..16], &[1; 17][..], &[0; 3][..]] {
        let facts = facts_of(bad);
        assert_eq!(
            (facts.uuid, facts.oddities.clone()),
            (None, vec![Oddity::MachineIdentifierForm]),
            "{bad:?}"
        );
    }
    assert_eq!(facts(&[]).uuid, None);
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
fn oddities_do_not_cost_the_machine() {
    let long = vec![b'x'; 200];
    let facts = facts(&[
        (12, b"a\nreboot"),
        (60, b"PXEClient:Arch:00000:UNDI:002001"),
        (77, &long),
        (93, &[0, 7]),
        (97, &[9]),
    ]);
    assert_eq!(facts.arch, Some(Arch::X86_64));
    assert_eq!(facts.hostname, None);
    for oddity in [
        Oddity::ArchitecturesDiffer,
        Oddity::MachineIdentifierForm,
        Oddity::Text,
    ] {
        assert!(facts.oddities.contains(&oddity), "{oddity:?}");
        assert!(oddity.sentence().ends_with('.'));
    }
}

#[test]
fn a_request_must_name_a_machine() {
    let mut reply = request(MAC, &[]);
    reply.op = Op::Reply;
    let mut token_ring = request(MAC, &[]);
    token_ring.htype = 6;
    let rows = [
        (reply, NoMachine::IsReply),
        (token_ring, NoMachine::NoMac),
        (request(MacAddr([0; 6]), &[]), NoMachine::UnusableMac),
        (request(MacAddr([0xff; 6]), &[]), NoMachine::UnusableMac),
    ];
    for (message, expected) in rows {
        assert_eq!(BootFacts::from_dhcp(&message), Err(expected));
    }
}

#[test]
fn rfc3046_relay_and_rfc3527_link() {
    let mut message = request(
        MAC,
        &[(82, &[1, 2, 0xaa, 0xbb, 2, 1, 0xcc, 5, 4, 10, 9, 0, 0])],
    );
    message.giaddr = Ipv4Addr::new(10, 78, 0, 254);
    let relay = BootFacts::from_dhcp(&message).unwrap().relay.unwrap();
    assert_eq!(relay.giaddr, Ipv4Addr::new(10, 78, 0, 254));
    assert_eq!(
        (relay.circuit_id, relay.remote_id),
        (Some(vec![0xaa, 0xbb]), Some(vec![0xcc]))
    );
    assert_eq!(relay.link_selection, Some(Ipv4Addr::new(10, 9, 0, 0)));
    assert_eq!(facts(&[]).relay, None);
}

#[test]
fn swapped_seconds_are_put_right() {
    for (sent, meant) in [(0, 0), (4, 4), (0x0400, 4), (0x0c00, 12), (300, 300)] {
        let mut message = request(MAC, &[]);
        message.secs = sent;
        assert_eq!(
            BootFacts::from_dhcp(&message).unwrap().secs,
            meant,
            "{sent}"
        );
    }
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

fn script(parameters: &[(&str, &str)]) -> Result<BootFacts, ScriptFactsError> {
    BootFacts::from_http(parameters.iter().copied())
}

#[test]
fn script_parameters_become_facts() {
    let facts = script(&[
        ("mac", "52-54-00-77-00-01"),
        ("uuid", "00112233-4455-6677-8899-525400770001"),
        ("serial", "5CG1234XYZ"),
        ("manufacturer", "Dell Inc."),
        ("product", "Latitude || reboot"),
        ("platform", "efi"),
        ("buildarch", "arm64"),
        ("version", "1.21.1+ (g1234)"),
        ("no-such-name", "x"),
    ])
    .unwrap();
    assert_eq!(facts.mac, MAC);
    assert_eq!(
        (facts.arch, facts.firmware),
        (Some(Arch::Arm64), Some(FirmwareKind::Uefi))
    );
    assert_eq!(facts.product.unwrap().as_str(), "Latitude || reboot");
    assert_eq!(
        facts.uuid.unwrap().canonical.to_string(),
        "00112233-4455-6677-8899-525400770001"
    );
    assert_eq!(facts.protocol, Protocol::Script);
    assert!(facts.oddities.is_empty());
}

#[test]
fn script_platforms() {
    use FirmwareKind::{Bios, Uefi};
    for (platform, buildarch, arch, firmware) in [
        ("pcbios", "i386", Some(Arch::X86_64), Some(Bios)),
        ("pcbios", "x86_64", Some(Arch::X86_64), Some(Bios)),
        ("efi", "i386", Some(Arch::Ia32), Some(Uefi)),
        ("efi", "x86_64", Some(Arch::X86_64), Some(Uefi)),
        ("efi", "riscv64", Some(Arch::RiscV64), Some(Uefi)),
        ("linux", "x86_64", Some(Arch::X86_64), None),
        ("efi", "vax", None, Some(Uefi)),
    ] {
        let facts = script(&[
            ("mac", "525400770001"),
            ("platform", platform),
            ("buildarch", buildarch),
        ])
        .unwrap();
        assert_eq!(
            (facts.arch, facts.firmware),
            (arch, firmware),
            "{platform} {buildarch}"
        );
    }
}

#[test]
fn script_requests_out_of_form() {
    assert_eq!(script(&[]), Err(ScriptFactsError::NoMac));
    assert_eq!(script(&[("mac", "")]), Err(ScriptFactsError::NoMac));
    assert_eq!(script(&[("mac", "no")]), Err(ScriptFactsError::BadMac));
    assert_eq!(
        script(&[("mac", "ff:ff:ff:ff:ff:ff")]),
        Err(ScriptFactsError::BadMac)
    );
    let long = "x".repeat(500);
    let facts = script(&[
        ("mac", "525400770001"),
        ("mac", "525400770002"),
        ("serial", &long),
        ("uuid", "nonsense"),
    ])
    .unwrap();
    assert_eq!(facts.mac, MAC, "the first counts");
    assert_eq!(facts.serial, None);
    assert_eq!(
        facts.oddities,
        [Oddity::Text, Oddity::MachineIdentifierForm]
    );
}

proptest! {
    #[test]
    fn any_options_give_facts(options in prop::collection::vec((1u8..255, prop::collection::vec(any::<u8>(), 0..64)), 0..20)) {
        let mut message = Message::request(Xid(1), MAC);
        for (code, value) in options {
            message.options.set(code, value);
        }
        prop_assert!(BootFacts::from_dhcp(&message).is_ok());
    }

    #[test]
    fn any_parameters_give_facts(parameters in prop::collection::vec((".{0,12}", ".{0,200}"), 0..20)) {
        let all = [("mac", "525400770001")].into_iter()
            .chain(parameters.iter().map(|(n, v)| (n.as_str(), v.as_str())));
        prop_assert!(BootFacts::from_http(all).is_ok());
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
