//! What a disk is to the image engine.

use std::io;

/// A disk or a file that stands for one. Offsets and lengths are bytes and may be unaligned; an
/// implementation over a real disk aligns them itself.
pub trait BlockDevice: Send + Sync {
    /// Size in bytes.
    fn size(&self) -> u64;

    /// Logical sector size in bytes: 512 or 4096.
    fn logical_sector(&self) -> u32;

    /// Fills `buf` from `offset`. Short reads are errors.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;

    /// Writes all of `buf` at `offset`.
    fn write_at(&self, offset: u64, buf: &[u8]) -> io::Result<()>;

    /// Makes all writes durable and drops cached content, so that what is read next comes from the disk.
    fn sync(&self) -> io::Result<()>;

    /// Tells the disk that a range holds nothing. Optional, and no promise about what is read later.
    fn discard(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }
}
