//! Disk images of people's own that a machine starts from memory or over the network: what they are, and in which
//! way a machine's firmware and loader can start one.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::catalogue::LoaderFile;

/// What a medium is called: the name of its file, 1 to 63 letters, digits, hyphens, underscores and dots.
///
/// It is kept in place rather than on the heap, so that a menu entry can be copied like the numbers around it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MediumName {
    /// ASCII, padded with zeros.
    bytes: [u8; Self::MAX],
    len: u8,
}

/// The text is not such a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a name of a medium: use 1 to 63 letters, digits, hyphens, underscores and dots, none of them a dot in front"
)]
pub struct MediumNameError;

impl MediumName {
    const MAX: usize = 63;

    /// # Errors
    ///
    /// When the text has other characters, begins with a dot, is empty or too long.
    pub fn new(text: &str) -> Result<Self, MediumNameError> {
        let good = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        let len = u8::try_from(text.len()).map_err(|_| MediumNameError)?;
        if !(1..=Self::MAX).contains(&text.len())
            || text.starts_with('.')
            || !text.bytes().all(good)
        {
            return Err(MediumNameError);
        }
        let mut bytes = [0; Self::MAX];
        for (to, from) in bytes.iter_mut().zip(text.bytes()) {
            *to = from;
        }
        Ok(Self { bytes, len })
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        let used = self.bytes.get(..usize::from(self.len)).unwrap_or_default();
        // Only ASCII was let in.
        std::str::from_utf8(used).unwrap_or_default()
    }
}

impl TryFrom<String> for MediumName {
    type Error = MediumNameError;

    fn try_from(text: String) -> Result<Self, MediumNameError> {
        Self::new(&text)
    }
}

impl From<MediumName> for String {
    fn from(name: MediumName) -> Self {
        name.as_str().to_owned()
    }
}

impl fmt::Display for MediumName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for MediumName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// One medium, as its content tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Medium {
    pub kind: MediumKind,
    /// In bytes.
    pub size: u64,
    /// It has a boot sector, or El Torito's entry for PCs.
    pub bios: bool,
    /// It has what UEFI starts from a disk by itself.
    pub uefi: bool,
}

/// What the machine is to take it for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MediumKind {
    Cd,
    Disk(Geometry),
    Floppy,
}

impl fmt::Display for MediumKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cd => "CD",
            Self::Disk(_) => "disk",
            Self::Floppy => "floppy",
        })
    }
}

/// How a BIOS counts the sectors of a disk. Its boot sector was written for one way of counting and fails under
/// another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Geometry {
    pub cylinders: u16,
    pub heads: u16,
    pub sectors: u8,
}

/// In which way it is started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MediumStart {
    /// BIOS: MEMDISK takes it into memory and answers INT 13h for it.
    Memdisk(LoaderFile),
    /// iPXE makes a disk of it that is read over HTTP, sector by sector.
    Network,
    /// UEFI HTTP Boot fetches it whole and makes a RAM disk of it.
    RamDisk,
}

/// The largest image that MEMDISK is given. A BIOS shows memory below 4 GiB, of which firmware takes a part, and
/// every machine that boots fetches all of it first.
pub const MEMDISK_LIMIT: u64 = 256 << 20;

#[cfg(test)]
mod tests {
    use super::MediumName;

    #[test]
    fn t4_names_hold_nothing_that_a_loader_takes_for_syntax() {
        for good in ["dos.img", "a", "debian-12.5_x.iso", &"x".repeat(63)] {
            let name = MediumName::new(good).unwrap();
            assert_eq!(name.as_str(), good);
            assert_eq!(
                serde_json::from_str::<MediumName>(&serde_json::to_string(&name).unwrap()).unwrap(),
                name
            );
        }
        for bad in [
            "",
            ".",
            "..",
            ".hidden",
            "a b",
            "a/b",
            "a\\b",
            "ä",
            "${x}",
            "a:b",
            "a\n",
            &"x".repeat(64),
        ] {
            assert!(MediumName::new(bad).is_err(), "{bad:?}");
        }
    }
}
