//! From a store to a disk: [`plan`] refuses or shows what would happen, [`apply`] does it.
//!
//! Order of a run that writes, so that a power cut at any point leaves a disk that does not look whole:
//! 1. `Repair` reads and hashes what is there. When nothing differs, nothing is written.
//! 2. The partition table is taken away ([`TableSectors::remove`]).
//! 3. Chunks are fetched, unpacked, proven by their hash, and only then written; of each only what is
//!    in use. `Repair` fetches ([`patch`](crate::patch)) and writes only the 4 KiB pages that differ, and
//!    copies what it can from elsewhere on the same disk.
//! 4. Everything is made durable, dropped from the cache, read back from the disk and hashed again.
//! 5. The partition table is written, sector 0 last, and read back.
//!
//! A disk image without a partition table has no such guard; its first chunk is written like any other.

mod error;
mod scan;
mod write;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::device::BlockDevice;
use crate::disk::layout::TableSectors;
use crate::disk::{self};
use crate::manifest::{Manifest, RootHash, Table, Volume};
use crate::masked::Masked;
use crate::tally::{Busy, Tally};
use crate::transport::{ChunkSource, Phase, TransportError, Watch};

pub use error::ApplyError;

/// What to do with the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Write everything, whatever is there.
    Deploy,
    /// Read what is there, fetch and write only what differs. Also the way from one version to another.
    Repair,
    /// Only say what differs.
    Verify,
}

/// What a run will do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplyPlan {
    pub mode: Mode,
    pub disk_bytes: u64,
    /// Bytes the image keeps: what is compared, and at most written.
    pub content_bytes: u64,
    /// What the disk holds now and loses, in words.
    pub replaces: String,
    pub warnings: Vec<String>,
    table: TableSectors,
}

/// What a run did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The image's identity. The disk holds it only if [`proven`](Self::proven).
    pub root: RootHash,
    /// Every chunk was read from the disk after its last write and has the right hash, and the table
    /// is there.
    pub proven: bool,
    pub fetched_chunks: u64,
    /// Of them, those of which only the blocks that differ were fetched.
    pub patched_chunks: u64,
    /// As stored, that is compressed. Includes what a repair told the source about the disk.
    pub fetched_bytes: u64,
    pub written_bytes: u64,
    /// Bytes made zero; many disks do that without a transfer.
    pub zeroed_bytes: u64,
    /// Bytes that were read and hashed, before and after writing.
    pub checked_bytes: u64,
    /// What differed before (`Repair`, `Verify`).
    pub different: Vec<Difference>,
    pub table_differed: bool,
}

/// A chunk whose content on the disk was not the image's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Index into the manifest's volumes.
    pub volume: usize,
    /// Index into the volume's chunks.
    pub chunk: u64,
}

/// For [`Mode::Verify`], which fetches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSource;

impl ChunkSource for NoSource {
    fn fetch(
        &self,
        ids: &[crate::chunk::ChunkId],
        _: &mut dyn FnMut(crate::chunk::StoredChunk) -> bool,
    ) -> Result<(), TransportError> {
        match ids {
            [] => Ok(()),
            _ => Err(TransportError::Refused("no source was given".to_owned())),
        }
    }
}

/// Decides whether `manifest` can be applied to `device`. Reads only.
pub fn plan(
    device: &dyn BlockDevice,
    manifest: &Manifest,
    mode: Mode,
) -> Result<ApplyPlan, ApplyError> {
    manifest.validate().map_err(ApplyError::Manifest)?;
    let table = TableSectors::place(manifest, device.size(), device.logical_sector())
        .map_err(ApplyError::Unfit)?;
    let mut warnings = vec![];
    if device.logical_sector() != manifest.disk.logical_sector {
        warnings.push(
            "the source had another sector size; some file systems will not mount".to_owned(),
        );
    }
    if device.size() > manifest.disk.size_bytes {
        let more = device.size() - manifest.disk.size_bytes;
        warnings.push(format!(
            "the disk is {more} bytes larger than the image; they stay unpartitioned"
        ));
    }
    Ok(ApplyPlan {
        mode,
        disk_bytes: device.size(),
        content_bytes: manifest.used_bytes(),
        replaces: describe(device),
        warnings,
        table,
    })
}

/// The disk's present content in words.
fn describe(device: &dyn BlockDevice) -> String {
    let Ok(layout) = disk::read(device) else {
        return "a damaged partition table".to_owned();
    };
    let partitions = layout
        .regions
        .iter()
        .filter(|r| matches!(r.role, disk::Role::Partition(_)))
        .count();
    match layout.table {
        Table::None => "no partition table".to_owned(),
        Table::Gpt { .. } => format!("a GPT with {partitions} partitions"),
        Table::Mbr { .. } => format!("an MBR with {partitions} partitions"),
    }
}

/// Does what `plan` says. Returns only when the result is proven, or with the reason why it is not.
pub fn apply(
    device: &dyn BlockDevice,
    manifest: &Manifest,
    plan: &ApplyPlan,
    source: &dyn ChunkSource,
    watch: &dyn Watch,
) -> Result<Applied, ApplyError> {
    manifest.validate().map_err(ApplyError::Manifest)?;
    if device.size() != plan.disk_bytes {
        return Err(ApplyError::Changed {
            planned: plan.disk_bytes,
            found: device.size(),
        });
    }
    let root = manifest.root().map_err(ApplyError::Name)?;
    let tally = Tally::new(watch);
    let run = Run::new(device, manifest, &tally);
    match plan.mode {
        Mode::Deploy => run.deploy(plan, source, root),
        Mode::Repair | Mode::Verify => run.compare(plan, source, root),
    }
}

/// One chunk of one volume that holds anything in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unit {
    volume: usize,
    chunk: u64,
}

/// What every part of a run needs.
struct Run<'a> {
    device: &'a dyn BlockDevice,
    manifest: &'a Manifest,
    tally: &'a Tally<'a>,
    volumes: Vec<Masked<'a>>,
    units: Vec<Unit>,
    failed: AtomicBool,
}

impl<'a> Run<'a> {
    fn new(device: &'a dyn BlockDevice, manifest: &'a Manifest, tally: &'a Tally<'a>) -> Self {
        let volumes: Vec<Masked<'_>> = manifest.volumes.iter().map(masked).collect();
        let units = volumes.iter().enumerate().flat_map(|(volume, masked)| {
            masked
                .used_chunks()
                .into_iter()
                .map(move |chunk| Unit { volume, chunk })
        });
        let units = units.collect();
        Self {
            device,
            manifest,
            tally,
            volumes,
            units,
            failed: AtomicBool::new(false),
        }
    }

    fn deploy(
        &self,
        plan: &ApplyPlan,
        source: &dyn ChunkSource,
        root: RootHash,
    ) -> Result<Applied, ApplyError> {
        let all = &self.units;
        let written = self.write_guarded(
            plan,
            source,
            &write::Work {
                units: all,
                intact: &[],
                patch: false,
            },
        )?;
        Ok(self.applied(root, written, vec![], true))
    }

    /// Reads first; `Repair` then writes what differs.
    fn compare(
        &self,
        plan: &ApplyPlan,
        source: &dyn ChunkSource,
        root: RootHash,
    ) -> Result<Applied, ApplyError> {
        self.tally.start(Phase::Reading, self.manifest.used_bytes());
        let scan::Scanned { different, intact } = self.scan(&self.units)?;
        let table_differs = !self.table_is_right(plan)?;
        let differences: Vec<Difference> = different
            .iter()
            .map(|unit| Difference {
                volume: unit.volume,
                chunk: unit.chunk,
            })
            .collect();
        if plan.mode == Mode::Verify || (different.is_empty() && !table_differs) {
            let mut applied =
                self.applied(root, write::Written::default(), differences, table_differs);
            applied.proven = applied.different.is_empty() && !table_differs;
            return Ok(applied);
        }
        // What the scan found intact is not touched again, so its hash stays proof; what is written is
        // read back.
        let work = write::Work {
            units: &different,
            intact: &intact,
            patch: true,
        };
        let written = self.write_guarded(plan, source, &work)?;
        Ok(self.applied(root, written, differences, table_differs))
    }

    /// Steps 2 to 5 of the module's order.
    fn write_guarded(
        &self,
        plan: &ApplyPlan,
        source: &dyn ChunkSource,
        work: &write::Work<'_>,
    ) -> Result<write::Written, ApplyError> {
        let disk = |f: &dyn Fn() -> io::Result<()>| self.tally.time(Busy::Disk, f);
        self.tally.start(Phase::Writing, self.len_of(work.units));
        if !work.units.is_empty() {
            disk(&|| plan.table.remove(self.device))
                .map_err(|source| ApplyError::Write { offset: 0, source })?;
        }
        let written = self.write_all(source, work)?;
        disk(&|| self.device.sync()).map_err(ApplyError::Sync)?;
        self.tally.start(Phase::Verifying, self.len_of(work.units));
        let wrong = self.scan(work.units)?.different;
        if let Some(first) = wrong.first() {
            let offset = self.volumes[first.volume].chunk_at(first.chunk);
            return Err(ApplyError::Unproven {
                chunks: wrong.len() as u64,
                offset,
            });
        }
        disk(&|| plan.table.write(self.device))
            .map_err(|source| ApplyError::Write { offset: 0, source })?;
        self.tally.written(plan.table.len_bytes());
        if !self.table_is_right(plan)? {
            return Err(ApplyError::TableUnproven);
        }
        self.tally.tell();
        Ok(written)
    }

    fn table_is_right(&self, plan: &ApplyPlan) -> Result<bool, ApplyError> {
        self.tally
            .time(Busy::Disk, || plan.table.is_on(self.device))
            .map_err(|source| ApplyError::Read { offset: 0, source })
    }

    fn len_of(&self, units: &[Unit]) -> u64 {
        let mut ranges = vec![];
        let mut len = 0;
        for unit in units {
            self.volumes[unit.volume].used_ranges(unit.chunk, &mut ranges);
            len += crate::masked::len_of(&ranges);
        }
        len
    }

    fn applied(
        &self,
        root: RootHash,
        written: write::Written,
        different: Vec<Difference>,
        table_differed: bool,
    ) -> Applied {
        let progress = self.tally.progress();
        Applied {
            root,
            proven: true,
            fetched_chunks: written.fetched_chunks,
            patched_chunks: written.patched_chunks,
            fetched_bytes: progress.moved_bytes,
            written_bytes: progress.written_bytes,
            zeroed_bytes: written.zeroed_bytes,
            checked_bytes: self.tally.read_bytes(),
            different,
            table_differed,
        }
    }

    /// The watcher's wish to stop, or another thread's failure, which has its own report.
    fn check(&self) -> Result<bool, ApplyError> {
        match self.tally.stop() {
            Some(reason) => Err(ApplyError::Stopped(reason)),
            None => Ok(!self.failed.load(Ordering::Relaxed)),
        }
    }

    /// Notes a failure, so that the other threads end too.
    fn noting<T>(&self, result: Result<T, ApplyError>) -> Result<T, ApplyError> {
        if result.is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
        result
    }
}

fn masked(volume: &Volume) -> Masked<'_> {
    Masked {
        start_bytes: volume.start_bytes,
        len_bytes: volume.len_bytes,
        block_bytes: volume.block_bytes,
        used: &volume.used,
    }
}

fn threads() -> usize {
    thread::available_parallelism().map_or(2, std::num::NonZero::get)
}

#[cfg(test)]
mod tests;
