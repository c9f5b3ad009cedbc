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
    /// What UEFI HTTP Boot gets. A shim's GRUB finds nothing when it came by HTTP itself (`firmware.md` T4), so
    /// both go out on a RAM disk.
    #[must_use]
    pub fn over_http(loader: &Loader) -> Self {
        match (loader.kind, loader.file_name.strip_suffix(".efi")) {
            (LoaderKind::Shim, Some(stem)) => Self {
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

    /// The newest program of `kind` for a machine.
    #[must_use]
    pub fn of_kind(&self, kind: LoaderKind, arch: Arch, firmware: FirmwareKind) -> Option<&Loader> {
        self.fitting(arch, firmware)
            .filter(|loader| loader.kind == kind)
            .min_by_key(|loader| (Reverse(version_key(&loader.version)), &loader.id))
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

/// The runs of digits, so that 1.10 is newer than 1.9.
fn version_key(version: &str) -> Vec<u64> {
    version
        .split(|c: char| !c.is_ascii_digit())
        .filter(|run| !run.is_empty())
        .map(|run| run.parse().unwrap_or(u64::MAX))
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::policy::Policy;

    pub(crate) fn loader(id: &str, arch: Arch, firmware: FirmwareKind, kind: LoaderKind) -> Loader {
        Loader {
            id: id.into(),
            file_name: format!("{id}.efi"),
            arch,
            firmware,
            kind,
            version: "1.0".into(),
            signer: None,
            sha256: "00".repeat(32),
            size: 1000,
            source_package: "ipxe".into(),
        }
    }

    fn ipxe(id: &str, firmware: FirmwareKind, variant: IpxeVariant) -> Loader {
        loader(id, Arch::X86_64, firmware, LoaderKind::Ipxe { variant })
    }

    fn facts(arch: Arch, firmware: FirmwareKind) -> BootFacts {
        let mut facts = BootFacts::from_http([("mac", "525400770001")]).unwrap();
        facts.arch = Some(arch);
        facts.firmware = Some(firmware);
        facts
    }

    #[test]
    fn chosen_by_architecture_firmware_and_policy() {
        use FirmwareKind::{Bios, Uefi};
        let signed = |loader: Loader| Loader {
            signer: Some("Microsoft".into()),
            ..loader
        };
        let named = |file_name: &str, loader: Loader| Loader {
            file_name: file_name.into(),
            ..loader
        };
        let catalogue = Catalogue::new([
            ipxe("undionly", Bios, IpxeVariant::SnpOnly),
            ipxe("ipxe-efi", Uefi, IpxeVariant::Full),
            ipxe("snponly", Uefi, IpxeVariant::SnpOnly),
            loader("pxelinux", Arch::X86_64, Bios, LoaderKind::Pxelinux),
            named(
                "ldlinux.c32",
                loader("ldlinux", Arch::X86_64, Bios, LoaderKind::Part),
            ),
            loader("memtest", Arch::X86_64, Uefi, LoaderKind::MemoryTest),
            loader("memtest-ia32", Arch::Ia32, Uefi, LoaderKind::MemoryTest),
            signed(loader("shim", Arch::X86_64, Uefi, LoaderKind::Shim)),
            signed(loader("grub", Arch::X86_64, Uefi, LoaderKind::Grub)),
            signed(loader("shim-arm64", Arch::Arm64, Uefi, LoaderKind::Shim)),
            loader("grub-arm64", Arch::Arm64, Uefi, LoaderKind::Grub),
        ]);
        let full = Policy {
            ipxe_variant: IpxeVariant::Full,
            ..Policy::DEFAULT
        };
        let secure = Policy {
            secure_boot: true,
            ..Policy::DEFAULT
        };
        let first = |first_loader| Policy {
            first_loader,
            ..Policy::DEFAULT
        };
        for (name, facts, policy, expected) in [
            (
                "UEFI",
                facts(Arch::X86_64, Uefi),
                Policy::DEFAULT,
                Some("snponly"),
            ),
            (
                "UEFI, full",
                facts(Arch::X86_64, Uefi),
                full.clone(),
                Some("ipxe-efi"),
            ),
            (
                "UEFI, Secure Boot",
                facts(Arch::X86_64, Uefi),
                secure.clone(),
                Some("shim"),
            ),
            (
                "BIOS, the other variant is better than none",
                facts(Arch::X86_64, Bios),
                full,
                Some("undionly"),
            ),
            (
                "UEFI, GRUB first",
                facts(Arch::X86_64, Uefi),
                first(FirstLoader::Grub),
                Some("grub"),
            ),
            (
                "BIOS, PXELINUX first",
                facts(Arch::X86_64, Bios),
                first(FirstLoader::Pxelinux),
                Some("pxelinux"),
            ),
            (
                "UEFI has no PXELINUX here",
                facts(Arch::X86_64, Uefi),
                first(FirstLoader::Pxelinux),
                Some("snponly"),
            ),
            (
                "GRUB first, Secure Boot",
                facts(Arch::X86_64, Uefi),
                Policy {
                    secure_boot: true,
                    ..first(FirstLoader::Grub)
                },
                Some("shim"),
            ),
            (
                "BIOS has no Secure Boot",
                facts(Arch::X86_64, Bios),
                secure.clone(),
                Some("undionly"),
            ),
            (
                "a shim alone starts nothing",
                facts(Arch::Arm64, Uefi),
                Policy::DEFAULT,
                Some("grub-arm64"),
            ),
            (
                "unsigned under Secure Boot",
                facts(Arch::Arm64, Uefi),
                secure,
                None,
            ),
            (
                "a memory test is no first program",
                facts(Arch::Ia32, Uefi),
                Policy::DEFAULT,
                None,
            ),
            (
                "nothing imported",
                facts(Arch::RiscV64, Uefi),
                Policy::DEFAULT,
                None,
            ),
        ] {
            let chosen = catalogue
                .choose(&facts, &policy)
                .ok()
                .map(|loader| loader.id.as_str());
            assert_eq!(chosen, expected, "{name}");
        }
        let memory_test = catalogue.of_kind(LoaderKind::MemoryTest, Arch::X86_64, Uefi);
        assert_eq!(memory_test.unwrap().id, "memtest");
    }

    #[test]
    fn firmware_that_stops_in_ipxe_gets_grub_or_nothing() {
        let full = LoaderKind::Ipxe {
            variant: IpxeVariant::Full,
        };
        let (arch, uefi) = (Arch::Arm64, FirmwareKind::Uefi);
        let mut u_boot = facts(arch, uefi);
        u_boot.quirks = crate::quirk::QUIRKS
            .iter()
            .filter(|quirk| quirk.name == "uboot-efi-sleep")
            .collect();
        let ipxe = loader("ipxe-arm64", arch, uefi, full);
        let alone = Catalogue::new([ipxe.clone()]);
        let error = alone.choose(&u_boot, &Policy::DEFAULT).unwrap_err();
        assert!(error.to_string().contains("grub-efi-arm64-bin"), "{error}");
        assert_eq!(
            alone
                .choose(&facts(arch, uefi), &Policy::DEFAULT)
                .unwrap()
                .id,
            "ipxe-arm64"
        );
        let both = Catalogue::new([ipxe, loader("grub-arm64", arch, uefi, LoaderKind::Grub)]);
        assert_eq!(
            both.choose(&u_boot, &Policy::DEFAULT).unwrap().id,
            "grub-arm64"
        );
    }

    #[test]
    fn the_newer_version_wins() {
        let of = |id: &str, version: &str| Loader {
            version: version.into(),
            ..ipxe(id, FirmwareKind::Uefi, IpxeVariant::SnpOnly)
        };
        let catalogue =
            Catalogue::new([of("a", "1.9"), of("b", "1.21.1+git-2024"), of("c", "1.10")]);
        let chosen = catalogue
            .choose(&facts(Arch::X86_64, FirmwareKind::Uefi), &Policy::DEFAULT)
            .unwrap();
        assert_eq!(chosen.id, "b");
    }

    #[test]
    fn looked_up_by_id_and_name() {
        let catalogue = Catalogue::new([
            ipxe("b", FirmwareKind::Uefi, IpxeVariant::Full),
            ipxe("a", FirmwareKind::Bios, IpxeVariant::Full),
        ]);
        assert_eq!(catalogue.by_id("b").unwrap().firmware, FirmwareKind::Uefi);
        assert_eq!(catalogue.by_file_name("a.efi").unwrap().id, "a");
        assert!(catalogue.by_id("../b").is_none() && catalogue.by_file_name("a").is_none());
        assert_eq!(
            catalogue.iter().map(|l| l.id.as_str()).collect::<Vec<_>>(),
            ["a", "b"]
        );
    }

    #[test]
    fn the_error_says_what_to_import() {
        for (arch, firmware, signed, words) in [
            (
                Some(Arch::X86_64),
                Some(FirmwareKind::Uefi),
                false,
                "package ipxe",
            ),
            (
                Some(Arch::Ppc64),
                Some(FirmwareKind::OpenFirmware),
                false,
                "core.elf that grub-mknetdir makes",
            ),
            (
                Some(Arch::Arm64),
                Some(FirmwareKind::Uefi),
                true,
                "package shim-signed",
            ),
            (
                Some(Arch::S390x),
                Some(FirmwareKind::S390),
                false,
                "s390x on s390: import one that was built",
            ),
            (None, None, false, "architecture or firmware"),
        ] {
            let text = NoLoader {
                arch,
                firmware,
                signed,
                without_ipxe: false,
            }
            .to_string();
            assert!(text.contains(words), "{text}");
        }
    }
}
