//! A sparse disk in memory, with faults on request: the test double of a real disk.

use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{BlockDevice, check_range};

const PAGE: u64 = 4096;

/// A disk in memory. Pages that were never written read as zeros and take no room.
#[derive(Debug)]
pub struct MemDevice {
    size: u64,
    logical_sector: u32,
    state: Mutex<State>,
    read: AtomicU64,
    written: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    pages: BTreeMap<u64, Box<[u8; PAGE as usize]>>,
    /// Byte ranges (first, end) that cannot be read.
    unreadable: Vec<(u64, u64)>,
    /// Byte ranges (first, end) whose writes are acknowledged and lost.
    deaf: Vec<(u64, u64)>,
    /// How many more write calls succeed; none means all.
    writes_left: Option<u64>,
}

impl MemDevice {
    #[must_use]
    pub fn new(size: u64) -> Self {
        Self {
            size,
            logical_sector: 512,
            state: Mutex::default(),
            read: AtomicU64::new(0),
            written: AtomicU64::new(0),
        }
    }

    /// A disk that holds `content`.
    #[must_use]
    pub fn with_content(content: &[u8]) -> Self {
        let device = Self::new(content.len() as u64);
        device.change(|state| state.store(0, content));
        device
    }

    #[must_use]
    pub fn with_sector(mut self, logical_sector: u32) -> Self {
        self.logical_sector = logical_sector;
        self
    }

    /// Makes reads that touch `len` bytes at `offset` fail.
    pub fn fail_reads(&self, offset: u64, len: u64) {
        self.change(|state| state.unreadable.push((offset, offset + len)));
    }

    /// Makes writes that touch `len` bytes at `offset` vanish although they are acknowledged.
    pub fn lose_writes(&self, offset: u64, len: u64) {
        self.change(|state| state.deaf.push((offset, offset + len)));
    }

    /// Lets `count` more writes succeed and fails every later one, as a power cut would; none heals.
    pub fn fail_writes_after(&self, count: Option<u64>) {
        self.change(|state| state.writes_left = count);
    }

    /// Bytes read since the start.
    pub fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Bytes written since the start.
    pub fn bytes_written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    fn change<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self
            .state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl State {
    fn store(&mut self, offset: u64, mut bytes: &[u8]) {
        let mut at = offset;
        while !bytes.is_empty() {
            let within = (at % PAGE) as usize;
            let step = bytes.len().min(PAGE as usize - within);
            let page = self
                .pages
                .entry(at / PAGE)
                .or_insert_with(|| Box::new([0; PAGE as usize]));
            page[within..within + step].copy_from_slice(&bytes[..step]);
            bytes = &bytes[step..];
            at += step as u64;
        }
    }

    fn load(&self, offset: u64, mut out: &mut [u8]) {
        let mut at = offset;
        while !out.is_empty() {
            let within = (at % PAGE) as usize;
            let step = out.len().min(PAGE as usize - within);
            let (now, rest) = out.split_at_mut(step);
            match self.pages.get(&(at / PAGE)) {
                Some(page) => now.copy_from_slice(&page[within..within + step]),
                None => now.fill(0),
            }
            out = rest;
            at += step as u64;
        }
    }
}

fn touches(ranges: &[(u64, u64)], offset: u64, len: u64) -> bool {
    ranges
        .iter()
        .any(|&(first, end)| offset < end && first < offset + len)
}

impl BlockDevice for MemDevice {
    fn size(&self) -> u64 {
        self.size
    }

    fn logical_sector(&self) -> u32 {
        self.logical_sector
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        check_range(self.size, offset, buf.len() as u64)?;
        self.read.fetch_add(buf.len() as u64, Ordering::Relaxed);
        self.change(|state| {
            if touches(&state.unreadable, offset, buf.len() as u64) {
                return Err(io::Error::other("unreadable sector"));
            }
            state.load(offset, buf);
            Ok(())
        })
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        check_range(self.size, offset, buf.len() as u64)?;
        self.change(|state| -> io::Result<()> {
            if let Some(left) = &mut state.writes_left {
                *left = left
                    .checked_sub(1)
                    .ok_or_else(|| io::Error::other("power is gone"))?;
            }
            if !touches(&state.deaf, offset, buf.len() as u64) {
                state.store(offset, buf);
            }
            Ok(())
        })?;
        self.written.fetch_add(buf.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
