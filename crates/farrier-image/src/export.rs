//! Taking images out of a store: as a plain disk, or as a bundle that another store takes in.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::chunk::StoredChunk;
use crate::key::{KeyError, VerifyingKey};
use crate::manifest::ImageName;
use crate::store::{Access, Committed, Store, StoreError, StoreKeys, StoreOptions, Which};

mod raw;
#[cfg(test)]
mod tests;

pub use raw::export_raw;

/// Chunks that are copied between stores at once: about 4 MiB.
const BATCH: usize = 64;
const KEY_FILE: &str = "key.txt";

/// A failed export or import.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("the store could not be used")]
    Store(#[from] StoreError),
    #[error("{path} could not be written; check that its folder exists and has room")]
    Write { path: PathBuf, source: io::Error },
    #[error("{path} could not be read; check that it is a bundle made by `farrier image export`")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} exists already; choose another name or remove it")]
    Exists { path: PathBuf },
    #[error("{path} does not hold a public key; the bundle is damaged")]
    Key { path: PathBuf, source: KeyError },
    #[error("the image could not be written as a plain disk")]
    Apply(#[from] crate::apply::ApplyError),
    #[error("the bundle holds {0} images; one was expected")]
    NotOne(usize),
}

/// Writes one version, with everything it needs and the public key, into the new folder `to`. The key in
/// a bundle is for people to compare; importing it does not make it trusted.
pub async fn export_bundle(
    store: &Store,
    image: &ImageName,
    which: Which,
    to: &Path,
) -> Result<(), ExportError> {
    if to.exists() {
        return Err(ExportError::Exists {
            path: to.to_owned(),
        });
    }
    let opened = store.manifest(image, which).await?;
    let keys = StoreKeys {
        signing: None,
        trusted: store.trusted(),
    };
    let bundle = Store::open_local(to, keys, StoreOptions::default()).await?;
    copy_chunks(store, &bundle, &opened.manifest).await?;
    bundle.adopt(opened.signed).await?;
    let path = to.join(KEY_FILE);
    let text: String = store
        .trusted()
        .iter()
        .take(1)
        .map(|key| format!("{key}\n"))
        .collect();
    write_file(&path, text.as_bytes()).map_err(|source| ExportError::Write { path, source })
}

/// The key that a bundle says it is signed with, for people to compare with what they were told.
pub fn bundle_key(bundle: &Path) -> Result<VerifyingKey, ExportError> {
    let path = bundle.join(KEY_FILE);
    let text = fs::read_to_string(&path).map_err(|source| ExportError::Read {
        path: path.clone(),
        source,
    })?;
    text.parse()
        .map_err(|source| ExportError::Key { path, source })
}

/// Takes the image of a bundle into `store` as its next version, signed by the store. The bundle must be
/// signed by one of `trusted` or by a key the store trusts; every chunk is verified.
pub async fn import_bundle(
    store: &Store,
    bundle: &Path,
    trusted: &[VerifyingKey],
    now_ms: i64,
) -> Result<Committed, ExportError> {
    let trusted = store
        .trusted()
        .into_iter()
        .chain(trusted.iter().copied())
        .collect();
    let options = StoreOptions {
        access: Access::Read,
        ..StoreOptions::default()
    };
    let from = Store::open_local(
        bundle,
        StoreKeys {
            signing: None,
            trusted,
        },
        options,
    )
    .await?;
    if let Some(object) = from.unreadable().into_iter().next() {
        // Opening it again tells why.
        from.open_object(&object).await?;
    }
    let images = from.images();
    let [only] = &images[..] else {
        return Err(ExportError::NotOne(images.len()));
    };
    let opened = from.manifest(&only.name, Which::Latest).await?;
    let _writer = store.register_writer();
    copy_chunks(&from, store, &opened.manifest).await?;
    Ok(store.commit(opened.manifest, now_ms).await?)
}

async fn copy_chunks(
    from: &Store,
    to: &Store,
    manifest: &crate::manifest::Manifest,
) -> Result<(), ExportError> {
    let ids: Vec<_> = manifest.chunk_ids().collect();
    for batch in ids.chunks(BATCH) {
        let mut chunks: Vec<StoredChunk> = Vec::with_capacity(BATCH);
        for (id, missing) in batch.iter().zip(to.missing(batch)) {
            if missing && chunks.iter().all(|c| c.id != *id) {
                chunks.push(from.chunk(*id).await?);
            }
        }
        to.put(chunks).await?;
    }
    Ok(())
}

fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::write(path, bytes)?;
    File::open(path)?.sync_all()
}
