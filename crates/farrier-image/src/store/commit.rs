//! Publishing a version, which is one write, and deleting one, which is two.

use bytes::Bytes;

use super::{
    OpenedManifest, Store, StoreError, VersionSummary, Which, blocking, deleted_path, manifest_path,
};
use crate::manifest::{FORMAT, ImageName, Manifest, RootHash, SignedManifest};

/// A version that is now visible.
#[derive(Clone, Debug)]
pub struct Committed {
    pub version: u32,
    pub root: RootHash,
    pub signed: SignedManifest,
    /// The newest version had the same content, so no new one was made.
    pub unchanged: bool,
}

/// What deleting a version would do; nothing has happened yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletePlan {
    pub image: ImageName,
    pub version: VersionSummary,
    /// No other version of the image remains.
    pub last_of_image: bool,
    /// Stored bytes that nothing else needs, which prune may then free.
    pub freed_bytes: u64,
}

impl Store {
    /// Publishes an image as its next version, if every chunk is here. `now_ms` is the time in
    /// milliseconds since 1970 UTC. Content equal to the newest version's is that version: so a caller
    /// that lost the answer may simply ask again.
    pub async fn commit(&self, manifest: Manifest, now_ms: i64) -> Result<Committed, StoreError> {
        self.must_write()?;
        if self.inner.keys.signing.is_none() {
            return Err(StoreError::NoSigningKey);
        }
        let invalid = |source| StoreError::Manifest {
            object: "to be committed".to_owned(),
            source,
        };
        manifest.validate().map_err(|e| invalid(e.into()))?;
        let _turn = self.inner.publishing.lock().await;
        if let Some(same) = self.newest_if_same(&manifest).await? {
            return Ok(same);
        }
        self.with_writer(super::Writer::seal_all).await?;
        // From here on prune sees the chunks as needed. If publishing fails they stay so until the
        // store is opened again: the manifest may be there although the write reported an error.
        self.catalog().reference(&manifest)?;
        self.publish(manifest, now_ms).await
    }

    /// Adds a version that another store signed, under its own number. Its chunks must be here.
    pub async fn adopt(&self, signed: SignedManifest) -> Result<OpenedManifest, StoreError> {
        self.must_write()?;
        let trusted = self.trusted();
        let opened = blocking(move || match signed.open(&trusted) {
            Ok((manifest, root)) => Ok(OpenedManifest {
                manifest,
                root,
                signed,
            }),
            Err(source) => Err(StoreError::Manifest {
                object: "to be adopted".to_owned(),
                source,
            }),
        })
        .await?;
        let _turn = self.inner.publishing.lock().await;
        let (image, version) = (&opened.manifest.image, opened.manifest.version);
        if self
            .version(image, Which::Version(version))
            .is_ok_and(|there| there.root == opened.root)
        {
            return Ok(opened);
        }
        self.with_writer(super::Writer::seal_all).await?;
        self.catalog().reference(&opened.manifest)?;
        let used = self
            .catalog()
            .images
            .get(image)
            .is_some_and(|v| version <= v.highest);
        let taken = || StoreError::VersionTaken {
            image: image.clone(),
            version,
        };
        if used || !self.write_manifest(&opened).await? {
            return Err(taken());
        }
        Ok(opened)
    }

    pub async fn plan_delete(
        &self,
        image: &ImageName,
        which: Which,
    ) -> Result<DeletePlan, StoreError> {
        let version = self.version(image, which)?;
        let opened = self
            .manifest(image, Which::Version(version.version))
            .await?;
        let catalog = self.catalog();
        let last_of_image = catalog.images.get(image).is_some_and(|v| v.live.len() == 1);
        let freed_bytes = catalog.own_bytes(&opened.manifest);
        Ok(DeletePlan {
            image: image.clone(),
            version,
            last_of_image,
            freed_bytes,
        })
    }

    /// Deletes a version. Its number is never given again, and its chunks stay until they are pruned.
    pub async fn delete(&self, plan: &DeletePlan) -> Result<(), StoreError> {
        self.must_write()?;
        let _turn = self.inner.publishing.lock().await;
        let which = Which::Version(plan.version.version);
        let opened = self.manifest(&plan.image, which).await?;
        if opened.root != plan.version.root {
            return Err(StoreError::NoVersion {
                image: plan.image.clone(),
                version: plan.version.version,
            });
        }
        self.inner
            .medium
            .put_new(
                &deleted_path(&plan.image, plan.version.version),
                Bytes::new(),
            )
            .await?;
        self.forget_version(&opened);
        // The mark decides; a manifest that stays behind is removed when the store is opened again.
        let path = manifest_path(&plan.image, plan.version.version);
        if let Err(e) = self.inner.medium.delete(&path).await {
            tracing::warn!(object = %path, error = %e, "a deleted version's manifest could not be removed yet");
        }
        Ok(())
    }

    fn forget_version(&self, opened: &OpenedManifest) {
        let mut catalog = self.catalog();
        if let Some(versions) = catalog.images.get_mut(&opened.manifest.image) {
            versions.live.remove(&opened.manifest.version);
        }
        catalog.dereference(&opened.manifest);
    }

    async fn newest_if_same(&self, manifest: &Manifest) -> Result<Option<Committed>, StoreError> {
        let Ok(newest) = self.manifest(&manifest.image, Which::Latest).await else {
            return Ok(None);
        };
        let numbered = Manifest {
            version: newest.manifest.version,
            created_ms: newest.manifest.created_ms,
            ..manifest.clone()
        };
        // Damaged chunks that the new capture brings again are healed by its puts, not by a version.
        if numbered != newest.manifest {
            return Ok(None);
        }
        self.catalog().reference(manifest)?;
        self.catalog().dereference(manifest);
        let OpenedManifest { root, signed, .. } = newest;
        Ok(Some(Committed {
            version: numbered.version,
            root,
            signed,
            unchanged: true,
        }))
    }

    async fn publish(&self, mut manifest: Manifest, now_ms: i64) -> Result<Committed, StoreError> {
        manifest.format = FORMAT;
        manifest.created_ms = now_ms;
        loop {
            manifest.version = 1 + self
                .catalog()
                .images
                .get(&manifest.image)
                .map_or(0, |v| v.highest);
            let opened = self.sign(&manifest).await?;
            if self.write_manifest(&opened).await? {
                let OpenedManifest { root, signed, .. } = opened;
                return Ok(Committed {
                    version: manifest.version,
                    root,
                    signed,
                    unchanged: false,
                });
            }
            // Another server, or an earlier attempt that seemed to fail, took this number.
            self.catalog()
                .images
                .entry(manifest.image.clone())
                .or_default()
                .highest = manifest.version;
        }
    }

    async fn sign(&self, manifest: &Manifest) -> Result<OpenedManifest, StoreError> {
        let (inner, manifest) = (std::sync::Arc::clone(&self.inner), manifest.clone());
        blocking(move || {
            let key = inner
                .keys
                .signing
                .as_ref()
                .ok_or(StoreError::NoSigningKey)?;
            let invalid = |source| StoreError::Manifest {
                object: "to be signed".to_owned(),
                source,
            };
            let signed = SignedManifest::seal(&manifest, key).map_err(invalid)?;
            let root = manifest.root().map_err(invalid)?;
            Ok(OpenedManifest {
                manifest,
                root,
                signed,
            })
        })
        .await
    }

    /// False if the number is taken.
    async fn write_manifest(&self, opened: &OpenedManifest) -> Result<bool, StoreError> {
        let (image, version) = (&opened.manifest.image, opened.manifest.version);
        let bytes = Bytes::from(opened.signed.bytes.clone());
        if !self
            .inner
            .medium
            .put_new(&manifest_path(image, version), bytes)
            .await?
        {
            return Ok(false);
        }
        let mut catalog = self.catalog();
        let versions = catalog.images.entry(image.clone()).or_default();
        versions.highest = versions.highest.max(version);
        versions.live.insert(version, VersionSummary::of(opened));
        Ok(true)
    }
}
