//! The processor architecture registry of IANA, as option 93 uses it.

use crate::model::{Arch, FirmwareKind};

/// What a code of option 93 means to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Architecture {
    pub arch: Arch,
    /// None where the code tells the processor only.
    pub firmware: Option<FirmwareKind>,
    /// The code of UEFI HTTP Boot or of U-Boot over HTTP.
    pub http: bool,
}

/// What `code` means, if it is an architecture that we have a word for.
///
/// 7 and 9 are both x64: RFC 4578 and its erratum swap them, and firmware of both readings exists.
#[must_use]
pub fn architecture(code: u16) -> Option<Architecture> {
    use Arch::{Arm32, Arm64, Ia32, LoongArch64, Ppc64, RiscV64, S390x, X86_64};
    use FirmwareKind::{Bios, OpenFirmware, S390, UBoot, Uefi};
    let (arch, firmware, http) = match code {
        0 => (X86_64, Some(Bios), false),
        6 => (Ia32, Some(Uefi), false),
        7 | 9 => (X86_64, Some(Uefi), false),
        10 => (Arm32, Some(Uefi), false),
        11 => (Arm64, Some(Uefi), false),
        12 => (Ppc64, Some(OpenFirmware), false),
        13 | 14 => (Ppc64, None, false),
        15 => (Ia32, Some(Uefi), true),
        16 | 17 => (X86_64, Some(Uefi), true),
        18 => (Arm32, Some(Uefi), true),
        19 => (Arm64, Some(Uefi), true),
        20 => (X86_64, Some(Bios), true),
        21 => (Arm32, Some(UBoot), false),
        22 => (Arm64, Some(UBoot), false),
        23 => (Arm32, Some(UBoot), true),
        24 => (Arm64, Some(UBoot), true),
        27 => (RiscV64, Some(Uefi), false),
        28 => (RiscV64, Some(Uefi), true),
        31 | 32 => (S390x, Some(S390), false),
        39 => (LoongArch64, Some(Uefi), false),
        40 => (LoongArch64, Some(Uefi), true),
        // The boot ROM of a Raspberry Pi, which wants files of its own.
        41 => (Arm64, None, false),
        _ => return None,
    };
    Some(Architecture {
        arch,
        firmware,
        http,
    })
}
