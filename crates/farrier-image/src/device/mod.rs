//! What a disk is to the image engine.

mod direct;
mod file;
mod memory;

use std::io;

pub use file::{Access, FileDevice};
pub use memory::MemDevice;

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

    /// Makes a range read as zeros. A disk that can do so by itself spares the transfer.
    fn write_zeroes_at(&self, offset: u64, len: u64) -> io::Result<()> {
        write_plain_zeroes(self, offset, len)
    }

    /// Makes all writes durable and drops cached content, so that what is read next comes from the disk.
    fn sync(&self) -> io::Result<()>;

    /// Tells the disk that a range holds nothing. Optional, and no promise about what is read later.
    fn discard(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }
}

static ZEROES: [u8; 64 * 1024] = [0; 64 * 1024];

/// Zeroes a range by writing zeros.
fn write_plain_zeroes<D: BlockDevice + ?Sized>(
    device: &D,
    offset: u64,
    len: u64,
) -> io::Result<()> {
    let mut done = 0;
    while done < len {
        let step = (len - done).min(ZEROES.len() as u64);
        device.write_at(offset + done, &ZEROES[..step as usize])?;
        done += step;
    }
    Ok(())
}

/// Refuses a range that is not wholly on a device of `size` bytes.
pub(crate) fn check_range(size: u64, offset: u64, len: u64) -> io::Result<()> {
    match offset.checked_add(len) {
        Some(end) if end <= size => Ok(()),
        _ => Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            format!("{len} bytes at {offset} are beyond the end of the device ({size} bytes)"),
        )),
    }
}
