//! qcow2, versions 2 and 3, read only (QEMU's `docs/interop/qcow2.rst`).
//!
//! Every number in the file is hostile: tables are allocated only after their place was found to lie in
//! the file, and no path in the file is ever opened (a backing file named `/etc/shadow` is the known
//! attack, CVE-2024-44082).

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

use super::ImportError;
use crate::device::{BlockDevice, FileDevice, check_range};
use crate::field::{be32, be64};

pub(super) const MAGIC: [u8; 4] = *b"QFI\xfb";

/// QEMU refuses larger first-level tables as well; at 64 KiB clusters this is 2 PiB of disk.
const MAX_L1: u64 = 32 << 20;
/// Second-level tables and unpacked clusters that are remembered, in bytes each.
const CACHE_BYTES: usize = 16 << 20;

const INCOMPATIBLE_DIRTY: u64 = 1;
const INCOMPATIBLE_CORRUPT: u64 = 2;
const INCOMPATIBLE_DATA_FILE: u64 = 4;
const INCOMPATIBLE_COMPRESSION: u64 = 8;
const INCOMPATIBLE_EXTENDED_L2: u64 = 16;

/// Bits 9 to 55 of an entry: the place of a cluster.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const COMPRESSED: u64 = 1 << 62;
const READS_AS_ZEROS: u64 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    Deflate,
    Zstd,
}

/// A qcow2 file as a disk.
#[derive(Debug)]
pub struct Qcow2Device {
    file: FileDevice,
    size: u64,
    logical_sector: u32,
    cluster_bits: u32,
    /// Version 3 knows clusters that read as zeros.
    version: u32,
    packing: Packing,
    l1: Vec<u64>,
    tables: Mutex<Cache>,
    unpacked: Mutex<Cache>,
}

impl Qcow2Device {
    /// Reads header and first-level table.
    pub fn open(file: FileDevice) -> Result<Self, ImportError> {
        let header = read(&file, 0, 72)?;
        if header[..4] != MAGIC {
            return Err(ImportError::Damaged("it does not begin as one"));
        }
        let version = be32(&header, 4);
        let packing = match version {
            2 => Packing::Deflate,
            3 => packing_of(&read(&file, 72, 40)?)?,
            _ => return Err(ImportError::Unsupported("has an unknown version")),
        };
        if be64(&header, 8) != 0 {
            return Err(ImportError::Unsupported("needs a backing file"));
        }
        if be32(&header, 32) != 0 {
            return Err(ImportError::Unsupported("is encrypted"));
        }
        let cluster_bits = be32(&header, 20);
        if !(9..=21).contains(&cluster_bits) {
            return Err(ImportError::Damaged("its cluster size is impossible"));
        }
        let size = be64(&header, 24);
        let per_table = 1_u64 << (cluster_bits - 3);
        let needed = size.div_ceil(1 << cluster_bits).div_ceil(per_table);
        if needed * 8 > MAX_L1 || needed > u64::from(be32(&header, 36)) {
            return Err(ImportError::Damaged("its size does not fit its tables"));
        }
        let raw = read(&file, be64(&header, 40), needed as usize * 8)?;
        let entries = (CACHE_BYTES >> cluster_bits).clamp(4, 64);
        Ok(Self {
            file,
            size,
            logical_sector: 512,
            cluster_bits,
            version,
            packing,
            l1: raw.chunks_exact(8).map(|entry| be64(entry, 0)).collect(),
            tables: Mutex::new(Cache::new(entries)),
            unpacked: Mutex::new(Cache::new(entries)),
        })
    }

    /// Treats the content as that of a disk with another sector size.
    #[must_use]
    pub fn with_sector(mut self, logical_sector: u32) -> Self {
        self.logical_sector = logical_sector;
        self
    }

    fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Reads within one cluster of the disk.
    fn read_in_cluster(&self, offset: u64, buf: &mut [u8]) -> Result<(), ImportError> {
        let index = offset >> self.cluster_bits;
        let within = offset & (self.cluster() - 1);
        let entry = self.entry(index)?;
        if entry & COMPRESSED != 0 {
            let content = self.unpack(entry)?;
            buf.copy_from_slice(&content[within as usize..within as usize + buf.len()]);
            return Ok(());
        }
        let place = entry & OFFSET;
        if place == 0 || (self.version >= 3 && entry & READS_AS_ZEROS != 0) {
            buf.fill(0);
            return Ok(());
        }
        // The last cluster of a file may be cut off by tools that do not round up.
        let at = place + within;
        let there = self.file.size().saturating_sub(at).min(buf.len() as u64) as usize;
        if there == 0 {
            return Err(ImportError::Damaged("a cluster lies beyond its end"));
        }
        let (present, absent) = buf.split_at_mut(there);
        absent.fill(0);
        self.file
            .read_at(at, present)
            .map_err(|source| ImportError::Read { offset: at, source })
    }

    /// The second-level entry of a cluster; 0 for one that was never written.
    fn entry(&self, cluster: u64) -> Result<u64, ImportError> {
        let per_table = self.cluster() / 8;
        let place = match self.l1.get((cluster / per_table) as usize) {
            Some(l1_entry) => l1_entry & OFFSET,
            None => 0,
        };
        if place == 0 {
            return Ok(0);
        }
        let load = || read(&self.file, place, self.cluster() as usize);
        let table = cached(&self.tables, place, load)?;
        Ok(be64(&table, (cluster % per_table) as usize * 8))
    }

    fn unpack(&self, entry: u64) -> Result<Arc<Vec<u8>>, ImportError> {
        let key = entry & (COMPRESSED - 1);
        cached(&self.unpacked, key, || {
            let place_bits = 62 - (self.cluster_bits - 8);
            let place = key & ((1 << place_bits) - 1);
            let sectors = (key >> place_bits) + 1;
            let len = sectors * 512 - place % 512;
            // The last sectors of a file may be missing; the stream ends before them.
            let len = len.min(self.file.size().saturating_sub(place));
            let packed = read(&self.file, place, len as usize)?;
            let mut content = vec![0; self.cluster() as usize];
            match self.packing {
                Packing::Deflate => inflate(&packed, &mut content)?,
                Packing::Zstd => unzstd(&packed, &mut content)?,
            }
            Ok(content)
        })
    }
}

/// The part of the header that version 3 added.
fn packing_of(extra: &[u8]) -> Result<Packing, ImportError> {
    let features = be64(extra, 0);
    if features & INCOMPATIBLE_CORRUPT != 0 {
        return Err(ImportError::Damaged("it is marked corrupt"));
    }
    if features & INCOMPATIBLE_DATA_FILE != 0 {
        return Err(ImportError::Unsupported("keeps its data in another file"));
    }
    if features & INCOMPATIBLE_EXTENDED_L2 != 0 {
        return Err(ImportError::Unsupported("has subclusters (extended_l2)"));
    }
    // Dirty means that reference counts may be wrong; they are not used here.
    if features & !(INCOMPATIBLE_DIRTY | INCOMPATIBLE_COMPRESSION) != 0 {
        return Err(ImportError::Unsupported("has unknown features"));
    }
    if features & INCOMPATIBLE_COMPRESSION == 0 {
        return Ok(Packing::Deflate);
    }
    let header_len = be32(extra, 28);
    match extra[32] {
        0 => Ok(Packing::Deflate),
        1 if header_len > 104 => Ok(Packing::Zstd),
        _ => Err(ImportError::Unsupported("has an unknown compression")),
    }
}

/// Raw deflate; input behind the stream's end is padding.
fn inflate(packed: &[u8], content: &mut [u8]) -> Result<(), ImportError> {
    let mut state = DecompressorOxide::new();
    let (_, _, written) = decompress(
        &mut state,
        packed,
        content,
        0,
        TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
    );
    match written == content.len() {
        true => Ok(()),
        false => Err(ImportError::Damaged("a compressed cluster does not unpack")),
    }
}

fn unzstd(packed: &[u8], content: &mut [u8]) -> Result<(), ImportError> {
    let damaged = |_| ImportError::Damaged("a compressed cluster does not unpack");
    let mut stream = zstd::stream::read::Decoder::with_buffer(packed)
        .map_err(damaged)?
        .single_frame();
    io::Read::read_exact(&mut stream, content).map_err(damaged)
}

impl BlockDevice for Qcow2Device {
    fn size(&self) -> u64 {
        self.size
    }

    fn logical_sector(&self) -> u32 {
        self.logical_sector
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        check_range(self.size, offset, buf.len() as u64)?;
        let mut at = offset;
        let mut rest = buf;
        while !rest.is_empty() {
            let step = (self.cluster() - at % self.cluster()).min(rest.len() as u64);
            let (now, later) = rest.split_at_mut(step as usize);
            self.read_in_cluster(at, now).map_err(io::Error::other)?;
            rest = later;
            at += step;
        }
        Ok(())
    }

    fn write_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(io::Error::new(
            io::ErrorKind::ReadOnlyFilesystem,
            "qcow2 files are only read",
        ))
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a piece of the file; the place is checked before anything is allocated.
fn read(file: &FileDevice, offset: u64, len: usize) -> Result<Vec<u8>, ImportError> {
    check_range(file.size(), offset, len as u64)
        .map_err(|source| ImportError::Read { offset, source })?;
    let mut bytes = vec![0; len];
    file.read_at(offset, &mut bytes)
        .map_err(|source| ImportError::Read { offset, source })?;
    Ok(bytes)
}

/// The last few pieces by their key, oldest first.
#[derive(Debug)]
struct Cache {
    entries: VecDeque<(u64, Arc<Vec<u8>>)>,
    limit: usize,
}

impl Cache {
    fn new(limit: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            limit,
        }
    }
}

/// Looks up or loads; loading happens outside the lock, so that threads unpack side by side.
fn cached(
    cache: &Mutex<Cache>,
    key: u64,
    load: impl FnOnce() -> Result<Vec<u8>, ImportError>,
) -> Result<Arc<Vec<u8>>, ImportError> {
    let found = lock(cache)
        .entries
        .iter()
        .rev()
        .find(|(known, _)| *known == key)
        .map(|(_, v)| Arc::clone(v));
    if let Some(found) = found {
        return Ok(found);
    }
    let loaded = Arc::new(load()?);
    let mut cache = lock(cache);
    if cache.entries.len() >= cache.limit {
        cache.entries.pop_front();
    }
    cache.entries.push_back((key, Arc::clone(&loaded)));
    Ok(loaded)
}

fn lock(cache: &Mutex<Cache>) -> MutexGuard<'_, Cache> {
    cache.lock().unwrap_or_else(PoisonError::into_inner)
}
