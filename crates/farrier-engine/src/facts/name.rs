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
        [mac, choice] => match choice.parse() {
            Ok(choice) => (mac, Some(choice)),
            Err(_) => return BootName::Other,
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
mod tests;
