use proptest::prelude::*;

use super::*;

const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x77, 0, 0x0b]);

fn script(name: &str) -> ScriptName {
    match BootName::of(name) {
        BootName::Script(script) => script,
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn grub_finds_its_first_script_under_every_prefix() {
    for prefix in [
        "",
        "grub/",
        "boot/grub/",
        "EFI/debian/",
        "EFI/BOOT/",
        "boot/shim-x64/",
        "debian-installer/amd64/grub/",
    ] {
        for name in [
            "grub.cfg",
            "x86_64-efi/grub.cfg",
            "grub.cfg-01-52-54-00-77-00-0b",
            "grub.cfg-0A4D0064",
            "grub.cfg-33221100-5544-7766-8899-aabbccddee0b",
        ] {
            assert_eq!(
                BootName::of(&format!("{prefix}{name}")),
                BootName::GrubFirst,
                "{prefix}{name}"
            );
        }
        for name in [
            "grub.cfg-0A4D006",
            "grub.cfg-0",
            "grub.cfg-",
            "x86_64-efi/command.lst",
        ] {
            assert_eq!(
                BootName::of(&format!("{prefix}{name}")),
                BootName::Expected,
                "{prefix}{name}"
            );
        }
    }
}

#[test]
fn rfc5071_pxelinux_search_order() {
    let uuid: Uuid = "33221100-5544-7766-8899-aabbccddee0b".parse().unwrap();
    for (file, whose) in [
        ("33221100-5544-7766-8899-aabbccddee0b", Whose::Uuid(uuid)),
        ("01-52-54-00-77-00-0b", Whose::Mac(MAC)),
        ("0A4D0064", Whose::Address(Ipv4Addr::new(10, 77, 0, 100))),
        ("default", Whose::Asker),
    ] {
        for (prefix, http) in [
            ("", false),
            ("boot/pxelinux-bios/", false),
            ("boot/lpxelinux-bios/", true),
        ] {
            let found = script(&format!("{prefix}pxelinux.cfg/{file}"));
            assert_eq!(
                (found.whose, found.http, found.firmware),
                (whose, http, None),
                "{prefix}{file}"
            );
        }
    }
    for file in [
        "0A4D006",
        "0",
        "01-52-54-00-77-00",
        "01-ff-ff-ff-ff-ff-ff",
        "defaults",
    ] {
        assert_eq!(
            BootName::of(&format!("pxelinux.cfg/{file}")),
            BootName::Expected,
            "{file}"
        );
    }
}

#[test]
fn t6_u_boot_says_its_kind_in_the_name() {
    let arm = script("pxelinux.cfg/default-arm-qemu-arm-qemu");
    assert_eq!((arm.firmware, arm.arch), (Some(FirmwareKind::UBoot), None));
    let riscv = script("pxelinux.cfg/default-riscv");
    assert_eq!(riscv.arch, Some(Arch::RiscV64));
}

#[test]
fn our_own_scripts_ask_again_by_hardware_address() {
    let grub = script("boot/script/grub/x86_64-efi/52:54:00:77:00:0b/register");
    assert_eq!(
        (grub.whose, grub.arch),
        (Whose::Mac(MAC), Some(Arch::X86_64))
    );
    assert_eq!(
        (grub.firmware, grub.choice),
        (Some(FirmwareKind::Uefi), Some(MenuEntry::Register))
    );
    assert_eq!(
        script("boot/script/grub/i386-pc/52:54:00:77:00:0b").arch,
        Some(Arch::X86_64)
    );
    assert!(script("boot/script/lpxelinux/525400770b0b").http);
    for name in [
        "boot/script/grub/x86_64-efi",
        "boot/script/grub/x86_64-efi/x",
        "boot/script/pxelinux/525400770b0b/rm",
    ] {
        assert_eq!(BootName::of(name), BootName::Other, "{name}");
    }
}

#[test]
fn t3_open_boot_asks_by_its_address_in_hex() {
    let address = Ipv4Addr::new(192, 168, 0, 7);
    for (name, arch) in [
        ("C0A80007", None),
        ("c0a80007", None),
        ("tftpboot/C0A80007", None),
        ("C0A80007.SUN4U", Some(Arch::Sparc64)),
        ("C0A80007.SUN4V", Some(Arch::Sparc64)),
        ("C0A80007.SUN4M", None),
        ("C0A80007.PREP", None),
    ] {
        assert_eq!(
            BootName::of(name),
            BootName::Program { address, arch },
            "{name}"
        );
    }
    // U-Boot's last guess, which is no program of a known kind.
    for name in ["C0A80007.img", "C0A8000", "C0A800071", "other/C0A80007"] {
        assert_eq!(BootName::of(name), BootName::Other, "{name}");
    }
}

#[test]
fn raspberry_pi_boards_put_a_folder_in_front() {
    assert_eq!(
        without_board_folder("9ffefdef/start4.elf"),
        Some("start4.elf")
    );
    assert_eq!(
        without_board_folder("dc-a6-32-01-02-03/config.txt"),
        Some("config.txt")
    );
    assert_eq!(without_board_folder("boot/config.txt"), None);
    assert_eq!(without_board_folder("9ffefdef"), None);
}

proptest! {
    #[test]
    fn any_name_is_survived(name in "[ -~]{0,80}") {
        let _ = BootName::of(&name);
        let _ = without_board_folder(&name);
    }
}
