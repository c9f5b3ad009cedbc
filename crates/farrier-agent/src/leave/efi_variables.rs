//! The firmware's boot variables through efivarfs: each a file of four bytes of attributes and the value.
//! Few are written, and each only if it changes: firmware keeps them in flash, and some boards forget how to
//! start when that is full.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use farrier_proto::MacAddr;

use super::EfiSystemPartition;
use super::boot_entry::BootOption;

/// `EFI_GLOBAL_VARIABLE`.
const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// Kept over power-off, visible to the firmware and to the operating system.
const ATTRIBUTES: u32 = 0b111;

/// The boot variables of a machine.
#[derive(Debug)]
pub struct BootVariables {
    folder: PathBuf,
}

/// Why the firmware was not told.
#[derive(Debug, thiserror::Error)]
pub enum EfiError {
    #[error("it has no entry for a disk")]
    NoDisk,
    #[error("it has no entry for the network card {0}")]
    NoCard(MacAddr),
    #[error("all 65536 boot entries are taken")]
    Full,
    #[error("{variable} cannot be written: {source}")]
    Write { variable: String, source: io::Error },
}

impl BootVariables {
    /// The variables in `folder` (`/sys/firmware/efi/efivars`).
    #[must_use]
    pub fn open(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// Sets `BootNext` to the disk's entry, making one if the partition is known and has none. Returns the
    /// entry's description.
    pub fn start_next_from_disk(
        &mut self,
        partition: Option<EfiSystemPartition>,
    ) -> Result<String, EfiError> {
        let entries = self.entries();
        let (number, entry) = match partition {
            Some(partition) => match entry_of(&entries, &partition) {
                Some(found) => found,
                None => self.add_entry(&entries, &partition)?,
            },
            None => self.preferred_disk(&entries).ok_or(EfiError::NoDisk)?,
        };
        self.write("BootNext", &number.to_le_bytes())?;
        Ok(entry.description)
    }

    /// Sets `BootNext` to an entry of the network card: the one that started this boot, else the first in the
    /// firmware's own order, else the one that most servers answer. Returns its description.
    pub fn start_next_from_network(&mut self, card: MacAddr) -> Result<String, EfiError> {
        let entries = self.entries();
        let numbers = |variable| {
            let value = self.read(variable).unwrap_or_default();
            let numbers = value.as_chunks::<2>().0.iter();
            numbers.map(|n| u16::from_le_bytes(*n)).collect::<Vec<_>>()
        };
        let mut others: Vec<_> = entries
            .iter()
            .filter_map(|(number, entry)| Some((entry.network(card)?, *number)))
            .collect();
        others.sort_unstable();
        let number = numbers("BootCurrent")
            .into_iter()
            .chain(numbers("BootOrder"))
            .chain(others.into_iter().map(|(_, number)| number))
            .find(|number| {
                let entry = entries.get(number).filter(|entry| entry.is_bootable());
                entry.is_some_and(|entry| entry.network(card).is_some())
            })
            .ok_or(EfiError::NoCard(card))?;
        self.write("BootNext", &number.to_le_bytes())?;
        Ok(entries[&number].description.clone())
    }

    /// All boot entries that can be read, by number.
    fn entries(&self) -> BTreeMap<u16, BootOption> {
        let numbered = |name: &str| {
            let digits = name
                .strip_prefix("Boot")?
                .strip_suffix(GLOBAL)?
                .strip_suffix('-')?;
            (digits.len() == 4)
                .then(|| u16::from_str_radix(digits, 16).ok())
                .flatten()
        };
        let files = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let numbers = files.filter_map(|file| numbered(file.file_name().to_str()?));
        numbers
            .filter_map(|number| Some((number, self.entry(number)?)))
            .collect()
    }

    fn entry(&self, number: u16) -> Option<BootOption> {
        BootOption::decode(&self.read(&format!("Boot{number:04X}"))?).ok()
    }

    /// The first disk in the firmware's own order; one with an installed system before a bare one.
    fn preferred_disk(&self, entries: &BTreeMap<u16, BootOption>) -> Option<(u16, BootOption)> {
        let order = self.read("BootOrder").unwrap_or_default();
        let ordered = order
            .as_chunks::<2>()
            .0
            .iter()
            .map(|number| u16::from_le_bytes(*number));
        let bootable: Vec<_> = ordered
            .filter_map(|number| Some((number, entries.get(&number)?.clone())))
            .filter(|(_, entry)| entry.is_bootable())
            .collect();
        let installed = bootable
            .iter()
            .find(|(_, entry)| entry.partition().is_some());
        installed
            .or_else(|| bootable.iter().find(|(_, entry)| entry.is_disk()))
            .cloned()
    }

    fn add_entry(
        &self,
        entries: &BTreeMap<u16, BootOption>,
        partition: &EfiSystemPartition,
    ) -> Result<(u16, BootOption), EfiError> {
        let number = (0..=u16::MAX)
            .find(|number| !entries.contains_key(number))
            .ok_or(EfiError::Full)?;
        let entry = BootOption::fallback_loader(partition);
        self.write(&format!("Boot{number:04X}"), &entry.encode())?;
        // At the end of the order: found by a person in the firmware's menu, and not before the network.
        let mut order = self.read("BootOrder").unwrap_or_default();
        order.extend_from_slice(&number.to_le_bytes());
        self.write("BootOrder", &order)?;
        Ok((number, entry))
    }

    fn path(&self, variable: &str) -> PathBuf {
        self.folder.join(format!("{variable}-{GLOBAL}"))
    }

    fn read(&self, variable: &str) -> Option<Vec<u8>> {
        let mut content = fs::read(self.path(variable)).ok()?;
        (content.len() >= 4).then(|| content.split_off(4))
    }

    /// efivarfs takes a value in one write only, attributes first.
    fn write(&self, variable: &str, value: &[u8]) -> Result<(), EfiError> {
        if self.read(variable).as_deref() == Some(value) {
            return Ok(());
        }
        let content = [&ATTRIBUTES.to_le_bytes(), value].concat();
        let wrote = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.path(variable))
            .and_then(|mut file| io::Write::write_all(&mut file, &content));
        wrote.map_err(|source| EfiError::Write {
            variable: variable.to_owned(),
            source,
        })
    }
}

/// An entry that starts from exactly this partition.
fn entry_of(
    entries: &BTreeMap<u16, BootOption>,
    partition: &EfiSystemPartition,
) -> Option<(u16, BootOption)> {
    let fits =
        |entry: &BootOption| entry.is_bootable() && entry.partition() == Some(partition.guid);
    entries
        .iter()
        .find(|(_, entry)| fits(entry))
        .map(|(number, entry)| (*number, entry.clone()))
}

#[cfg(test)]
mod tests;
