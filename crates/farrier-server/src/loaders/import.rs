//! Taking boot programs out of distribution packages, or single files.

use std::io::Read;

use farrier_engine::catalogue::{Loader, LoaderKind};
use farrier_engine::model::{Arch, FirmwareKind};
use farrier_engine::policy::IpxeVariant;

use super::{sha256, signer};
use crate::deb::{self, Control, DebError};

/// Nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("the package {0}")]
    Package(#[from] DebError),
    #[error(
        "{package} {version} holds no boot program that we know; import the file by itself and say what it is"
    )]
    NothingKnown { package: String, version: String },
    #[error(
        "{0:?} is no boot program that we know by its name; name it as its package does, such as snponly.efi"
    )]
    UnknownName(String),
}

/// One boot program that is known by its place in a package.
struct Known {
    /// The end of its path, without `usr/`.
    path: &'static str,
    id: &'static str,
    file_name: &'static str,
    arch: Arch,
    firmware: FirmwareKind,
    kind: LoaderKind,
}

const SNP_ONLY: LoaderKind = LoaderKind::Ipxe {
    variant: IpxeVariant::SnpOnly,
};
const FULL: LoaderKind = LoaderKind::Ipxe {
    variant: IpxeVariant::Full,
};

/// In Debian since bookworm.
const KNOWN: &[Known] = &[
    known(
        "lib/ipxe/undionly.kpxe",
        "ipxe-undionly-bios",
        "undionly.kpxe",
        Arch::X86_64,
        FirmwareKind::Bios,
        SNP_ONLY,
    ),
    known(
        "lib/ipxe/ipxe.pxe",
        "ipxe-full-bios",
        "ipxe.pxe",
        Arch::X86_64,
        FirmwareKind::Bios,
        FULL,
    ),
    known(
        "lib/ipxe/snponly.efi",
        "ipxe-snponly-x64",
        "snponly.efi",
        Arch::X86_64,
        FirmwareKind::Uefi,
        SNP_ONLY,
    ),
    known(
        "lib/ipxe/ipxe-amd64.efi",
        "ipxe-full-x64",
        "ipxe.efi",
        Arch::X86_64,
        FirmwareKind::Uefi,
        FULL,
    ),
    known(
        "boot/ipxe.efi",
        "ipxe-full-x64",
        "ipxe.efi",
        Arch::X86_64,
        FirmwareKind::Uefi,
        FULL,
    ),
    known(
        "lib/ipxe/ipxe-arm64.efi",
        "ipxe-full-arm64",
        "ipxe-arm64.efi",
        Arch::Arm64,
        FirmwareKind::Uefi,
        FULL,
    ),
    known(
        "lib/ipxe/ipxe-riscv64.efi",
        "ipxe-full-riscv64",
        "ipxe-riscv64.efi",
        Arch::RiscV64,
        FirmwareKind::Uefi,
        FULL,
    ),
    known(
        "lib/ipxe/ipxe-loong64.efi",
        "ipxe-full-loong64",
        "ipxe-loong64.efi",
        Arch::LoongArch64,
        FirmwareKind::Uefi,
        FULL,
    ),
    known(
        "lib/PXELINUX/pxelinux.0",
        "pxelinux-bios",
        "pxelinux.0",
        Arch::X86_64,
        FirmwareKind::Bios,
        LoaderKind::Pxelinux,
    ),
    known(
        "lib/PXELINUX/lpxelinux.0",
        "lpxelinux-bios",
        "lpxelinux.0",
        Arch::X86_64,
        FirmwareKind::Bios,
        LoaderKind::Pxelinux,
    ),
    known(
        "modules/bios/ldlinux.c32",
        "syslinux-ldlinux-bios",
        "ldlinux.c32",
        Arch::X86_64,
        FirmwareKind::Bios,
        LoaderKind::Part,
    ),
    known(
        "lib/syslinux/memdisk",
        "syslinux-memdisk-bios",
        "memdisk",
        Arch::X86_64,
        FirmwareKind::Bios,
        LoaderKind::Memdisk,
    ),
    known(
        "lib/shim/mmx64.efi.signed",
        "mokmanager-x64",
        "mmx64.efi",
        Arch::X86_64,
        FirmwareKind::Uefi,
        LoaderKind::Part,
    ),
    known(
        "lib/shim/shimx64.efi.signed",
        "shim-x64",
        "shimx64.efi",
        Arch::X86_64,
        FirmwareKind::Uefi,
        LoaderKind::Shim,
    ),
    known(
        "lib/shim/shimaa64.efi.signed",
        "shim-arm64",
        "shimaa64.efi",
        Arch::Arm64,
        FirmwareKind::Uefi,
        LoaderKind::Shim,
    ),
    known(
        "x86_64-efi-signed/grubnetx64.efi.signed",
        "grub-net-x64",
        "grubx64.efi",
        Arch::X86_64,
        FirmwareKind::Uefi,
        LoaderKind::Grub,
    ),
    known(
        "arm64-efi-signed/grubnetaa64.efi.signed",
        "grub-net-arm64",
        "grubaa64.efi",
        Arch::Arm64,
        FirmwareKind::Uefi,
        LoaderKind::Grub,
    ),
    known(
        "i386-efi/monolithic/grubnetia32.efi",
        "grub-net-ia32",
        "grubia32.efi",
        Arch::Ia32,
        FirmwareKind::Uefi,
        LoaderKind::Grub,
    ),
    known(
        "arm64-efi/monolithic/grubnetaa64.efi",
        "grub-plain-arm64",
        "grubnetaa64.efi",
        Arch::Arm64,
        FirmwareKind::Uefi,
        LoaderKind::Grub,
    ),
    known(
        "riscv64-efi/monolithic/grubnetriscv64.efi",
        "grub-plain-riscv64",
        "grubnetriscv64.efi",
        Arch::RiscV64,
        FirmwareKind::Uefi,
        LoaderKind::Grub,
    ),
    // As `grub-mknetdir` names it; no package has it ready.
    known(
        "powerpc-ieee1275/core.elf",
        "grub-net-ppc64",
        "core.elf",
        Arch::Ppc64,
        FirmwareKind::OpenFirmware,
        LoaderKind::Grub,
    ),
    // The same for UltraSPARC.
    known(
        "sparc64-ieee1275/core.img",
        "grub-net-sparc64",
        "core.img",
        Arch::Sparc64,
        FirmwareKind::OpenFirmware,
        LoaderKind::Grub,
    ),
    known(
        "boot/memtest86+x64.bin",
        "memtest-bios",
        "memtest86+x64.bin",
        Arch::X86_64,
        FirmwareKind::Bios,
        LoaderKind::MemoryTest,
    ),
    known(
        "boot/memtest86+x64.efi",
        "memtest-x64",
        "memtest86+x64.efi",
        Arch::X86_64,
        FirmwareKind::Uefi,
        LoaderKind::MemoryTest,
    ),
];

const fn known(
    path: &'static str,
    id: &'static str,
    file_name: &'static str,
    arch: Arch,
    firmware: FirmwareKind,
    kind: LoaderKind,
) -> Known {
    Known {
        path,
        id,
        file_name,
        arch,
        firmware,
        kind,
    }
}

impl Known {
    fn loader(&self, control: &Control, bytes: &[u8]) -> Loader {
        Loader {
            id: self.id.to_owned(),
            file_name: self.file_name.to_owned(),
            arch: self.arch,
            firmware: self.firmware,
            kind: self.kind,
            version: control.version.clone(),
            signer: signer::of(bytes),
            sha256: sha256(bytes),
            size: bytes.len() as u64,
            source_package: control.package.clone(),
        }
    }
}

/// Every known boot program in a Debian package.
pub fn read_package(package: impl Read) -> Result<Vec<(Loader, Vec<u8>)>, ImportError> {
    let mut found: Vec<(&Known, Vec<u8>)> = Vec::new();
    let control = deb::each_file(package, |path, _, content| {
        if let Some(known) = KNOWN.iter().find(|known| path.ends_with(known.path)) {
            found.push((known, deb::whole(content)?));
        }
        Ok(())
    })?;
    if found.is_empty() {
        return Err(ImportError::NothingKnown {
            package: control.package,
            version: control.version,
        });
    }
    Ok(found
        .into_iter()
        .map(|(known, bytes)| (known.loader(&control, &bytes), bytes))
        .collect())
}

/// A boot program by itself, known by its file name. `source` says where it came from.
pub fn read_loader(
    file_name: &str,
    source: &str,
    version: &str,
    bytes: Vec<u8>,
) -> Result<(Loader, Vec<u8>), ImportError> {
    let known = KNOWN.iter().find(|known| {
        known.file_name == file_name || known.path.ends_with(&format!("/{file_name}"))
    });
    let known = known.ok_or_else(|| ImportError::UnknownName(file_name.to_owned()))?;
    let control = Control {
        package: source.to_owned(),
        version: version.to_owned(),
    };
    Ok((known.loader(&control, &bytes), bytes))
}

#[cfg(test)]
mod tests;
