//! A disk by its path: a block device or a regular file.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Advice, FallocateFlags, OFlags};

use super::{BlockDevice, check_range, write_plain_zeroes};

/// Below this, asking the disk to zero a range costs more than writing zeros.
const ZERO_BY_DISK: u64 = 64 * 1024;

/// What a device is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    ReadOnly,
    ReadWrite,
}

/// A block device or a regular file, through the page cache.
#[derive(Debug)]
pub struct FileDevice {
    file: File,
    size: u64,
    logical_sector: u32,
    /// Cleared when the disk once refused to zero a range itself.
    can_zero: AtomicBool,
}

impl FileDevice {
    /// Opens a block device or an existing file. A block device is opened exclusively for writing, so
    /// that the kernel refuses a disk that is mounted or otherwise held.
    pub fn open(path: impl AsRef<Path>, access: Access) -> io::Result<Self> {
        let path = path.as_ref();
        let is_disk = std::fs::metadata(path)?.file_type().is_block_device();
        let mut options = OpenOptions::new();
        options.read(true).write(access == Access::ReadWrite);
        if is_disk && access == Access::ReadWrite {
            options.custom_flags(OFlags::EXCL.bits().cast_signed());
        }
        Self::from_file(options.open(path)?)
    }

    /// Makes a new sparse file that stands for a blank disk.
    pub fn create(path: impl AsRef<Path>, size: u64) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)?;
        file.set_len(size)?;
        Self::from_file(file)
    }

    /// Takes an open file. The size is found by seeking, which works for disks and files alike.
    pub fn from_file(mut file: File) -> io::Result<Self> {
        let size = file.seek(SeekFrom::End(0))?;
        let is_disk = file.metadata()?.file_type().is_block_device();
        let logical_sector = if is_disk {
            rustix::fs::ioctl_blksszget(&file)?
        } else {
            512
        };
        Ok(Self {
            file,
            size,
            logical_sector,
            can_zero: AtomicBool::new(true),
        })
    }

    /// Treats a file as the content of a disk with another sector size.
    #[must_use]
    pub fn with_sector(mut self, logical_sector: u32) -> Self {
        self.logical_sector = logical_sector;
        self
    }
}

impl BlockDevice for FileDevice {
    fn size(&self) -> u64 {
        self.size
    }

    fn logical_sector(&self) -> u32 {
        self.logical_sector
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        // A regular file would grow silently where a disk ends.
        check_range(self.size, offset, buf.len() as u64)?;
        self.file.write_all_at(buf, offset)
    }

    fn write_zeroes_at(&self, offset: u64, len: u64) -> io::Result<()> {
        check_range(self.size, offset, len)?;
        if len >= ZERO_BY_DISK && self.can_zero.load(Ordering::Relaxed) {
            // On a block device the kernel turns this into "write zeroes" with unmapping allowed and
            // fails rather than leave old content; on a file it makes a hole.
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            if rustix::fs::fallocate(&self.file, flags, offset, len).is_ok() {
                return Ok(());
            }
            self.can_zero.store(false, Ordering::Relaxed);
        }
        write_plain_zeroes(self, offset, len)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()?;
        // Only clean pages can be dropped, hence after the sync. Advice may be refused harmlessly by
        // file systems that live in memory.
        let _ = rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed);
        Ok(())
    }
}
