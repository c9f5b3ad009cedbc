//! What the names say that loaders ask for, by TFTP and HTTP alike. The folder in front is the vendor's or the
//! packager's taste (`grub`, `EFI/debian`, `boot/grub`) and says nothing.

use std::net::Ipv4Addr;

use farrier_proto::MacAddr;
use uuid::Uuid;

use crate::model::{Arch, FirmwareKind};
use crate::policy::MenuEntry;
use crate::script::{self, Language};

/// A name, as far as its form tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootName {
    /// iPXE's first script.
    IpxeFirst,
    /// GRUB's first script, under all names that GRUB tries: it will ask for its own machine's.
    GrubFirst,
    /// One machine's script.
    Script(ScriptName),
    /// The boot program of the machine with this address: `C0A80007`, or `C0A80007.SUN4U` of OpenBoot.
    Program {
        address: Ipv4Addr,
        arch: Option<Arch>,
    },
    /// Loaders try it on the way to something else; missing is the right answer, and no news.
    Expected,
    /// Perhaps a file.
    Other,
}

/// Whose script, and for which loader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScriptName {
    pub language: Language,
    /// The loader fetches by HTTP as well.
    pub http: bool,
    pub whose: Whose,
    /// As far as the name tells.
    pub arch: Option<Arch>,
    pub firmware: Option<FirmwareKind>,
    pub choice: Option<MenuEntry>,
}

/// Which machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The one with the asking address.
    Asker,
    Address(Ipv4Addr),
    Mac(MacAddr),
    /// As written; PXELINUX and U-Boot write it in wire order, SLOF and s390x in textual order
    /// (`firmware.md` T7).
    Uuid(Uuid),
}

impl BootName {
    /// Reads a cleaned name.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let parts: Vec<&str> = name.split('/').collect();
        match parts.as_slice() {
            [.., "autoexec.ipxe" | "default.ipxe"] | ["boot", "first.ipxe"] => Self::IpxeFirst,
            ["boot", "script", "grub", platform, rest @ ..] => grub_script(platform, rest),
            ["boot", "script", "pxelinux", rest @ ..] => pxelinux_script(false, rest),
            ["boot", "script", "lpxelinux", rest @ ..] => pxelinux_script(true, rest),
            [folder @ .., "pxelinux.cfg", file] => {
                pxelinux_config(folder.iter().any(|f| f.starts_with("lpxelinux")), file)
            }
            [.., file] if *file == "grub.cfg" => Self::GrubFirst,
            [.., file] if let Some(tail) = file.strip_prefix("grub.cfg-") => grub_config(tail),
            [file] | ["tftpboot", file] if let Some(program) = program(file) => program,
            [.., file] if EXPECTED.iter().any(|end| file.ends_with(end)) => Self::Expected,
            _ => Self::Other,
        }
    }
}

/// Raspberry Pi boot ROMs put a folder named by their serial number, or by their hardware address, in front of
/// every name (`protocols.md` 10). The rest, if this is such a name.
#[must_use]
pub fn without_board_folder(name: &str) -> Option<&str> {
    let (folder, rest) = name.split_once('/')?;
    let is_serial = folder.len() == 8 && folder.bytes().all(|b| b.is_ascii_hexdigit());
    let is_mac = folder.len() == 17 && folder.parse::<MacAddr>().is_ok();
    (is_serial || is_mac).then_some(rest)
}

/// OpenBoot asks for its address in hex digits, on later machines with the kind of the machine behind it, and some
/// old loaders do the same without.
fn program(file: &str) -> Option<BootName> {
    let (digits, kind) = file.split_once('.').unwrap_or((file, ""));
    let arch = match kind.to_ascii_uppercase().as_str() {
        "SUN4U" | "SUN4US" | "SUN4V" => Some(Arch::Sparc64),
        "" | "SUN3" | "SUN4" | "SUN4C" | "SUN4D" | "SUN4M" | "PREP" => None,
        _ => return None,
    };
    Some(BootName::Program {
        address: address(digits)?,
        arch,
    })
}

/// GRUB shortens the address digit by digit; only the whole one names a machine.
fn grub_config(tail: &str) -> BootName {
    let names_a_machine =
        hardware(tail).is_some() || address(tail).is_some() || tail.parse::<Uuid>().is_ok();
    if names_a_machine {
        BootName::GrubFirst
    } else {
        BootName::Expected
    }
}

fn pxelinux_config(http: bool, file: &str) -> BootName {
    let name = |whose, arch, firmware| {
        BootName::Script(ScriptName {
            language: Language::Pxelinux,
            http,
            whose,
            arch,
            firmware,
            choice: None,
        })
    };
    if let Some(mac) = hardware(file) {
        return name(Whose::Mac(mac), None, None);
    }
    if let Some(address) = address(file) {
        return name(Whose::Address(address), None, None);
    }
    if let Some(uuid) = Some(file)
        .filter(|f| f.len() == 36)
        .and_then(|f| f.parse().ok())
    {
        return name(Whose::Uuid(uuid), None, None);
    }
    match file.strip_prefix("default") {
        Some("") => name(Whose::Asker, None, None),
        // U-Boot: `default-ARCH[-SOC[-BOARD]]`, and its `arm` means either width.
        Some(kind) if kind.starts_with('-') => {
            let arch = match kind[1..].split('-').next() {
                Some("riscv") => Some(Arch::RiscV64),
                _ => None,
            };
            name(Whose::Asker, arch, Some(FirmwareKind::UBoot))
        }
        _ => BootName::Expected,
    }
}

fn grub_script(platform: &str, rest: &[&str]) -> BootName {
    let (cpu, kind) = platform.split_once('-').unwrap_or((platform, ""));
    let firmware = match kind {
        "efi" => Some(FirmwareKind::Uefi),
        "pc" => Some(FirmwareKind::Bios),
        "ieee1275" => Some(FirmwareKind::OpenFirmware),
        _ => None,
    };
    let arch = match (cpu, firmware) {
        // GRUB is a 32-bit program on every BIOS; kernels are not.
        ("i386", Some(FirmwareKind::Bios)) | ("x86_64", _) => Some(Arch::X86_64),
        ("i386", _) => Some(Arch::Ia32),
        ("arm64", _) => Some(Arch::Arm64),
        ("arm", _) => Some(Arch::Arm32),
        ("riscv64", _) => Some(Arch::RiscV64),
        ("loongarch64", _) => Some(Arch::LoongArch64),
        ("powerpc", _) => Some(Arch::Ppc64),
        _ => None,
    };
    asked_again(Language::Grub, false, arch, firmware, rest)
}

fn pxelinux_script(http: bool, rest: &[&str]) -> BootName {
    asked_again(Language::Pxelinux, http, None, None, rest)
}

/// A name that one of our own scripts made: hardware address, and what was chosen in the menu.
fn asked_again(
    language: Language,
    http: bool,
    arch: Option<Arch>,
    firmware: Option<FirmwareKind>,
    rest: &[&str],
) -> BootName {
    let (mac, choice) = match rest {
        [mac] => (mac, None),
        [mac, choice] => match script::choice(choice) {
            Some(choice) => (mac, Some(choice)),
            None => return BootName::Other,
        },
        _ => return BootName::Other,
    };
    match mac.parse::<MacAddr>() {
        Ok(mac) if !mac.is_unusable() => BootName::Script(ScriptName {
            language,
            http,
            whose: Whose::Mac(mac),
            arch,
            firmware,
            choice,
        }),
        _ => BootName::Other,
    }
}

/// `01-52-54-00-77-00-0b`; 01 is Ethernet.
fn hardware(text: &str) -> Option<MacAddr> {
    let mac = text.strip_prefix("01-")?.parse().ok()?;
    Some(mac).filter(|mac: &MacAddr| !mac.is_unusable())
}

/// `0A4D0064`.
fn address(text: &str) -> Option<Ipv4Addr> {
    if text.len() != 8 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u32::from_str_radix(text, 16).ok().map(Ipv4Addr::from)
}

/// Asked for by shim, GRUB, PXELINUX and boards, and rightly missing.
const EXPECTED: &[&str] = &[
    "revocations.efi",
    "revocations_sku.efi",
    "revocations_sbat.efi",
    "shim_certificate_0.efi",
    "bootsig.bin",
    script::NO_KERNEL,
    "autoboot.txt",
    "boot.scr.uimg",
    "boot.scr",
    ".lst",
    ".mod",
    ".pf2",
];

#[cfg(test)]
mod tests {
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
}
