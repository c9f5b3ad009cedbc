//! Images: look, verify, delete, prune; and their content, in and out.

use farrier_api::admin::{
    ImageDetail, ImageSummary, ImageVersion, ImageVolume, Images, Plan, StoreStatus, Verified,
};
use farrier_engine::task::Work;
use farrier_image::manifest::{ImageName, Table, VolumeKind};
use farrier_image::store::{PrunePlan, Scope, VersionSummary, Which};

use super::plan::{Draft, require};
use super::task_plan::Content;
use super::tasks::parse_image;
use super::{Code, Desk, Refusal};
use crate::auth::Action;
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
            ..Draft::default()
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
        ..Draft::default()
    }
}

/// What is left on the disk that holds `path`, for whoever is not root.
fn free_bytes(path: &std::path::Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

pub(super) fn parse_version(text: &str) -> Result<Which, Refusal> {
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
