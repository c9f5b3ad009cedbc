//! The boot programs we can hand out, and which one fits a client.

use std::cmp::Reverse;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::facts::BootFacts;
use crate::model::{Arch, FirmwareKind};
use crate::policy::{FirstLoader, IpxeVariant, Policy};
use crate::quirk::Effect;

/// One boot program file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loader {
    /// Names it among all loaders, such as `ipxe-snponly-x86_64`.
    pub id: String,
    /// The name it is served under.
    pub file_name: String,
    pub arch: Arch,
    pub firmware: FirmwareKind,
    pub kind: LoaderKind,
    pub version: String,
    /// Whose signature firmware with Secure Boot finds on it, if any.
    pub signer: Option<String>,
    /// SHA-256 in lower-case hex.
    pub sha256: String,
    pub size: u64,
    /// Where it came from: a package name, or the file it was imported from.
    pub source_package: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum LoaderKind {
    Grub,
    /// `snp_only` uses the driver of the firmware: `undionly` on BIOS, `snponly` on UEFI.
    Ipxe {
        variant: IpxeVariant,
    },
    /// Starts the operating system on the local disk.
    LocalBoot,
    /// SYSLINUX's MEMDISK: makes a disk of a file on BIOS.
    Memdisk,
    MemoryTest,
    /// A part that another loader fetches from beside itself, such as `ldlinux.c32`.
    Part,
    Pxelinux,
    Shim,
}

/// A loader as a decision names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LoaderFile {
    pub id: String,
    pub file_name: String,
}

impl From<&Loader> for LoaderFile {
    fn from(loader: &Loader) -> Self {
        Self {
            id: loader.id.clone(),
            file_name: loader.file_name.clone(),
        }
    }
}

impl LoaderFile {
    /// What UEFI HTTP Boot gets. GRUB finds nothing when it came by HTTP itself (`firmware.md` T4), so it goes out on
    /// a RAM disk, with the shim before it if there is one.
    #[must_use]
    pub fn over_http(loader: &Loader) -> Self {
        match (loader.kind, loader.file_name.strip_suffix(".efi")) {
            (LoaderKind::Shim | LoaderKind::Grub, Some(stem)) => Self {
                id: loader.id.clone(),
                file_name: format!("{stem}.img"),
            },
            _ => Self::from(loader),
        }
    }
}

/// All loaders, in a fixed order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalogue {
    loaders: Vec<Loader>,
}

/// Machines of one architecture start an iPXE that can start no disk there, and nothing else in the catalogue does:
/// without work they go back to the firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowLocalBoot<'a> {
    pub ipxe: &'a Loader,
}

impl SlowLocalBoot<'_> {
    /// What to import.
    #[must_use]
    pub fn remedy(&self) -> String {
        let grub = grub_package(self.ipxe.arch)
            .map(|package| format!(", or GRUB, which is in Debian's package {package}"));
        format!(
            "import iPXE 2.0 or later{}: farrier loader import FILE",
            grub.unwrap_or_default()
        )
    }
}

impl fmt::Display for SlowLocalBoot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "iPXE {} starts no local disk on UEFI: {} machines without work go back to the firmware, which takes \
             minutes on many",
            self.ipxe.version, self.ipxe.arch
        )
    }
}

/// The Debian package with GRUB for UEFI and the network.
const fn grub_package(arch: Arch) -> Option<&'static str> {
    match arch {
        Arch::Arm64 => Some("grub-efi-arm64-signed"),
        Arch::Ia32 => Some("grub-efi-ia32-bin"),
        Arch::RiscV64 => Some("grub-efi-riscv64-unsigned"),
        Arch::X86_64 => Some("grub-efi-amd64-signed"),
        _ => None,
    }
}

/// Nothing in the catalogue fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoLoader {
    pub arch: Option<Arch>,
    pub firmware: Option<FirmwareKind>,
    /// Only signed ones were looked at.
    pub signed: bool,
    /// Those of iPXE were left out, since the firmware stops in them.
    pub without_ipxe: bool,
}

impl fmt::Display for NoLoader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(arch), Some(firmware)) = (self.arch, self.firmware) else {
            return f
                .write_str("the client's architecture or firmware has no loader that we know of");
        };
        let signed = if self.signed { "signed " } else { "" };
        write!(f, "no {signed}loader for {arch} on {firmware}: ")?;
        match self.package() {
            Some(package) => write!(f, "import one, for example from Debian's package {package}"),
            None if firmware == FirmwareKind::OpenFirmware => f.write_str(
                "import the core.elf that grub-mknetdir makes of Debian's package grub-ieee1275-bin",
            ),
            None => f.write_str("import one that was built for it"),
        }
    }
}

impl std::error::Error for NoLoader {}

impl NoLoader {
    /// The Debian package that holds a fitting loader.
    fn package(&self) -> Option<&'static str> {
        if self.without_ipxe {
            return match self.arch? {
                Arch::Arm64 => Some("grub-efi-arm64-bin"),
                Arch::RiscV64 => Some("grub-efi-riscv64-unsigned"),
                _ => None,
            };
        }
        match (self.arch?, self.firmware?, self.signed) {
            (Arch::X86_64 | Arch::Arm64, FirmwareKind::Uefi, true) => Some("shim-signed"),
            (Arch::X86_64, FirmwareKind::Bios | FirmwareKind::Uefi, false) => Some("ipxe"),
            (Arch::Arm64, FirmwareKind::Uefi, false) => Some("ipxe"),
            (Arch::Ia32, FirmwareKind::Uefi, _) => Some("grub-efi-ia32-bin"),
            _ => None,
        }
    }
}

impl Catalogue {
    /// Sorts them, so that equal catalogues decide equally. Of two with one id the last counts.
    #[must_use]
    pub fn new(loaders: impl IntoIterator<Item = Loader>) -> Self {
        let by_id: std::collections::BTreeMap<String, Loader> = loaders
            .into_iter()
            .map(|loader| (loader.id.clone(), loader))
            .collect();
        Self {
            loaders: by_id.into_values().collect(),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Loader> {
        self.loaders.iter()
    }

    #[must_use]
    pub fn by_id(&self, id: &str) -> Option<&Loader> {
        let at = self
            .loaders
            .binary_search_by(|loader| loader.id.as_str().cmp(id))
            .ok()?;
        self.loaders.get(at)
    }

    #[must_use]
    pub fn by_file_name(&self, name: &str) -> Option<&Loader> {
        self.loaders.iter().find(|loader| loader.file_name == name)
    }

    /// The first program for this client.
    ///
    /// # Errors
    ///
    /// When nothing fits; the error says what to import.
    pub fn choose(&self, facts: &BootFacts, policy: &Policy) -> Result<&Loader, NoLoader> {
        let signed = policy.secure_boot && facts.firmware == Some(FirmwareKind::Uefi);
        let none = NoLoader {
            arch: facts.arch,
            firmware: facts.firmware,
            signed,
            without_ipxe: facts.effects().any(|effect| effect == Effect::StopsInIpxe),
        };
        let (Some(arch), Some(firmware)) = (facts.arch, facts.firmware) else {
            return Err(none);
        };
        self.fitting(arch, firmware)
            .filter(|loader| !signed || loader.signer.is_some())
            .filter(|loader| self.is_complete(loader))
            .filter(|loader| !(none.without_ipxe && matches!(loader.kind, LoaderKind::Ipxe { .. })))
            .filter_map(|loader| Some((rank(loader.kind, policy, signed)?, loader)))
            .min_by_key(|(rank, loader)| (*rank, Reverse(version_key(&loader.version)), &loader.id))
            .map(|(_, loader)| loader)
            .ok_or(none)
    }

    /// What such a machine is given first where nobody has set anything.
    #[must_use]
    pub fn usual(&self, arch: Arch, firmware: FirmwareKind) -> Option<&Loader> {
        self.fitting(arch, firmware)
            .filter(|loader| self.is_complete(loader))
            .filter_map(|loader| Some((rank(loader.kind, &Policy::DEFAULT, false)?, loader)))
            .min_by_key(|(rank, loader)| (*rank, Reverse(version_key(&loader.version)), &loader.id))
            .map(|(_, loader)| loader)
    }

    /// The newest program of `kind` for a machine.
    #[must_use]
    pub fn of_kind(&self, kind: LoaderKind, arch: Arch, firmware: FirmwareKind) -> Option<&Loader> {
        self.fitting(arch, firmware)
            .filter(|loader| loader.kind == kind)
            .min_by_key(|loader| (Reverse(version_key(&loader.version)), &loader.id))
    }

    /// The architectures whose UEFI machines reach their disk through the firmware.
    #[must_use]
    pub fn slow_local_boots(&self) -> Vec<SlowLocalBoot<'_>> {
        let uefi = FirmwareKind::Uefi;
        let starts_disks = |arch| {
            let kinds = [LoaderKind::LocalBoot, LoaderKind::Grub];
            kinds
                .into_iter()
                .any(|kind| self.of_kind(kind, arch, uefi).is_some())
        };
        let is_first = |ipxe: &&Loader| self.usual(ipxe.arch, uefi) == Some(*ipxe);
        self.loaders
            .iter()
            .filter(|loader| matches!(loader.kind, LoaderKind::Ipxe { .. }))
            .filter(|ipxe| ipxe.firmware == uefi)
            .filter(|ipxe| ipxe_starts_uefi_disks(&ipxe.version) == Some(false))
            .filter(is_first)
            .filter(|ipxe| !starts_disks(ipxe.arch))
            .map(|ipxe| SlowLocalBoot { ipxe })
            .collect()
    }

    fn fitting(&self, arch: Arch, firmware: FirmwareKind) -> impl Iterator<Item = &Loader> {
        self.loaders
            .iter()
            .filter(move |loader| loader.arch == arch && loader.firmware == firmware)
    }

    /// What a program of this kind fetches from beside itself, if it can do nothing without.
    #[must_use]
    pub fn second_stage(&self, first: &Loader) -> Option<&Loader> {
        self.fitting(first.arch, first.firmware)
            .find(|loader| match first.kind {
                LoaderKind::Shim => loader.kind == LoaderKind::Grub && loader.signer.is_some(),
                LoaderKind::Pxelinux => loader.file_name == "ldlinux.c32",
                _ => false,
            })
    }

    fn is_complete(&self, loader: &Loader) -> bool {
        !matches!(loader.kind, LoaderKind::Shim | LoaderKind::Pxelinux)
            || self.second_stage(loader).is_some()
    }
}

/// Smaller is better; none is never a first program.
fn rank(kind: LoaderKind, policy: &Policy, signed: bool) -> Option<u8> {
    let wanted = match policy.first_loader {
        FirstLoader::Ipxe => matches!(kind, LoaderKind::Ipxe { .. }),
        FirstLoader::Grub => matches!(kind, LoaderKind::Grub),
        FirstLoader::Pxelinux => matches!(kind, LoaderKind::Pxelinux),
    };
    let rank = usual_rank(kind, policy, signed)?;
    Some(if wanted { rank } else { rank + LAST_RANK })
}

/// Larger than every usual rank.
const LAST_RANK: u8 = 10;

fn usual_rank(kind: LoaderKind, policy: &Policy, signed: bool) -> Option<u8> {
    match kind {
        LoaderKind::Ipxe { variant } if variant == policy.ipxe_variant => Some(0),
        LoaderKind::Ipxe { .. } => Some(1),
        // Under Secure Boot GRUB's signature is one that only shim accepts.
        LoaderKind::Shim => Some(2),
        LoaderKind::Grub if !signed => Some(3),
        LoaderKind::Pxelinux => Some(4),
        LoaderKind::Grub
        | LoaderKind::LocalBoot
        | LoaderKind::Memdisk
        | LoaderKind::MemoryTest
        | LoaderKind::Part => None,
    }
}

/// Whether iPXE of this version starts the local disk of a UEFI machine; nothing if the version does not tell.
pub(crate) fn ipxe_starts_uefi_disks(version: &str) -> Option<bool> {
    let major: u32 = version.split('.').next()?.parse().ok()?;
    Some(major >= 2)
}

/// The runs of digits, so that 1.10 is newer than 1.9.
fn version_key(version: &str) -> Vec<u64> {
    version
        .split(|c: char| !c.is_ascii_digit())
        .filter(|run| !run.is_empty())
        .map(|run| run.parse().unwrap_or(u64::MAX))
        .collect()
}

#[cfg(test)]
pub(crate) mod tests;
