//! Why a disk was not written, and what to do.

use std::io;

use crate::disk::DiskError;
use crate::manifest::{InvalidManifest, ManifestError};
use crate::retry::GivenUp;
use crate::transport::TransportError;

/// Why a disk cannot be written, or was not.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("the image's manifest is not usable; verify the image in the store")]
    Manifest(#[source] InvalidManifest),
    #[error("the image's manifest cannot be named; verify the image in the store")]
    Name(#[source] ManifestError),
    #[error("the image does not fit this disk")]
    Unfit(#[source] DiskError),
    #[error(
        "the disk is not the one that was planned for (it has {found} bytes, not {planned}); plan again"
    )]
    Changed { planned: u64, found: u64 },
    #[error("cannot read the disk at byte {offset}; check its health (smartctl -a) and try again")]
    Read { offset: u64, source: io::Error },
    #[error("cannot write the disk at byte {offset}; check its health (smartctl -a) and try again")]
    Write { offset: u64, source: io::Error },
    #[error("the disk does not confirm its writes; check its health (smartctl -a) and try again")]
    Sync(#[source] io::Error),
    #[error("cannot fetch the image")]
    Fetch(#[source] TransportError),
    #[error("the run was stopped: {0}; start a repair to go on from there")]
    Stopped(String),
    #[error(
        "the disk does not hold what was written: {chunks} chunks read back wrong, the first at byte {offset}; \
         do not use this disk, replace it"
    )]
    Unproven { chunks: u64, offset: u64 },
    #[error("the partition table reads back wrong; do not use this disk, replace it")]
    TableUnproven,
}

impl ApplyError {
    /// Whether the same run may work later.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        match self {
            Self::Read { .. } | Self::Write { .. } | Self::Sync(_) | Self::Stopped(_) => true,
            Self::Fetch(source) => source.may_retry(),
            Self::Unfit(source) => source.may_retry(),
            _ => false,
        }
    }
}

impl From<GivenUp> for ApplyError {
    fn from(given_up: GivenUp) -> Self {
        match given_up {
            GivenUp::Transport(error) => Self::Fetch(error),
            GivenUp::Stopped(reason) => Self::Stopped(reason),
        }
    }
}
