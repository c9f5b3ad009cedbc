//! Where images live: packs of chunks and signed manifests in an object store, with a journal on the
//! local disk. `docs/formats/image.md` says what is durable when.
//!
//! Reading order: [`Store`] here opens; `read.rs` reads; `put.rs` takes chunks and `commit.rs` publishes and deletes
//! versions; `writer.rs` is the journal; `catalog.rs` the index; `verify.rs` looks for damage; `prune.rs` frees space;
//! `medium.rs` does every write; `local.rs` serves captures and deployments in this process.

mod catalog;
mod commit;
mod error;
mod local;
mod medium;
mod open;
mod prune;
mod put;
mod read;
mod stats;
mod verify;
mod writer;

use std::fmt;
use std::fs::{self, File};
use std::path::Path as FilePath;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use catalog::Catalog;
use medium::Medium;
use object_store::ObjectStore;
use object_store::path::Path;
use writer::{Writer, lock};

use crate::chunk::ChunkId;
use crate::key::{SigningKey, VerifyingKey};
use crate::manifest::{ImageName, Manifest, RootHash, SignedManifest};
use crate::pack::Location;

pub use commit::{Committed, DeletePlan};
pub use error::StoreError;
pub use local::{LocalSink, LocalSource};
pub use prune::{PrunePlan, PruneReport, RewritePlan};
pub use put::PutReport;
pub use stats::{StoreStats, VersionStats};
pub use verify::{Damage, Scope, VerifyProgress, VerifyReport};

/// A store of images. Clones share one store.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    medium: Arc<Medium>,
    catalog: Arc<Mutex<Catalog>>,
    writer: Mutex<Writer>,
    queue: Mutex<Vec<put::Job>>,
    /// Held while a version is numbered and published.
    publishing: tokio::sync::Mutex<()>,
    keys: StoreKeys,
    options: StoreOptions,
    /// Locked while the store is open for writing.
    _lock: Option<File>,
}

/// Who signs, and whose signatures count.
#[derive(Debug, Default)]
pub struct StoreKeys {
    /// None for a store that is only read.
    pub signing: Option<SigningKey>,
    /// Besides the signing key's own public half.
    pub trusted: Vec<VerifyingKey>,
}

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    pub access: Access,
    /// How long a chunk that no version needs is kept after somebody last relied on it. Longer than the
    /// longest pause of a capture.
    pub grace: Duration,
    /// Prune rewrites packs of which fewer than this many percent are needed.
    pub rewrite_below_percent: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}

impl Default for StoreOptions {
    fn default() -> Self {
        // A day outlasts captures that wait over night for somebody to free space. At 55 % a rewrite
        // frees nearly as much as it copies.
        Self {
            access: Access::Write,
            grace: Duration::from_secs(86_400),
            rewrite_below_percent: 55,
        }
    }
}

/// Which version of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Which {
    #[default]
    Latest,
    Version(u32),
}

/// An image, for lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSummary {
    pub name: ImageName,
    pub versions: usize,
    pub latest: VersionSummary,
}

/// A version, for lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionSummary {
    pub version: u32,
    pub root: RootHash,
    pub created_ms: i64,
    pub source: String,
    pub disk_bytes: u64,
    pub used_bytes: u64,
    pub volumes: usize,
    pub chunks: u64,
}

/// A version's manifest, proven.
#[derive(Clone, Debug)]
pub struct OpenedManifest {
    pub manifest: Manifest,
    pub root: RootHash,
    pub signed: SignedManifest,
}

/// While one is held, prune keeps every chunk that was mentioned since. A capture holds one from its
/// first question to its commit.
#[derive(Debug)]
pub struct WriterGuard {
    catalog: Arc<Mutex<Catalog>>,
    writer: u64,
}

impl Store {
    /// Opens a store in a folder, creating it if it is empty and access is for writing.
    pub async fn open_local(
        root: &FilePath,
        keys: StoreKeys,
        options: StoreOptions,
    ) -> Result<Self, StoreError> {
        let doing = "opening its folder";
        let held = match options.access {
            Access::Read => None,
            Access::Write => Some(lock_folder(root)?),
        };
        let root = fs::canonicalize(root).map_err(StoreError::io(doing))?;
        Self::assemble(Medium::local(&root)?, held, keys, options).await
    }

    /// Opens a store in any object store, with its journal in the local folder `spool`.
    pub async fn open(
        objects: Arc<dyn ObjectStore>,
        spool: &FilePath,
        keys: StoreKeys,
        options: StoreOptions,
    ) -> Result<Self, StoreError> {
        let held = match options.access {
            Access::Read => None,
            Access::Write => Some(lock_folder(spool)?),
        };
        Self::assemble(Medium::remote(objects, spool), held, keys, options).await
    }

    /// For each id, whether the store lacks it. Present chunks are kept for the grace time from now on.
    #[must_use]
    pub fn missing(&self, ids: &[ChunkId]) -> Vec<bool> {
        self.catalog().missing(ids)
    }

    #[must_use]
    pub fn locate(&self, ids: &[ChunkId]) -> Vec<Option<Location>> {
        let catalog = self.catalog();
        ids.iter().map(|id| catalog.locate(id)).collect()
    }

    #[must_use]
    pub fn images(&self) -> Vec<ImageSummary> {
        self.catalog().summaries()
    }

    #[must_use]
    pub fn versions(&self, image: &ImageName) -> Vec<VersionSummary> {
        self.catalog()
            .images
            .get(image)
            .map(|v| v.live.values().cloned().collect())
            .unwrap_or_default()
    }

    pub fn version(&self, image: &ImageName, which: Which) -> Result<VersionSummary, StoreError> {
        self.catalog().version(image, which).cloned()
    }

    /// Manifests that could not be read when the store was opened.
    #[must_use]
    pub fn unreadable(&self) -> Vec<String> {
        self.catalog().unreadable.clone()
    }

    /// Says that a capture runs, until the guard is dropped.
    #[must_use]
    pub fn register_writer(&self) -> WriterGuard {
        let writer = self.catalog().begin_writer();
        WriterGuard {
            catalog: Arc::clone(&self.inner.catalog),
            writer,
        }
    }

    /// The keys whose signatures count here.
    #[must_use]
    pub fn trusted(&self) -> Vec<VerifyingKey> {
        let own = self
            .inner
            .keys
            .signing
            .iter()
            .map(SigningKey::verifying_key);
        own.chain(self.inner.keys.trusted.iter().copied()).collect()
    }

    fn catalog(&self) -> std::sync::MutexGuard<'_, Catalog> {
        lock(&self.inner.catalog)
    }

    fn must_write(&self) -> Result<(), StoreError> {
        match self.inner.options.access {
            Access::Read => Err(StoreError::OpenedForReading),
            Access::Write => Ok(()),
        }
    }

    /// Runs `work` with the journal, on a thread for blocking work.
    async fn with_writer<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writer) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.must_write()?;
        let inner = Arc::clone(&self.inner);
        blocking(move || work(&mut lock(&inner.writer))).await
    }
}

impl VersionSummary {
    fn of(opened: &OpenedManifest) -> Self {
        let m = &opened.manifest;
        Self {
            version: m.version,
            root: opened.root,
            created_ms: m.created_ms,
            source: m.source.clone(),
            disk_bytes: m.disk.size_bytes,
            used_bytes: m.used_bytes(),
            volumes: m.volumes.len(),
            chunks: m.chunk_ids().count() as u64,
        }
    }
}

impl Drop for WriterGuard {
    fn drop(&mut self) {
        lock(&self.catalog).end_writer(self.writer);
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("options", &self.inner.options)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Version(version) => write!(f, "{version}"),
        }
    }
}

fn manifest_path(image: &ImageName, version: u32) -> Path {
    Path::from(format!("images/{image}/{version:08}.manifest"))
}

fn deleted_path(image: &ImageName, version: u32) -> Path {
    Path::from(format!("images/{image}/{version:08}.deleted"))
}

/// One process may write. The lock goes with the process, however it ends.
fn lock_folder(folder: &FilePath) -> Result<File, StoreError> {
    let doing = "locking its folder";
    fs::create_dir_all(folder).map_err(StoreError::io(doing))?;
    let file = File::options()
        .create(true)
        .write(true)
        .truncate(false)
        .open(folder.join("lock"));
    let file = file.map_err(StoreError::io(doing))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(StoreError::InUse),
        Err(fs::TryLockError::Error(e)) => Err(StoreError::io(doing)(e)),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
        Err(_) => Err(StoreError::Stopped),
    }
}

#[cfg(test)]
mod tests;
