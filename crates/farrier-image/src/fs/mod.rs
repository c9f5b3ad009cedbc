//! Which blocks of a volume are in use, from the file system's own books.
//!
//! Every reader checks what it believes against a second figure of the same file system, and gives the
//! volume up as [`VolumeKind::Raw`] (every byte kept) when a feature is unknown or the figures differ.
//! Keeping too much costs room; keeping too little costs data.

mod ext;
mod fat;
mod runs;
mod swap;

use std::io;

use crate::device::{BlockDevice, check_range};
use crate::manifest::{Run, VolumeKind};

pub(crate) use fat::is_boot_sector as is_fat_boot_sector;

/// What a volume holds and which of its blocks matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FsMap {
    pub kind: VolumeKind,
    pub label: String,
    pub fs_uuid: String,
    pub block_bytes: u32,
    /// Ascending, not touching, in blocks from the volume's start. The last block may be cut short by
    /// the volume's end.
    pub used: Vec<Run>,
    /// What a person should know, such as why the volume is taken raw.
    pub note: Option<String>,
}

/// What to do with a file system that was not unmounted cleanly, or a swap that holds a sleeping system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unclean {
    #[default]
    Refuse,
    /// Keep every byte: the copy is as unclean as the original, and as complete.
    TakeRaw,
}

/// Why a volume cannot be mapped.
#[derive(Debug, thiserror::Error)]
pub enum FsError {
    #[error("cannot read the volume at byte {offset}; check the disk's health (smartctl -a)")]
    Read { offset: u64, source: io::Error },
    #[error(
        "{what}; start the machine and shut it down cleanly (or run fsck on the volume), \
         or capture with the option that takes unclean volumes raw"
    )]
    Unclean { what: String },
}

impl FsError {
    /// Whether the same call may work later.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        matches!(self, Self::Read { .. })
    }
}

/// A volume as its file system sees it: offsets count from its start.
#[derive(Clone, Copy)]
pub struct Window<'a> {
    device: &'a dyn BlockDevice,
    start: u64,
    len: u64,
}

impl std::fmt::Debug for Window<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes at {}", self.len, self.start)
    }
}

impl<'a> Window<'a> {
    /// `len` bytes of `device` from `start`; the caller has checked that they are on it.
    #[must_use]
    pub fn new(device: &'a dyn BlockDevice, start: u64, len: u64) -> Self {
        Self { device, start, len }
    }

    fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, FsError> {
        let mut bytes = vec![0; len];
        check_range(self.len, offset, len as u64)
            .and_then(|()| self.device.read_at(self.start + offset, &mut bytes))
            .map_err(|source| FsError::Read { offset, source })?;
        Ok(bytes)
    }
}

/// A reader's verdict.
enum Verdict {
    /// Not this kind of file system.
    Other,
    Known(FsMap),
    /// This kind, but not understood well enough to skip anything.
    Unsure(String),
    /// This kind, and not safe to copy as it is.
    Unclean(String),
}

/// Finds out which blocks of a volume matter.
pub fn map(window: Window<'_>, unclean: Unclean) -> Result<FsMap, FsError> {
    for reader in [ext::read, swap::read, fat::read] {
        match reader(window)? {
            Verdict::Other => {}
            Verdict::Known(map) => return Ok(map),
            Verdict::Unsure(why) => {
                return Ok(raw(window, Some(format!("{why}; every byte is kept"))));
            }
            Verdict::Unclean(what) if unclean == Unclean::Refuse => {
                return Err(FsError::Unclean { what });
            }
            Verdict::Unclean(what) => {
                return Ok(raw(window, Some(format!("{what}; every byte is kept"))));
            }
        }
    }
    let note = name_of_unread(window)?.map(|name| format!("{name}; every byte is kept"));
    Ok(raw(window, note))
}

/// A map that keeps every byte.
#[must_use]
pub fn raw(window: Window<'_>, note: Option<String>) -> FsMap {
    let block_bytes = 512;
    let count = window.len.div_ceil(u64::from(block_bytes));
    let used = if count == 0 {
        vec![]
    } else {
        vec![Run { first: 0, count }]
    };
    FsMap {
        kind: VolumeKind::Raw,
        label: String::new(),
        fs_uuid: String::new(),
        block_bytes,
        used,
        note,
    }
}

/// File systems and containers that are recognised only to tell a person about them.
const UNREAD: [(u64, &[u8], &str); 7] = [
    (
        3,
        b"NTFS    ",
        "an NTFS volume, whose allocation is not read yet",
    ),
    (
        3,
        b"EXFAT   ",
        "an exFAT volume, whose allocation is not read yet",
    ),
    (
        0,
        b"XFSB",
        "an XFS volume, whose allocation is not read yet",
    ),
    (
        65_600,
        b"_BHRfS_M",
        "a btrfs volume, whose allocation is not read yet",
    ),
    (512, b"LABELONE", "an LVM volume group"),
    (
        0,
        b"LUKS\xba\xbe",
        "an encrypted volume (LUKS), which neither compresses nor shares chunks",
    ),
    (
        3,
        b"-FVE-FS-",
        "an encrypted volume (BitLocker), which neither compresses nor shares chunks",
    ),
];

fn name_of_unread(window: Window<'_>) -> Result<Option<&'static str>, FsError> {
    for (offset, magic, name) in UNREAD {
        if offset + magic.len() as u64 <= window.len && window.read(offset, magic.len())? == magic {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Text in a fixed field: up to the first NUL, spaces at the end cut off.
fn text(field: &[u8]) -> String {
    let end = field
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).trim_end().to_owned()
}

#[cfg(test)]
mod tests;
