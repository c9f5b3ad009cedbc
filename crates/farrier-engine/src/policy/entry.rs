//! The text of a menu entry.

use std::fmt;
use std::str::FromStr;

use super::MenuEntry;
use crate::medium::MediumName;

/// The text names no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not an entry of the menu: use `local_disk`, `register`, `memory_test`, `diagnostics` or `medium:NAME`, NAME being \
     1 to 63 letters, digits, hyphens, underscores and dots"
)]
pub struct MenuEntryError;

impl fmt::Display for MenuEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Diagnostics => f.write_str("diagnostics"),
            Self::LocalDisk => f.write_str("local_disk"),
            Self::Medium(name) => write!(f, "{MEDIUM}{name}"),
            Self::MemoryTest => f.write_str("memory_test"),
            Self::Register => f.write_str("register"),
        }
    }
}

impl FromStr for MenuEntry {
    type Err = MenuEntryError;

    fn from_str(text: &str) -> Result<Self, MenuEntryError> {
        Ok(match text {
            "diagnostics" => Self::Diagnostics,
            "local_disk" => Self::LocalDisk,
            "memory_test" => Self::MemoryTest,
            "register" => Self::Register,
            other => {
                let name = other.strip_prefix(MEDIUM);
                let name = name.or_else(|| other.strip_prefix(MEDIUM_SEGMENT));
                let name = name.ok_or(MenuEntryError)?;
                Self::Medium(MediumName::new(name).map_err(|_| MenuEntryError)?)
            }
        })
    }
}

impl MenuEntry {
    /// The text as a part of a path: GRUB and PXELINUX send names by TFTP as they are written, so nothing in them may
    /// need a percent sign.
    #[must_use]
    pub fn segment(self) -> String {
        match self {
            Self::Medium(name) => format!("{MEDIUM_SEGMENT}{name}"),
            other => other.to_string(),
        }
    }
}

impl TryFrom<String> for MenuEntry {
    type Error = MenuEntryError;

    fn try_from(text: String) -> Result<Self, MenuEntryError> {
        text.parse()
    }
}

impl From<MenuEntry> for String {
    fn from(entry: MenuEntry) -> Self {
        entry.to_string()
    }
}

const MEDIUM: &str = "medium:";
const MEDIUM_SEGMENT: &str = "medium-";

#[cfg(test)]
mod tests {
    use super::MenuEntry;

    #[test]
    fn entries_are_stored_and_asked_for_by_their_text() {
        for text in [
            "local_disk",
            "register",
            "memory_test",
            "diagnostics",
            "medium:dos-6.22_a.img",
        ] {
            let entry: MenuEntry = text.parse().unwrap();
            assert_eq!(entry.to_string(), text);
            assert_eq!(entry.segment().parse(), Ok(entry));
            assert_eq!(
                serde_json::to_string(&entry).unwrap(),
                format!("\"{text}\"")
            );
        }
        for wrong in ["", "medium", "medium:", "medium:a b", "medium:../x", "disk"] {
            assert!(wrong.parse::<MenuEntry>().is_err(), "{wrong}");
        }
    }
}
