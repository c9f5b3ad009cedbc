//! Other people's disk files as read-only disks, so that [`capture`](crate::capture) takes them like any
//! other: raw and qcow2. Nothing here runs in the server: these are files from strangers.

mod qcow2;

use std::io;
use std::path::{Path, PathBuf};

use crate::device::{Access, BlockDevice, FileDevice};

pub use qcow2::Qcow2Device;

/// Why a disk file cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("cannot open {path}; check that it exists and may be read")]
    Open { path: PathBuf, source: io::Error },
    #[error("cannot read the disk file at byte {offset}; it may be cut off, copy it again")]
    Read { offset: u64, source: io::Error },
    #[error("the qcow2 file is damaged: {0}; check it with qemu-img check")]
    Damaged(&'static str),
    #[error("the qcow2 file {0}; convert it first: qemu-img convert -O qcow2 OLD NEW")]
    Unsupported(&'static str),
}

/// Opens a raw or qcow2 file as a read-only disk. The sector size is that of its partition table.
pub fn open(path: impl AsRef<Path>) -> Result<Box<dyn BlockDevice>, ImportError> {
    let path = path.as_ref();
    let file = FileDevice::open(path, Access::ReadOnly).map_err(|source| ImportError::Open {
        path: path.to_owned(),
        source,
    })?;
    let mut magic = [0; 4];
    let is_qcow2 = file.size() >= 4 && file.read_at(0, &mut magic).is_ok() && magic == qcow2::MAGIC;
    if is_qcow2 {
        let disk = Qcow2Device::open(file)?;
        let sector = sector_of(&disk);
        return Ok(Box::new(disk.with_sector(sector)));
    }
    let sector = sector_of(&file);
    Ok(Box::new(file.with_sector(sector)))
}

/// A file does not tell the sector size of its disk, but the place of a GPT header does.
fn sector_of(disk: &dyn BlockDevice) -> u32 {
    let has_header = |offset| {
        let mut found = [0; 8];
        disk.size() > offset + 4096
            && disk.read_at(offset, &mut found).is_ok()
            && &found == b"EFI PART"
    };
    if !has_header(512) && has_header(4096) {
        4096
    } else {
        512
    }
}

#[cfg(test)]
mod tests;
