//! Images: look, verify, delete, prune; and their content, in and out.

use bytes::{Bytes, BytesMut};
use farrier_api::admin::{
    ImageDetail, ImageSummary, ImageVersion, ImageVolume, Images, Plan, StoreStatus, Verified,
};
use farrier_api::agent::{read_frame, write_frame};
use farrier_engine::task::Work;
use farrier_image::chunk::{ChunkId, MAX_STORED_CHUNK, StoredChunk};
use farrier_image::manifest::{ImageName, MAX_PLAIN, Manifest, Table, VolumeKind};
use farrier_image::store::{PrunePlan, Scope, VersionSummary, Which};

use super::plan::{Draft, require};
use super::task_plan::Content;
use super::tasks::parse_image;
use super::{Code, Desk, Refusal};
use crate::auth::Action;
use crate::core::now;
use crate::fleet::Change;
use crate::ui::text::bytes as human;

impl Desk {
    pub async fn images(&self) -> Result<Images, Refusal> {
        self.allow(Action::Look)?;
        let mut images = Vec::new();
        for image in self.core.store.images() {
            images.push(ImageSummary {
                versions: self.versions(&image.name).await?,
                name: image.name.to_string(),
            });
        }
        Ok(Images {
            images,
            store: self.store_status(),
        })
    }

    /// The names alone, for forms.
    pub fn image_names(&self) -> Result<Vec<String>, Refusal> {
        self.allow(Action::Look)?;
        Ok(self
            .core
            .store
            .images()
            .into_iter()
            .map(|image| image.name.to_string())
            .collect())
    }

    pub async fn image(&self, name: &str) -> Result<ImageSummary, Refusal> {
        self.allow(Action::Look)?;
        let name = parse_image(name)?;
        let versions = self.versions(&name).await?;
        if versions.is_empty() {
            return Err(Refusal::missing("image", name));
        }
        Ok(ImageSummary {
            name: name.to_string(),
            versions,
        })
    }

    /// One version in full; `latest` is a version.
    pub async fn image_version(&self, name: &str, version: &str) -> Result<ImageDetail, Refusal> {
        self.allow(Action::Look)?;
        let name = parse_image(name)?;
        let opened = self
            .core
            .store
            .manifest(&name, parse_version(version)?)
            .await?;
        let manifest = &opened.manifest;
        let known = self
            .core
            .store
            .versions(&name)
            .into_iter()
            .find(|v| v.version == manifest.version);
        let version = self
            .version(
                &name,
                known.ok_or_else(|| Refusal::missing("image", &name))?,
            )
            .await?;
        let table = match manifest.table {
            Table::None => "none",
            Table::Gpt { .. } => "gpt",
            Table::Mbr { .. } => "mbr",
        };
        let volumes = manifest.volumes.iter().map(|v| ImageVolume {
            kind: volume_word(v.kind).to_owned(),
            partition: v.partition,
            start_bytes: v.start_bytes,
            len_bytes: v.len_bytes,
            used_bytes: v.used_bytes(),
            label: v.label.clone(),
        });
        Ok(ImageDetail {
            name: name.to_string(),
            version,
            table: table.to_owned(),
            volumes: volumes.collect(),
        })
    }

    /// Reads every chunk of a version back and compares it with its name.
    pub async fn verify_image(&self, name: &str, version: &str) -> Result<Verified, Refusal> {
        self.allow(Action::VerifyImage)?;
        let name = parse_image(name)?;
        let scope = match parse_version(version)? {
            Which::Latest => Scope::Image(name),
            Which::Version(version) => Scope::Version(name, version),
        };
        let report = self.core.store.verify(&scope, &|_| {}).await?;
        let bad_chunks = report.damaged.iter().map(|d| d.chunk.to_string()).collect();
        Ok(Verified {
            checked_chunks: report.chunks,
            bad_chunks,
        })
    }

    pub async fn plan_delete_image(&self, name: &str, version: &str) -> Result<Plan, Refusal> {
        self.allow(Action::DeleteImage)?;
        let name = parse_image(name)?;
        let plan = self
            .core
            .store
            .plan_delete(&name, parse_version(version)?)
            .await?;
        let using = self.tasks_that_need(&name);
        if using > 0 {
            return Err(Refusal::new(
                Code::ImageInUse,
                format!("{using} unfinished task(s) need the image {name}"),
            )
            .hint("cancel them first: farrier task list"));
        }
        Ok(Draft {
            summary: format!("Delete the image {name}, version {}.", plan.version.version),
            steps: vec![
                "its manifest is removed: it can no longer be deployed".to_owned(),
                format!(
                    "up to {} become free at the next prune",
                    human(plan.freed_bytes)
                ),
            ],
            warnings: Vec::new(),
            destructive: true,
            touches: vec![format!("{plan:?}")],
        }
        .finish())
    }

    pub async fn delete_image(
        &self,
        name: &str,
        version: &str,
        confirm: Option<&str>,
    ) -> Result<(), Refusal> {
        let shown = self.plan_delete_image(name, version).await?;
        require(&shown, confirm)?;
        let plan = self
            .core
            .store
            .plan_delete(&parse_image(name)?, parse_version(version)?)
            .await?;
        self.core.store.delete(&plan).await?;
        self.core.tell(Change::Images);
        self.audit(Action::DeleteImage, shown.summary).await;
        Ok(())
    }

    pub async fn plan_prune(&self) -> Result<Plan, Refusal> {
        self.allow(Action::DeleteImage)?;
        Ok(prune_draft(&self.core.store.plan_prune().await?).finish())
    }

    pub async fn prune(&self, confirm: Option<&str>) -> Result<(), Refusal> {
        self.allow(Action::DeleteImage)?;
        let plan = self.core.store.plan_prune().await?;
        require(&prune_draft(&plan).finish(), confirm)?;
        self.core.store.prune(&plan).await?;
        self.core.tell(Change::Images);
        self.audit(Action::DeleteImage, "pruned the store").await;
        Ok(())
    }

    /// The way in for image content. Chunks that no version names yet are safe from pruning for the store's
    /// grace time, since an upload is many requests.
    pub fn upload(&self) -> Result<ImageUpload<'_>, Refusal> {
        self.allow(Action::WriteImage)?;
        Ok(ImageUpload { desk: self })
    }

    /// Chunks by id, verified, as frames.
    pub async fn fetch(&self, ids: &[u8]) -> Result<Bytes, Refusal> {
        self.allow(Action::ReadImageContent)?;
        let ids = parse_ids(ids)?;
        if ids.len() > MAX_FETCH {
            return Err(Refusal::new(
                Code::TooLarge,
                format!("ask for at most {MAX_FETCH} chunks at once"),
            ));
        }
        let mut frames = BytesMut::new();
        for id in ids {
            let chunk = self.core.store.chunk(id).await?;
            write_frame(&mut frames, &chunk.id.0, &chunk.frame);
        }
        Ok(frames.freeze())
    }

    /// A signed manifest, its whole file.
    pub async fn signed_manifest(&self, name: &str, version: &str) -> Result<Vec<u8>, Refusal> {
        self.allow(Action::ReadImageContent)?;
        let opened = self
            .core
            .store
            .manifest(&parse_image(name)?, parse_version(version)?)
            .await?;
        Ok(opened.signed.bytes)
    }

    pub(super) async fn content(
        &self,
        name: &ImageName,
        version: Option<u32>,
    ) -> Result<Content, Refusal> {
        let which = version.map_or(Which::Latest, Which::Version);
        let opened = self.core.store.manifest(name, which).await?;
        Ok(Content {
            version: opened.manifest.version,
            disk_bytes: opened.manifest.disk.size_bytes,
        })
    }

    pub(super) fn store_status(&self) -> StoreStatus {
        let stats = self.core.store.stats();
        StoreStatus {
            images: stats.images,
            versions: stats.versions,
            content_bytes: stats.used_bytes,
            stored_bytes: stats.pack_bytes,
            free_bytes: free_bytes(&self.core.config.image_store()),
        }
    }

    /// All versions of an image, the newest first.
    async fn versions(&self, name: &ImageName) -> Result<Vec<ImageVersion>, Refusal> {
        let mut versions = Vec::new();
        for known in self.core.store.versions(name).into_iter().rev() {
            versions.push(self.version(name, known).await?);
        }
        versions.sort_by_key(|v| std::cmp::Reverse(v.version));
        Ok(versions)
    }

    async fn version(&self, name: &ImageName, v: VersionSummary) -> Result<ImageVersion, Refusal> {
        let stats = self
            .core
            .store
            .version_stats(name, Which::Version(v.version))
            .await?;
        Ok(ImageVersion {
            version: v.version,
            created: v.created_ms,
            source: v.source,
            root: v.root.to_string(),
            disk_bytes: v.disk_bytes,
            content_bytes: stats.used_bytes,
            stored_bytes: stats.stored_bytes,
            own_bytes: stats.own_bytes,
            chunks: stats.chunks,
            distinct_chunks: stats.unique_chunks,
        })
    }

    fn tasks_that_need(&self, name: &ImageName) -> usize {
        let needs = |work: &Work| match work {
            Work::Deploy { image, .. } | Work::Repair { image, .. } => image == name.as_str(),
            Work::Inventory | Work::Capture { .. } => false,
        };
        self.core
            .fleet
            .unfinished()
            .iter()
            .filter(|t| needs(&t.work))
            .count()
    }
}

/// Image content on its way in.
#[derive(Debug)]
pub struct ImageUpload<'a> {
    desk: &'a Desk,
}

impl ImageUpload<'_> {
    /// One byte per id, 1 when the store lacks it.
    pub fn missing(&self, ids: &[u8]) -> Result<Vec<u8>, Refusal> {
        let ids = parse_ids(ids)?;
        Ok(self
            .desk
            .core
            .store
            .missing(&ids)
            .into_iter()
            .map(u8::from)
            .collect())
    }

    /// Takes frames; when this returns they are durable. The store hashes them again.
    pub async fn put(&self, frames: Bytes) -> Result<(), Refusal> {
        let mut buffer = BytesMut::from(frames);
        let mut chunks = Vec::new();
        while let Some((id, frame)) = read_frame(&mut buffer, MAX_STORED_CHUNK)
            .map_err(|e| Refusal::new(Code::TooLarge, e.to_string()))?
        {
            chunks.push(StoredChunk {
                id: ChunkId(id),
                frame,
            });
        }
        if !buffer.is_empty() {
            return Err(Refusal::bad("the last chunk is cut short"));
        }
        self.desk.core.store.put(chunks).await?;
        Ok(())
    }

    /// Publishes a version and returns its signed manifest.
    pub async fn commit(&self, manifest: &[u8]) -> Result<Vec<u8>, Refusal> {
        let manifest =
            Manifest::decode(manifest, MAX_PLAIN).map_err(|e| Refusal::bad(e.to_string()))?;
        let name = manifest.image.clone();
        let committed = self.desk.core.store.commit(manifest, now().0).await?;
        self.desk.core.tell(Change::Images);
        self.desk
            .audit(
                Action::WriteImage,
                format!("{name} version {}", committed.version),
            )
            .await;
        Ok(committed.signed.bytes)
    }
}

fn prune_draft(plan: &PrunePlan) -> Draft {
    let mut steps = vec![
        format!(
            "{} packs without any needed chunk are deleted",
            plan.drop.len()
        ),
        format!(
            "{} packs are rewritten without what nobody needs",
            plan.rewrite.len()
        ),
        format!("{} become free", human(plan.freed_bytes())),
    ];
    if plan.waiting_bytes > 0 {
        steps.push(format!(
            "{} stay for now: a capture may still need them",
            human(plan.waiting_bytes)
        ));
    }
    Draft {
        summary: "Remove chunks that no image needs.".to_owned(),
        steps,
        warnings: Vec::new(),
        destructive: true,
        touches: vec![format!("{plan:?}")],
    }
}

/// What is left on the disk that holds `path`, for whoever is not root.
fn free_bytes(path: &std::path::Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn parse_ids(bytes: &[u8]) -> Result<Vec<ChunkId>, Refusal> {
    let (ids, rest) = bytes.as_chunks::<32>();
    if !rest.is_empty() || ids.len() > MAX_IDS {
        return Err(Refusal::bad(format!(
            "send at most {MAX_IDS} ids of 32 bytes each"
        )));
    }
    Ok(ids.iter().copied().map(ChunkId).collect())
}

fn parse_version(text: &str) -> Result<Which, Refusal> {
    match text {
        "latest" => Ok(Which::Latest),
        number => number
            .parse()
            .map(Which::Version)
            .map_err(|_| Refusal::bad("a version is a number or `latest`")),
    }
}

fn volume_word(kind: VolumeKind) -> &'static str {
    match kind {
        VolumeKind::Gap => "gap",
        VolumeKind::Raw => "raw",
        VolumeKind::Ext => "ext",
        VolumeKind::Fat => "fat",
        VolumeKind::Swap => "swap",
    }
}

/// Ids of a 16 GiB volume in one question.
const MAX_IDS: usize = 65536;
/// At most 16 MiB in one answer.
const MAX_FETCH: usize = 64;
