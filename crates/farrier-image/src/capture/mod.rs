//! From a disk to a store: [`plan`] shows what would be taken, [`capture`] takes it.
//!
//! Each thread takes the next 16 MiB of used content, hashes it, asks the store which chunks it lacks,
//! and packs and sends only those. Memory is bounded by threads times one such batch. A capture that
//! was broken off is simply begun again: the store says what it has already.

mod pipeline;

use std::io;

use crate::device::BlockDevice;
use crate::disk::{self, DiskError, Region, Role};
use crate::fs::{self, FsError, FsMap, Unclean, Window};
use crate::manifest::{
    DiskShape, FORMAT, ImageName, Manifest, Run, SignedManifest, Table, Volume, VolumeKind,
};
use crate::masked::Masked;
use crate::retry::{GivenUp, persist};
use crate::tally::Tally;
use crate::transport::{ChunkSink, Phase, TransportError, Watch};

/// What to capture as.
#[derive(Clone, Debug)]
pub struct CaptureOptions {
    pub image: ImageName,
    /// Where it comes from, for people.
    pub source: String,
    pub unclean: Unclean,
    /// Worker threads, each with some 25 MiB; 0 stands for one more than there are cores, which hides
    /// the waiting, and 6 at most.
    pub threads: usize,
}

impl CaptureOptions {
    #[must_use]
    pub fn new(image: ImageName) -> Self {
        Self {
            image,
            source: String::new(),
            unclean: Unclean::Refuse,
            threads: 0,
        }
    }
}

/// What a capture will take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapturePlan {
    pub image: ImageName,
    pub source: String,
    pub disk: DiskShape,
    pub table: Table,
    pub volumes: Vec<PlannedVolume>,
    /// What a person should know before starting.
    pub warnings: Vec<String>,
    threads: usize,
}

/// One region of the disk and what of it will be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedVolume {
    pub kind: VolumeKind,
    pub partition: Option<u32>,
    pub start_bytes: u64,
    pub len_bytes: u64,
    pub label: String,
    pub fs_uuid: String,
    pub block_bytes: u32,
    pub used: Vec<Run>,
}

/// A published image and what it took.
#[derive(Clone, Debug)]
pub struct Captured {
    pub signed: SignedManifest,
    /// Bytes read from the disk.
    pub read_bytes: u64,
    /// Chunks that the store lacked, and their stored size.
    pub new_chunks: u64,
    pub stored_bytes: u64,
}

/// Why a capture cannot be planned or finished.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    #[error("the disk's layout cannot be captured")]
    Disk(#[source] DiskError),
    #[error("{role} cannot be captured")]
    Volume { role: Role, source: FsError },
    #[error(
        "cannot read the disk at byte {offset}; check its health (smartctl -a), then capture again"
    )]
    Read { offset: u64, source: io::Error },
    #[error("the store did not take the image")]
    Store(#[source] TransportError),
    #[error(
        "the capture was stopped: {0}; what was sent is kept, and a new capture goes on from there"
    )]
    Stopped(String),
}

impl CaptureError {
    /// Whether the same capture may work later.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        match self {
            Self::Disk(source) => source.may_retry(),
            Self::Volume { source, .. } => source.may_retry(),
            Self::Read { .. } => true,
            Self::Store(source) => source.may_retry(),
            Self::Stopped(_) => true,
        }
    }
}

impl From<GivenUp> for CaptureError {
    fn from(given_up: GivenUp) -> Self {
        match given_up {
            GivenUp::Transport(error) => Self::Store(error),
            GivenUp::Stopped(reason) => Self::Stopped(reason),
        }
    }
}

impl CapturePlan {
    /// Bytes that will be read and kept.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.volumes.iter().map(PlannedVolume::used_bytes).sum()
    }
}

impl PlannedVolume {
    /// Bytes of it that will be kept.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        let blocks: u64 = self.used.iter().map(|run| run.count).sum();
        blocks
            .saturating_mul(u64::from(self.block_bytes))
            .min(self.len_bytes)
    }

    fn masked(&self) -> Masked<'_> {
        Masked {
            start_bytes: self.start_bytes,
            len_bytes: self.len_bytes,
            block_bytes: self.block_bytes,
            used: &self.used,
        }
    }
}

/// Reads layout and allocation maps; nothing is sent.
pub fn plan(
    device: &dyn BlockDevice,
    options: &CaptureOptions,
) -> Result<CapturePlan, CaptureError> {
    let layout = disk::read(device).map_err(CaptureError::Disk)?;
    let sector = u64::from(device.logical_sector());
    let mut warnings = layout.warnings;
    let size_bytes = device.size() / sector * sector;
    if size_bytes != device.size() {
        let lost = device.size() - size_bytes;
        warnings.push(format!(
            "the last {lost} bytes are less than a sector and are not kept"
        ));
    }
    let mut volumes = vec![];
    for region in layout.regions {
        let region = Region {
            len_bytes: region.len_bytes.min(size_bytes - region.start_bytes),
            ..region
        };
        let window = Window::new(device, region.start_bytes, region.len_bytes);
        let map = match region.role {
            Role::Gap => FsMap {
                kind: VolumeKind::Gap,
                ..fs::raw(window, None)
            },
            role => fs::map(window, options.unclean)
                .map_err(|source| CaptureError::Volume { role, source })?,
        };
        if let Some(note) = &map.note {
            warnings.push(format!("{}: {note}", region.role));
        }
        volumes.push(planned(region, map));
    }
    Ok(CapturePlan {
        image: options.image.clone(),
        source: options.source.clone(),
        disk: DiskShape {
            size_bytes,
            logical_sector: device.logical_sector(),
        },
        table: layout.table,
        volumes,
        warnings,
        threads: options.threads,
    })
}

fn planned(region: Region, map: FsMap) -> PlannedVolume {
    PlannedVolume {
        kind: map.kind,
        partition: match region.role {
            Role::Partition(number) => Some(number),
            Role::Gap | Role::WholeDisk => None,
        },
        start_bytes: region.start_bytes,
        len_bytes: region.len_bytes,
        label: map.label,
        fs_uuid: map.fs_uuid,
        block_bytes: map.block_bytes,
        used: map.used,
    }
}

/// Takes the disk as planned. The image becomes visible with the last call to `sink`, or not at all.
pub fn capture(
    device: &dyn BlockDevice,
    plan: &CapturePlan,
    sink: &dyn ChunkSink,
    watch: &dyn Watch,
) -> Result<Captured, CaptureError> {
    let tally = Tally::new(watch);
    tally.start(Phase::Reading, plan.used_bytes());
    let taken = pipeline::run(device, plan, sink, &tally)?;
    tally.start(Phase::Committing, 0);
    let manifest = manifest(plan, taken.chunks);
    let signed = persist(&tally, &|| false, || sink.commit(manifest.clone()))?;
    Ok(Captured {
        signed,
        read_bytes: tally.read_bytes(),
        new_chunks: taken.new_chunks,
        stored_bytes: tally.progress().moved_bytes,
    })
}

fn manifest(plan: &CapturePlan, chunks: Vec<pipeline::ChunkList>) -> Manifest {
    let volumes = plan
        .volumes
        .iter()
        .zip(chunks)
        .map(|(volume, chunks)| Volume {
            kind: volume.kind,
            partition: volume.partition,
            start_bytes: volume.start_bytes,
            len_bytes: volume.len_bytes,
            label: volume.label.clone(),
            fs_uuid: volume.fs_uuid.clone(),
            block_bytes: volume.block_bytes,
            used: volume.used.clone(),
            chunks,
        });
    Manifest {
        format: FORMAT,
        image: plan.image.clone(),
        version: 0,
        created_ms: 0,
        source: plan.source.clone(),
        disk: plan.disk,
        table: plan.table.clone(),
        volumes: volumes.collect(),
    }
}
