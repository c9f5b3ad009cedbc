//! Boot programs and the agent's files: the catalogue in memory, the bytes on disk, named by hash.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use farrier_engine::catalogue::Catalogue;

/// What can be served to firmware.
#[derive(Debug)]
pub struct Loaders {
    /// Files are `<folder>/<hash>`.
    folder: PathBuf,
    catalogue: ArcSwap<Catalogue>,
}

impl Loaders {
    #[must_use]
    pub fn new(folder: PathBuf, catalogue: Catalogue) -> Self {
        Self { folder, catalogue: ArcSwap::from_pointee(catalogue) }
    }

    #[must_use]
    pub fn catalogue(&self) -> Arc<Catalogue> {
        self.catalogue.load_full()
    }

    /// Lets everybody use a new catalogue.
    pub fn replace(&self, catalogue: Catalogue) {
        self.catalogue.store(Arc::new(catalogue));
    }

    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the bytes of a loader are. `hash` is one of the catalogue's, never a client's text.
    #[must_use]
    pub fn file(&self, hash: &str) -> PathBuf {
        self.folder.join(hash)
    }
}
