//! What can go wrong with a store, and what to do about it.

use std::error::Error;
use std::io;

use crate::chunk::{ChunkError, ChunkId};
use crate::key::KeyError;
use crate::manifest::{ImageName, ManifestError};
use crate::pack::{PackError, PackId};

/// A failed operation on the store. The text ends with what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "the image store is full while {doing}; free space on its disk or run `farrier image prune`"
    )]
    Full { doing: &'static str },
    #[error(
        "the image store is read-only while {doing}; check its disk and mount options, then restart the server"
    )]
    ReadOnly { doing: &'static str },
    #[error(
        "the image store is in use by another process; ask the server that has it open, or stop that server first"
    )]
    InUse,
    #[error(
        "the folder is not an image store of a version this program knows; check the path or upgrade Farrier"
    )]
    NotStore,
    #[error("a chunk was refused; send it again")]
    Refused(#[source] ChunkError),
    #[error(
        "{count} chunks that the image needs are not in the store (first: {first}); run the capture again, it sends only these"
    )]
    MissingChunks { count: usize, first: ChunkId },
    #[error("chunk {chunk} is damaged in the store and is needed by {}; capture one of them again from a good machine, or import a bundle that has it", listed(.images))]
    Corrupt { chunk: ChunkId, images: Vec<String> },
    #[error("the manifest {object} cannot be used")]
    Manifest {
        object: String,
        source: ManifestError,
    },
    #[error("nothing is pruned while manifests cannot be read ({}); restore them or delete these versions", listed(.objects))]
    Unreadable { objects: Vec<String> },
    #[error("the pack {pack} is damaged; run `farrier image verify` to see which images need it")]
    Pack { pack: PackId, source: PackError },
    #[error("there is no image {0}; `farrier image list` shows what there is")]
    NoImage(ImageName),
    #[error(
        "image {image} has no version {version}; `farrier image show {image}` lists its versions"
    )]
    NoVersion { image: ImageName, version: u32 },
    #[error(
        "image {image} already had a version {version} here; export a newer version and import that"
    )]
    VersionTaken { image: ImageName, version: u32 },
    #[error("chunk {0} is not in the store; capture the image again")]
    NoChunk(ChunkId),
    #[error("the object {object} is gone; look its place up again")]
    NoObject { object: String },
    #[error(
        "this store was opened without a signing key, so nothing can be committed; start it by `farrier serve`"
    )]
    NoSigningKey,
    #[error("this store was opened for reading only")]
    OpenedForReading,
    #[error("the image store's key cannot be used")]
    Key(#[from] KeyError),
    #[error("the image store failed while {doing}; look at the disk's health and the system log")]
    Io {
        doing: &'static str,
        source: io::Error,
    },
    #[error("the object store failed while {doing}; check that it can be reached")]
    Object {
        doing: &'static str,
        source: object_store::Error,
    },
    #[error("the store is shutting down; try again in a moment")]
    Stopped,
}

impl StoreError {
    /// Whether the same call may work later, without anybody changing what it asks for.
    #[must_use]
    pub fn may_retry(&self) -> bool {
        match self {
            Self::Full { .. }
            | Self::ReadOnly { .. }
            | Self::InUse
            | Self::Refused(_)
            | Self::NoObject { .. }
            | Self::Io { .. }
            | Self::Object { .. }
            | Self::Stopped => true,
            Self::NotStore
            | Self::MissingChunks { .. }
            | Self::Corrupt { .. }
            | Self::Manifest { .. }
            | Self::Unreadable { .. }
            | Self::Pack { .. }
            | Self::NoImage(_)
            | Self::NoVersion { .. }
            | Self::VersionTaken { .. }
            | Self::NoChunk(_)
            | Self::NoSigningKey
            | Self::OpenedForReading
            | Self::Key(_) => false,
        }
    }

    /// The same failure for one more caller of a shared write.
    pub(super) fn again(&self) -> Self {
        match self {
            Self::Full { doing } => Self::Full { doing },
            Self::ReadOnly { doing } => Self::ReadOnly { doing },
            Self::Io { doing, source } => Self::Io {
                doing,
                source: io::Error::new(source.kind(), source.to_string()),
            },
            other => Self::Io {
                doing: "writing chunks",
                source: io::Error::other(other.to_string()),
            },
        }
    }

    pub(super) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { doing },
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { doing },
            _ => Self::Io { doing, source },
        }
    }

    pub(super) fn object(doing: &'static str) -> impl FnOnce(object_store::Error) -> Self {
        move |source| {
            if let object_store::Error::NotFound { path, .. } = source {
                return Self::NoObject { object: path };
            }
            match io_kind(&source) {
                Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
                    Self::Full { doing }
                }
                Some(io::ErrorKind::ReadOnlyFilesystem) => Self::ReadOnly { doing },
                _ => Self::Object { doing, source },
            }
        }
    }
}

/// The local backend wraps what the kernel said several times.
fn io_kind(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io.kind());
        }
        next = error.source();
    }
    None
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        "no image".to_owned()
    } else {
        names.join(", ")
    }
}
