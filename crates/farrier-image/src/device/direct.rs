//! Past the page cache, straight to the disk.
//!
//! An image is larger than the memory of the machine that is imaged, and nothing of it is read twice: keeping it in
//! the cache costs a page for every 4 KiB and pushes out the agent itself. And what is read back to prove a deployment
//! has to come from the disk.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::OFlags;
use rustix::io::Errno;

/// Every disk takes memory and places that are multiples of this; most take less.
const ALIGN: u64 = 4096;
/// Below this the cache is better: it joins neighbours, and reads ahead.
const WORTH_IT: u64 = 64 * 1024;
/// Bytes per call: enough for the kernel to keep the queue of a fast disk filled.
const PIECE: usize = 512 * 1024;

/// A second way to a disk that is also open through the page cache.
#[derive(Debug)]
pub(super) struct Direct {
    file: File,
    spare: Mutex<Vec<Aligned>>,
    /// Set when the disk once refused.
    refused: AtomicBool,
}

impl Direct {
    /// None when there is no such way, as in file systems that live in memory.
    pub(super) fn open(path: &Path, write: bool) -> Option<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(write)
            .custom_flags(OFlags::DIRECT.bits().cast_signed())
            .open(path)
            .ok()?;
        Some(Self {
            file,
            spare: Mutex::default(),
            refused: AtomicBool::new(false),
        })
    }

    /// The part of `len` bytes at `offset` that goes this way, as a range within them; it may be empty. Parts of pages
    /// are left to the cache, so that no page is ever written both ways.
    pub(super) fn part(&self, offset: u64, len: usize) -> Range<usize> {
        let end = offset.saturating_add(len as u64);
        let first = offset.next_multiple_of(ALIGN);
        let last = end / ALIGN * ALIGN;
        if self.refused.load(Ordering::Relaxed) || last.saturating_sub(first) < WORTH_IT {
            return 0..0;
        }
        (first - offset) as usize..(last - offset) as usize
    }

    /// Fills `buf`; false when the disk does not take direct reads.
    pub(super) fn read(&self, offset: u64, buf: &mut [u8]) -> io::Result<bool> {
        let mut memory = self.take();
        let mut result = Ok(true);
        let mut at = offset;
        for piece in buf.chunks_mut(PIECE) {
            let aligned = memory.slice(piece.len());
            result = self.outcome(self.file.read_exact_at(aligned, at));
            if !matches!(result, Ok(true)) {
                break;
            }
            piece.copy_from_slice(aligned);
            at += piece.len() as u64;
        }
        self.give_back(memory);
        result
    }

    /// Writes `buf`; false when the disk does not take direct writes.
    pub(super) fn write(&self, offset: u64, buf: &[u8]) -> io::Result<bool> {
        let mut memory = self.take();
        let mut result = Ok(true);
        let mut at = offset;
        for piece in buf.chunks(PIECE) {
            let aligned = memory.slice(piece.len());
            aligned.copy_from_slice(piece);
            result = self.outcome(self.file.write_all_at(aligned, at));
            if !matches!(result, Ok(true)) {
                break;
            }
            at += piece.len() as u64;
        }
        self.give_back(memory);
        result
    }

    /// EINVAL is what a device says that wants another alignment; then the cache has to do.
    fn outcome(&self, result: io::Result<()>) -> io::Result<bool> {
        match result {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                self.refused.store(true, Ordering::Relaxed);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn take(&self) -> Aligned {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        spare.pop().unwrap_or_else(Aligned::new)
    }

    fn give_back(&self, memory: Aligned) {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        spare.push(memory);
    }
}

/// [`PIECE`] bytes of memory that starts where every disk can reach it.
#[derive(Debug)]
struct Aligned {
    memory: Vec<u8>,
    start: usize,
}

impl Aligned {
    fn new() -> Self {
        let memory = vec![0; PIECE + ALIGN as usize];
        let start = memory.as_ptr().align_offset(ALIGN as usize);
        Self { memory, start }
    }

    fn slice(&mut self, len: usize) -> &mut [u8] {
        &mut self.memory[self.start..self.start + len]
    }
}
