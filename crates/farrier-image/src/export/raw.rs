//! A version as a plain disk file, with holes where nothing is kept.

use std::path::Path;

use super::ExportError;
use crate::apply::{self, Applied, Mode};
use crate::device::FileDevice;
use crate::manifest::{ImageName, Manifest};
use crate::store::{LocalSource, Store, Which};
use crate::transport::SharedWatch;

/// Writes a version as the new file `to`, of the size of the image's disk. It is deployed like to any
/// disk, so every chunk is proven before it is written and read back after. A file that is not whole
/// is removed.
pub async fn export_raw(
    store: &Store,
    image: &ImageName,
    which: Which,
    to: &Path,
    watch: SharedWatch,
) -> Result<Applied, ExportError> {
    if to.exists() {
        return Err(ExportError::Exists {
            path: to.to_owned(),
        });
    }
    let manifest = store.manifest(image, which).await?.manifest;
    let source = LocalSource::new(store.clone(), tokio::runtime::Handle::current());
    let path = to.to_owned();
    let work = tokio::task::spawn_blocking(move || {
        let result = deploy(&manifest, &source, &path, &watch);
        if matches!(&result, Err(ExportError::Apply(_))) {
            let _ = std::fs::remove_file(&path);
        }
        result
    });
    match work.await {
        Ok(result) => result,
        Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
        Err(_) => Err(crate::store::StoreError::Stopped.into()),
    }
}

fn deploy(
    manifest: &Manifest,
    source: &LocalSource,
    path: &Path,
    watch: &SharedWatch,
) -> Result<Applied, ExportError> {
    let write = |source| ExportError::Write {
        path: path.to_owned(),
        source,
    };
    let file = FileDevice::create(path, manifest.disk.size_bytes).map_err(write)?;
    let file = file.with_sector(manifest.disk.logical_sector);
    let plan = apply::plan(&file, manifest, Mode::Deploy)?;
    Ok(apply::apply(&file, manifest, &plan, source, &**watch)?)
}
