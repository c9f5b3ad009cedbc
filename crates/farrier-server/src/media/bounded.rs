//! The bytes of an image below a file system that nobody has checked.
//!
//! `fatfs` believes the tables of a volume: it follows a chain of clusters that leads in a circle for ever, and reads
//! and writes where a boot sector claims sectors that the image does not have. Here both end with an error.

use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};

/// An image that keeps its size, good for so many bytes read and written.
#[derive(Debug)]
pub(super) struct Bounded<'a> {
    image: Cursor<&'a mut [u8]>,
    left: u64,
}

impl<'a> Bounded<'a> {
    pub(super) fn new(image: &'a mut [u8], left: u64) -> Self {
        Self {
            image: Cursor::new(image),
            left,
        }
    }

    /// What a sound volume is done with by far.
    pub(super) fn sound(image: &'a mut [u8]) -> Self {
        let left = ROUNDS * image.len() as u64;
        Self::new(image, left)
    }

    /// The end of the image is an error: at the end of a file, `fatfs` would take a folder for complete.
    fn spend(&mut self, moved: usize, wanted: usize) -> io::Result<usize> {
        if moved == 0 && wanted > 0 {
            return Err(damaged("it lies behind the end of the image"));
        }
        let Some(left) = self.left.checked_sub(moved as u64) else {
            self.left = 0;
            return Err(damaged("its tables lead in circles"));
        };
        self.left = left;
        Ok(moved)
    }
}

impl Read for Bounded<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let moved = self.image.read(into)?;
        self.spend(moved, into.len())
    }
}

impl Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let moved = self.image.write(bytes)?;
        self.spend(moved, bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Bounded<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.image.seek(to)
    }
}

fn damaged(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// To look at everything takes one round, to add a file to a full folder two at most.
const ROUNDS: u64 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t16_what_is_not_there_is_neither_read_nor_written() {
        let mut image = [7; 16];
        let mut disk = Bounded::sound(&mut image);
        disk.seek(SeekFrom::Start(12)).unwrap();
        let error = disk.read_exact(&mut [0; 8]).unwrap_err();
        assert_eq!(error.to_string(), "it lies behind the end of the image");
        disk.seek(SeekFrom::Start(12)).unwrap();
        assert!(disk.write_all(&[9; 8]).is_err());
        disk.seek(SeekFrom::Start(1 << 40)).unwrap();
        assert!(disk.write_all(&[9]).is_err());
        assert_eq!(image[11..], [7, 9, 9, 9, 9]);
    }

    #[test]
    fn t16_after_so_many_bytes_nothing_is_read_or_written_any_more() {
        let mut image = [0; 16];
        let mut disk = Bounded::new(&mut image, 20);
        disk.read_exact(&mut [0; 16]).unwrap();
        disk.rewind().unwrap();
        let error = disk.read_exact(&mut [0; 5]).unwrap_err();
        assert_eq!(error.to_string(), "its tables lead in circles");
        disk.rewind().unwrap();
        assert!(disk.read_exact(&mut [0]).is_err());
        disk.rewind().unwrap();
        assert!(disk.write_all(&[1]).is_err());
    }
}
