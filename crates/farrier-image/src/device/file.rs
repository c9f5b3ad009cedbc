//! A disk by its path: a block device or a regular file.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Advice, FallocateFlags, OFlags};

use super::direct::Direct;
use super::{BlockDevice, check_range, write_plain_zeroes};

/// Below this, asking the disk to zero a range costs more than writing zeros.
const ZERO_BY_DISK: u64 = 64 * 1024;

/// What a device is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    ReadOnly,
    ReadWrite,
}

/// A block device or a regular file. Large parts of a block device are read and written past the page cache,
/// everything else goes through it.
#[derive(Debug)]
pub struct FileDevice {
    file: File,
    direct: Option<Direct>,
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
        let device = Self::from_file(options.open(path)?)?;
        Ok(if is_disk {
            device.past_the_cache(path, access)
        } else {
            device
        })
    }

    fn past_the_cache(mut self, path: &Path, access: Access) -> Self {
        self.direct = Direct::open(path, access == Access::ReadWrite);
        self
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
            direct: None,
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
        if let Some(direct) = &self.direct {
            let part = direct.part(offset, buf.len());
            if !part.is_empty()
                && direct.read(offset + part.start as u64, &mut buf[part.clone()])?
            {
                self.file.read_exact_at(&mut buf[..part.start], offset)?;
                let rest = offset + part.end as u64;
                return self.file.read_exact_at(&mut buf[part.end..], rest);
            }
        }
        self.file.read_exact_at(buf, offset)
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        // A regular file would grow silently where a disk ends.
        check_range(self.size, offset, buf.len() as u64)?;
        if let Some(direct) = &self.direct {
            let part = direct.part(offset, buf.len());
            if !part.is_empty() && direct.write(offset + part.start as u64, &buf[part.clone()])? {
                self.file.write_all_at(&buf[..part.start], offset)?;
                let rest = offset + part.end as u64;
                return self.file.write_all_at(&buf[part.end..], rest);
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 2 << 20;

    /// Lengths and places around pages, and around the size from which the cache is passed by.
    fn places() -> impl Iterator<Item = (usize, usize)> {
        let starts = [0, 1, 511, 4096, 4097, 300_000, SIZE - 70_000];
        let lens = [1, 4096, 65_535, 65_536, 73_727, 262_144, 1_048_576];
        starts.into_iter().flat_map(move |start| {
            lens.into_iter()
                .map(move |len| (start, len.min(SIZE - start)))
        })
    }

    #[test]
    fn both_ways_to_a_disk_hold_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        drop(FileDevice::create(&path, SIZE as u64).unwrap());
        let device = FileDevice::open(&path, Access::ReadWrite).unwrap();
        let device = device.past_the_cache(&path, Access::ReadWrite);
        let mut expected = vec![0; SIZE];
        for (number, (start, len)) in places().enumerate() {
            let content: Vec<u8> = (0..len).map(|at| (at * 31 + number) as u8).collect();
            device.write_at(start as u64, &content).unwrap();
            expected[start..start + len].copy_from_slice(&content);
            let mut read = vec![1; len];
            device.read_at(start as u64, &mut read).unwrap();
            assert!(read == content, "{len} bytes at {start}");
        }
        device.sync().unwrap();
        for (start, len) in places() {
            let mut read = vec![1; len];
            device.read_at(start as u64, &mut read).unwrap();
            assert!(
                read == expected[start..start + len],
                "{len} bytes at {start}"
            );
        }
        assert!(std::fs::read(&path).unwrap() == expected);
    }

    #[test]
    fn a_disk_ends_where_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        drop(FileDevice::create(&path, SIZE as u64).unwrap());
        let device = FileDevice::open(&path, Access::ReadWrite).unwrap();
        let device = device.past_the_cache(&path, Access::ReadWrite);
        let beyond = SIZE as u64 - 65_536;
        assert!(device.write_at(beyond, &[1; 131_072]).is_err());
        assert!(device.read_at(beyond, &mut [1; 131_072]).is_err());
        assert_eq!(std::fs::metadata(&path).unwrap().len(), SIZE as u64);
    }

    #[test]
    fn files_in_memory_are_read_through_the_cache() {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let path = folder.path().join("disk");
        drop(FileDevice::create(&path, SIZE as u64).unwrap());
        let device = FileDevice::open(&path, Access::ReadWrite).unwrap();
        let device = device.past_the_cache(&path, Access::ReadWrite);
        device.write_at(0, &[7; 131_072]).unwrap();
        let mut read = vec![1; 131_072];
        device.read_at(0, &mut read).unwrap();
        assert!(read.iter().all(|byte| *byte == 7));
    }
}
