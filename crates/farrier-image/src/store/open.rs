//! Opening: packs' footers and manifests become the catalog, and what a crash left is put right.

use std::collections::HashSet;
use std::fs::File;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectMeta;
use object_store::path::Path;

use super::catalog::Catalog;
use super::medium::{Medium, pack_path};
use super::writer::{Writer, lock};
use super::{
    Access, Inner, Store, StoreError, StoreKeys, StoreOptions, VersionSummary, blocking,
    manifest_path,
};
use crate::manifest::ImageName;
use crate::pack::{self, PackEntry, PackId, TRAILER};

const MARK: &[u8] = b"farrier image store 1\n";
/// Footers and manifests read at once; a bucket answers each after some tens of milliseconds.
const AT_ONCE: usize = 16;

impl Store {
    pub(super) async fn assemble(
        medium: Medium,
        held: Option<File>,
        keys: StoreKeys,
        options: StoreOptions,
    ) -> Result<Self, StoreError> {
        let medium = Arc::new(medium);
        check_mark(&medium, options.access).await?;
        let catalog = Arc::new(Mutex::new(Catalog::new()));
        let writer = Writer::new(Arc::clone(&medium), Arc::clone(&catalog));
        let inner = Inner {
            medium,
            catalog,
            writer: Mutex::new(writer),
            queue: Mutex::default(),
            publishing: tokio::sync::Mutex::default(),
            keys,
            options,
            _lock: held,
        };
        let store = Self {
            inner: Arc::new(inner),
        };
        store.load_packs().await?;
        store.load_images().await?;
        Ok(store)
    }

    async fn load_packs(&self) -> Result<(), StoreError> {
        let mut listed = self.inner.medium.list("packs").await?;
        // A newer pack holds the better copy of a chunk: it was sent again because the older one is
        // damaged, or prune moved it.
        listed.sort_by(|a, b| (a.last_modified, &a.location).cmp(&(b.last_modified, &b.location)));
        let mut sealed = HashSet::new();
        let mut footers =
            stream::iter(
                listed
                    .iter()
                    .filter_map(|meta| Some((pack_of(&meta.location)?, meta))),
            )
            .map(|(id, meta)| async move {
                self.read_index(id, meta).await.map(|entries| (id, entries))
            })
            .buffered(AT_ONCE);
        while let Some((id, entries)) = footers.try_next().await? {
            self.catalog().insert(id, &entries, true);
            sealed.insert(id);
        }
        self.recover_spools(sealed).await
    }

    pub(super) async fn pack_entries(&self, path: &Path) -> Result<Vec<PackEntry>, StoreError> {
        let size = self.inner.medium.size(path).await?;
        self.read_footer(path, size).await
    }

    /// A pack whose footer is damaged is read whole; its records say what is in it.
    async fn read_index(
        &self,
        id: PackId,
        meta: &ObjectMeta,
    ) -> Result<Vec<PackEntry>, StoreError> {
        match self.read_footer(&meta.location, meta.size).await {
            Err(StoreError::Pack { .. }) => {}
            other => return other,
        }
        tracing::warn!(pack = %id, "the pack's index is damaged; its records are read instead");
        let bytes = self.inner.medium.get(&meta.location).await?;
        blocking(move || {
            Ok(pack::replay(&bytes)
                .map(|(entries, _)| entries)
                .unwrap_or_default())
        })
        .await
    }

    async fn read_footer(&self, path: &Path, size: u64) -> Result<Vec<PackEntry>, StoreError> {
        let damaged = |source| StoreError::Pack {
            pack: pack_of(path).unwrap_or(PackId([0; 16])),
            source,
        };
        let trailer_at = size
            .checked_sub(TRAILER as u64)
            .ok_or_else(|| damaged(pack::PackError::Size))?;
        // Most footers are shorter than this, so one read is enough.
        let guess = size.saturating_sub(64 * 1024);
        let mut tail = self.inner.medium.get_range(path, guess..size).await?;
        let trailer =
            usize::try_from(trailer_at - guess).map_err(|_| damaged(pack::PackError::Size))?;
        let len = pack::footer_len(&tail[trailer..]).map_err(damaged)? as u64;
        let start = size
            .checked_sub(len)
            .ok_or_else(|| damaged(pack::PackError::Size))?;
        if start < guess {
            tail = self.inner.medium.get_range(path, start..size).await?;
        }
        let footer: Bytes = tail.slice(tail.len() - usize::try_from(len).unwrap_or(tail.len())..);
        pack::read_footer(&footer, size).map_err(damaged)
    }

    async fn recover_spools(&self, sealed: HashSet<PackId>) -> Result<(), StoreError> {
        if self.inner.options.access == Access::Read {
            return Ok(());
        }
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let mut writer = lock(&inner.writer);
            for id in inner
                .medium
                .spools()
                .map_err(StoreError::io("listing its journal"))?
            {
                if sealed.contains(&id) {
                    inner
                        .medium
                        .remove_spool(id)
                        .map_err(StoreError::io("removing an old journal"))?;
                } else {
                    writer.recover(id)?;
                }
            }
            // Room or a writable disk may be lacking; reading goes on, and sealing is tried again later.
            if let Err(e) = writer.seal_all() {
                tracing::warn!(error = %e, "the journal could not be sealed yet");
            }
            Ok(())
        })
        .await
    }

    async fn load_images(&self) -> Result<(), StoreError> {
        let listed = self.inner.medium.list("images").await?;
        let mut deleted = HashSet::new();
        for (image, version, _) in listed
            .iter()
            .filter_map(|m| version_of(&m.location))
            .filter(|v| v.2 == "deleted")
        {
            let mut catalog = self.catalog();
            let versions = catalog.images.entry(image.clone()).or_default();
            versions.highest = versions.highest.max(version);
            deleted.insert((image, version));
        }
        let manifests = listed
            .iter()
            .filter_map(|m| version_of(&m.location))
            .filter(|v| v.2 == "manifest");
        let mut opened = stream::iter(manifests)
            .map(|(image, version, _)| self.load_version(image, version, &deleted))
            .buffered(AT_ONCE);
        while opened.try_next().await?.is_some() {}
        Ok(())
    }

    async fn load_version(
        &self,
        image: ImageName,
        version: u32,
        deleted: &HashSet<(ImageName, u32)>,
    ) -> Result<(), StoreError> {
        let path = manifest_path(&image, version);
        if deleted.contains(&(image.clone(), version)) {
            if self.inner.options.access == Access::Write {
                self.inner.medium.delete(&path).await?;
            }
            return Ok(());
        }
        let opened = self.read_manifest(&path).await;
        let mut catalog = self.catalog();
        let versions = catalog.images.entry(image.clone()).or_default();
        versions.highest = versions.highest.max(version);
        match opened {
            // A file under another version's name would be a way to roll an image back.
            Ok(o) if o.manifest.image == image && o.manifest.version == version => {
                versions.live.insert(version, VersionSummary::of(&o));
                catalog.reference_present(&o.manifest);
            }
            Ok(_) => catalog.unreadable.push(path.to_string()),
            Err(StoreError::Manifest { object, source }) => {
                tracing::warn!(object, error = %source, "a manifest cannot be used");
                catalog.unreadable.push(object);
            }
            Err(e) => return Err(e),
        }
        Ok(())
    }
}

async fn check_mark(medium: &Medium, access: Access) -> Result<(), StoreError> {
    let path = Path::from("store.txt");
    match medium.get(&path).await {
        Ok(bytes) if bytes == MARK => Ok(()),
        Ok(_) => Err(StoreError::NotStore),
        Err(StoreError::NoObject { .. }) if access == Access::Read => Err(StoreError::NotStore),
        Err(StoreError::NoObject { .. }) => medium
            .put_new(&path, Bytes::from_static(MARK))
            .await
            .map(|_| ()),
        Err(e) => Err(e),
    }
}

fn pack_of(path: &Path) -> Option<PackId> {
    let id = path.filename()?.strip_suffix(".pack")?.parse().ok()?;
    (pack_path(id) == *path).then_some(id)
}

fn version_of(path: &Path) -> Option<(ImageName, u32, String)> {
    let mut parts = path.parts().skip(1);
    let image = parts.next()?.as_ref().parse().ok()?;
    let file = parts.next()?;
    let (version, kind) = file.as_ref().split_once('.')?;
    let version = version.parse().ok()?;
    parts
        .next()
        .is_none()
        .then(|| (image, version, kind.to_owned()))
}
