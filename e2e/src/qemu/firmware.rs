//! The firmware a machine has, and the board it is on.
//!
//! Each is the one that Debian builds, with the arguments that were found to work with it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::strings;

/// Where Debian keeps OVMF: the code is shared, the variables are copied per machine.
const OVMF: Flash = Flash {
    code: "/usr/share/OVMF/OVMF_CODE_4M.fd",
    variables: "/usr/share/OVMF/OVMF_VARS_4M.fd",
};
/// The build that keeps its variables from the operating system, and variables with Microsoft's keys in them.
const SECURE: Flash = Flash {
    code: "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd",
    variables: "/usr/share/OVMF/OVMF_VARS_4M.ms.fd",
};
/// Debian builds the 32-bit one with protected variables only.
const IA32: Flash = Flash {
    code: "/usr/share/OVMF/OVMF32_CODE_4M.secboot.fd",
    variables: "/usr/share/OVMF/OVMF32_VARS_4M.fd",
};
const ARM64: Flash = Flash {
    code: "/usr/share/AAVMF/AAVMF_CODE.fd",
    variables: "/usr/share/AAVMF/AAVMF_VARS.fd",
};
const UBOOT_ARM64: &str = "/usr/lib/u-boot/qemu_arm64/u-boot.bin";
/// The one that runs behind OpenSBI, which QEMU brings.
const UBOOT_RISCV64: &str = "/usr/lib/u-boot/qemu-riscv64_smode/u-boot.bin";

/// Makes OVMF ask before it lets the operating system change its variables.
const PROTECTED: &str = "driver=cfi.pflash01,property=secure,value=on";

struct Flash {
    code: &'static str,
    variables: &'static str,
}

/// What the machine starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS with iPXE's option ROM on the network card.
    Bios,
    /// OVMF that boots by PXE over IPv4.
    UefiPxe4,
    /// OVMF that boots by HTTP over IPv4.
    UefiHttp4,
    /// OVMF that boots by PXE over IPv4, with Secure Boot on and Microsoft's keys.
    SecurePxe4,
    /// The same by HTTP.
    SecureHttp4,
    /// OVMF that boots by PXE over IPv6 and speaks no PXE over IPv4.
    UefiPxe6,
    /// OVMF that boots by HTTP over IPv6, where IPv4 has nothing for it.
    UefiHttp6,
    /// 32-bit OVMF that boots by PXE over IPv4.
    Ia32Pxe4,
    /// The same by HTTP.
    Ia32Http4,
    /// 64-bit Arm edk2 that boots by PXE over IPv4.
    Arm64Pxe4,
    /// 64-bit Arm edk2 that boots by HTTP over IPv4.
    Arm64Http4,
    /// U-Boot on 64-bit Arm.
    UBootArm64,
    /// U-Boot on 64-bit RISC-V.
    UBootRiscV64,
    /// SLOF, the Open Firmware of POWER machines.
    Slof,
    /// The network boot program of s390x.
    S390,
}

impl Firmware {
    /// Whether it is UEFI of edk2's make.
    #[must_use]
    pub fn is_uefi(self) -> bool {
        self.flash().is_some()
    }

    /// Whether it refuses what is not signed.
    #[must_use]
    pub fn is_secure(self) -> bool {
        matches!(self, Self::SecurePxe4 | Self::SecureHttp4)
    }

    /// The emulator that has its processor.
    #[must_use]
    pub fn emulator(self) -> &'static str {
        match self {
            Self::Ia32Pxe4 | Self::Ia32Http4 => "qemu-system-i386",
            Self::Arm64Pxe4 | Self::Arm64Http4 | Self::UBootArm64 => "qemu-system-aarch64",
            Self::UBootRiscV64 => "qemu-system-riscv64",
            Self::Slof => "qemu-system-ppc64",
            Self::S390 => "qemu-system-s390x",
            _ => "qemu-system-x86_64",
        }
    }

    /// The Debian packages with its emulator and itself.
    #[must_use]
    pub fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Bios => &["qemu-system-x86", "seabios", "ipxe-qemu"],
            Self::Ia32Pxe4 | Self::Ia32Http4 => &["qemu-system-x86", "ovmf-ia32"],
            Self::Arm64Pxe4 | Self::Arm64Http4 => &["qemu-system-arm", "qemu-efi-aarch64"],
            Self::UBootArm64 => &["qemu-system-arm", "u-boot-qemu"],
            Self::UBootRiscV64 => &["qemu-system-misc", "u-boot-qemu"],
            Self::Slof => &["qemu-system-ppc", "qemu-system-data"],
            Self::S390 => &["qemu-system-misc", "qemu-system-data"],
            _ => &["qemu-system-x86", "ovmf"],
        }
    }

    /// The network card that goes with its board.
    pub(super) fn card(self) -> &'static str {
        match self {
            // U-Boot 2023.01 misreads the address of the PCI one.
            Self::UBootArm64 | Self::UBootRiscV64 => "virtio-net-device",
            Self::S390 => "virtio-net-ccw",
            _ => "virtio-net-pci",
        }
    }

    /// Whether the card would bring a boot ROM of its own, which this firmware is to do without.
    pub(super) fn leaves_out_rom(self) -> bool {
        self.is_uefi() || self == Self::Slof
    }

    /// MiB that it needs at least, with a loader in it.
    pub(super) fn memory(self) -> u32 {
        match self {
            Self::Arm64Pxe4 | Self::Arm64Http4 | Self::UBootArm64 | Self::Slof | Self::S390 => 1024,
            _ => 512,
        }
    }

    /// Whether its board has tables that name the maker of the machine.
    pub(super) fn has_smbios(self) -> bool {
        self.is_uefi() || self == Self::Bios
    }

    fn flash(self) -> Option<Flash> {
        match self {
            Self::UefiPxe4 | Self::UefiHttp4 | Self::UefiPxe6 | Self::UefiHttp6 => Some(OVMF),
            Self::SecurePxe4 | Self::SecureHttp4 => Some(SECURE),
            Self::Ia32Pxe4 | Self::Ia32Http4 => Some(IA32),
            Self::Arm64Pxe4 | Self::Arm64Http4 => Some(ARM64),
            Self::Bios | Self::UBootArm64 | Self::UBootRiscV64 | Self::Slof | Self::S390 => None,
        }
    }

    /// QEMU's arguments for board and firmware, UEFI as in the folder `built` if there is one; what the firmware
    /// writes is kept in `folder` under `name`.
    pub(super) fn board(
        self,
        name: &str,
        folder: &Path,
        built: Option<&Path>,
    ) -> Result<Vec<String>> {
        let mut words = strings(match self {
            // Without graphics SeaBIOS copies its screen to the serial port.
            Self::Bios => &[
                "-M",
                "pc,graphics=off",
                "-cpu",
                "qemu64",
                "-vga",
                "none",
                "-boot",
                "strict=on",
            ],
            Self::SecurePxe4 | Self::SecureHttp4 => &[
                "-cpu",
                "qemu64",
                "-vga",
                "none",
                "-M",
                "q35,smm=on",
                "-global",
                PROTECTED,
            ],
            Self::Ia32Pxe4 | Self::Ia32Http4 => &[
                "-M",
                "q35,smm=on",
                "-cpu",
                "coreduo,-nx",
                "-vga",
                "none",
                "-global",
                PROTECTED,
            ],
            Self::Arm64Pxe4 | Self::Arm64Http4 => &["-M", "virt", "-cpu", "cortex-a57"],
            Self::UBootArm64 => &["-M", "virt", "-cpu", "cortex-a57", "-bios", UBOOT_ARM64],
            Self::UBootRiscV64 => &["-M", "virt", "-kernel", UBOOT_RISCV64],
            // The emulated processor has none of the mitigations that the board offers by default.
            Self::Slof => &[
                "-M",
                "pseries,cap-cfpc=broken,cap-sbbc=broken,cap-ibs=broken,cap-ccf-assist=off,graphics=off",
            ],
            Self::S390 => &["-M", "s390-ccw-virtio"],
            _ => &["-cpu", "qemu64", "-vga", "none", "-M", "q35"],
        });
        if let Some(flash) = self.flash() {
            let place = |file: &str| match (built, Path::new(file).file_name()) {
                (Some(built), Some(name)) => built.join(name),
                _ => PathBuf::from(file),
            };
            let files = (place(flash.code), place(flash.variables));
            words.extend(self.flash_words(&files, name, folder)?);
        }
        Ok(words)
    }

    fn flash_words(
        self,
        (code, factory): &(PathBuf, PathBuf),
        name: &str,
        folder: &Path,
    ) -> Result<Vec<String>> {
        // The variables stay with the machine: BootNext and BootOrder are part of what is tested.
        let variables = folder.join(format!("{name}.vars"));
        if !variables.exists() {
            fs::copy(factory, &variables)
                .with_context(|| format!("cannot copy {}", factory.display()))?;
        }
        // Newer firmware drops its network stack where there is no source of random numbers.
        let mut words = strings(&["-device", "virtio-rng-pci"]);
        words.push("-drive".to_owned());
        words.push(format!(
            "if=pflash,unit=0,format=raw,readonly=on,file={}",
            code.display()
        ));
        words.push("-drive".to_owned());
        words.push(format!(
            "if=pflash,unit=1,format=raw,file={}",
            variables.display()
        ));
        let mut switch = |name: &str, value: &str| {
            words.push("-fw_cfg".to_owned());
            words.push(format!("name=opt/org.tianocore/{name},string={value}"));
        };
        if self != Self::UefiPxe6 {
            switch("IPv6PXESupport", "n");
        }
        let pxe4 = matches!(
            self,
            Self::UefiPxe4 | Self::SecurePxe4 | Self::Ia32Pxe4 | Self::Arm64Pxe4
        );
        if !pxe4 {
            switch("IPv4PXESupport", "n");
        }
        Ok(words)
    }
}
