//! The words of the domain: machines, what is known of them, images and who asks.

mod marks;

use std::fmt;
use std::str::FromStr;

use farrier_proto::MacAddr;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::WallTime;
use crate::policy::{BootIntent, Settings, ShortName};
use crate::strategy::{Learned, Strategy};

pub use marks::Marks;

/// Declares an id: a UUID (version 7, made by the caller) with a type of its own.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                text.parse().map(Self)
            }
        }
    };
}

id!(
    /// One machine, for as long as we remember it.
    MachineId
);
id!(
    /// One task.
    TaskId
);
id!(
    /// One person or program that may sign in.
    UserId
);

/// A computer we know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub id: MachineId,
    /// A host name by RFC 1123, set by the operator; none until then.
    pub name: Option<HostName>,
    pub registration: Registration,
    /// Every address it was ever seen with, the first seen first. Docks and adapters may be shared.
    #[serde(with = "mac_list")]
    pub macs: Vec<MacAddr>,
    /// SMBIOS system UUID in its textual order, if it has a usable one.
    pub uuid: Option<Uuid>,
    /// What the firmware last told.
    pub firmware: Option<FirmwareKind>,
    pub arch: Option<Arch>,
    /// The group whose settings count where the machine sets nothing itself.
    #[serde(default)]
    pub group: Option<ShortName>,
    /// What this machine sets for itself.
    pub settings: Settings,
    #[serde(default)]
    pub intent: Option<BootIntent>,
    /// The way of offering that its firmware was found to understand.
    #[serde(default)]
    pub learned: Option<Learned>,
    pub inventory: Option<Inventory>,
    pub first_seen: WallTime,
    pub last_seen: WallTime,
    /// Raised by one on each stored change.
    pub revision: u64,
}

impl Machine {
    /// What is known of this kind of firmware on it.
    #[must_use]
    pub fn learned_strategy(&self, firmware: Option<FirmwareKind>) -> Option<Strategy> {
        let learned = self.learned.filter(|learned| learned.firmware == firmware);
        learned.map(|learned| learned.strategy)
    }
}

/// How far a machine is trusted to be one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Registration {
    /// Seen on the network; nobody has said that it is ours.
    Seen,
    /// Its agent asked to enrol and waits for a person.
    Pending,
    /// Ours.
    Approved,
    /// Ours, and told to leave the network boot alone.
    Disabled,
}

/// A host name that every loader, script and shell can carry without quoting: letters, digits and
/// hyphens, 1-63 of them per label, no hyphen at a label's ends, at most 253 in all (RFC 1123 2.1).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

/// The text is not a host name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a host name: use letters, digits and hyphens, at most 63 between dots")]
pub struct HostNameError;

impl HostName {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for HostName {
    type Error = HostNameError;

    fn try_from(text: String) -> Result<Self, HostNameError> {
        let label_is_good = |label: &str| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if text.len() <= 253 && text.split('.').all(label_is_good) {
            Ok(Self(text))
        } else {
            Err(HostNameError)
        }
    }
}

impl From<HostName> for String {
    fn from(name: HostName) -> Self {
        name.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Instruction set, as far as loaders differ by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arch {
    Arm32,
    Arm64,
    Ia32,
    #[serde(rename = "loongarch64")]
    LoongArch64,
    Ppc64,
    #[serde(rename = "riscv64")]
    RiscV64,
    S390x,
    /// UltraSPARC: OpenBoot's `SUN4U` and `SUN4V`.
    Sparc64,
    /// PCs: BIOS machines of either width, and 64-bit UEFI.
    X86_64,
}

impl Arch {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Arm32 => "arm32",
            Self::Arm64 => "arm64",
            Self::Ia32 => "ia32",
            Self::LoongArch64 => "loongarch64",
            Self::Ppc64 => "ppc64",
            Self::RiscV64 => "riscv64",
            Self::S390x => "s390x",
            Self::Sparc64 => "sparc64",
            Self::X86_64 => "x86_64",
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What kind of firmware runs the boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FirmwareKind {
    Bios,
    OpenFirmware,
    S390,
    UBoot,
    Uefi,
}

impl FirmwareKind {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bios => "BIOS",
            Self::OpenFirmware => "Open Firmware",
            Self::S390 => "s390",
            Self::UBoot => "U-Boot",
            Self::Uefi => "UEFI",
        }
    }
}

impl fmt::Display for FirmwareKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the agent reports of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Inventory {
    pub system: SystemInfo,
    pub cpu: CpuInfo,
    /// Usable memory in bytes, as the kernel counts it.
    pub memory_bytes: u64,
    pub nics: Vec<Nic>,
    pub disks: Vec<Disk>,
    pub uefi: bool,
    pub secure_boot: Option<bool>,
    pub tpm: Option<String>,
    /// `vendor:device` pairs (lower-case hex) no driver was bound to.
    pub pci_without_driver: Vec<String>,
}

/// SMBIOS types 0-3, verbatim. Placeholder values of careless vendors are kept here and not believed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct SystemInfo {
    pub manufacturer: String,
    pub product: String,
    pub family: String,
    pub sku: String,
    pub serial: String,
    pub uuid: Option<Uuid>,
    pub board_serial: String,
    pub chassis_asset: String,
    pub bios_vendor: String,
    pub bios_version: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuInfo {
    pub model: String,
    pub sockets: u32,
    pub cores: u32,
    pub threads: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Nic {
    pub name: String,
    pub mac: MacText,
    /// `vendor:device`, lower-case hex, or empty.
    pub pci_id: String,
    pub driver: String,
    pub link_up: bool,
    /// Whether this is the one the machine booted from.
    pub boot: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Disk {
    /// The kernel's name, good for this boot only.
    pub name: String,
    pub size_bytes: u64,
    pub logical_sector: u32,
    pub physical_sector: u32,
    pub model: String,
    pub serial: String,
    pub wwn: String,
    /// `nvme`, `sata`, `scsi`, `usb`, `virtio`, `mmc` or empty.
    pub bus: String,
    pub rotational: bool,
    pub removable: bool,
    /// `gpt`, `mbr`; `other` when something else is on the disk, `unreadable`; none when it begins and ends empty.
    pub table: Option<String>,
}

/// A hardware address as text in stored documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacText(pub MacAddr);

impl TryFrom<String> for MacText {
    type Error = farrier_proto::ParseMacError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

impl From<MacText> for String {
    fn from(mac: MacText) -> Self {
        mac.0.to_string()
    }
}

/// What a person or a program may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Look.
    Viewer,
    /// Look, and run tasks.
    Operator,
    /// Everything.
    Admin,
}

/// Hardware addresses as a list of texts.
mod mac_list {
    use farrier_proto::MacAddr;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::MacText;

    pub(super) fn serialize<S: Serializer>(macs: &[MacAddr], s: S) -> Result<S::Ok, S::Error> {
        macs.iter()
            .copied()
            .map(MacText)
            .collect::<Vec<_>>()
            .serialize(s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<MacAddr>, D::Error> {
        Ok(Vec::<MacText>::deserialize(d)?
            .into_iter()
            .map(|m| m.0)
            .collect())
    }
}

#[cfg(test)]
mod tests;
