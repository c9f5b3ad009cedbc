//! Images and their versions.

use askama::Template;
use farrier_api::admin::{ImageDetail, ImageSummary, Images};

use crate::ui::Frame;
use crate::ui::text::{Moment, bytes, shown};

/// One version of an image as a row.
#[derive(Clone, Debug)]
pub struct VersionView {
    pub version: u32,
    pub created: Moment,
    pub source: String,
    pub disk: String,
    pub content: String,
    pub stored: String,
    pub own: String,
    pub dedup: String,
    pub root: String,
}

/// An image with its versions.
#[derive(Clone, Debug)]
pub struct ImageView {
    pub name: String,
    pub versions: Vec<VersionView>,
}

impl ImageView {
    #[must_use]
    pub fn of(image: &ImageSummary) -> Self {
        let versions = image.versions.iter().map(|v| VersionView {
            version: v.version,
            created: Moment::of(v.created),
            source: shown(&v.source),
            disk: bytes(v.disk_bytes),
            content: bytes(v.content_bytes),
            stored: bytes(v.stored_bytes),
            own: bytes(v.own_bytes),
            dedup: ratio(v.content_bytes, v.stored_bytes),
            root: v.root.chars().take(16).collect(),
        });
        Self {
            name: shown(&image.name),
            versions: versions.collect(),
        }
    }
}

/// 10 of 4 → `2.5×`.
pub(super) fn ratio(all: u64, kept: u64) -> String {
    if kept == 0 {
        return "–".to_owned();
    }
    let tenths = u128::from(all) * 10 / u128::from(kept);
    format!("{}.{}×", tenths / 10, tenths % 10)
}

#[derive(Debug, Template)]
#[template(path = "images.html")]
pub struct ImagesPage {
    pub frame: Frame,
    pub images: Vec<ImageView>,
    pub stored: String,
    pub content: String,
    pub saved: String,
}

impl ImagesPage {
    #[must_use]
    pub fn of(frame: Frame, images: &Images) -> Self {
        Self {
            frame,
            images: images.images.iter().map(ImageView::of).collect(),
            stored: bytes(images.store.stored_bytes),
            content: bytes(images.store.content_bytes),
            saved: ratio(images.store.content_bytes, images.store.stored_bytes),
        }
    }
}

/// A volume of an image.
#[derive(Clone, Debug)]
pub struct VolumeView {
    pub number: String,
    pub kind: String,
    pub label: String,
    pub size: String,
    pub used: String,
    pub percent: u64,
}

#[derive(Debug, Template)]
#[template(path = "image.html")]
pub struct ImagePage {
    pub frame: Frame,
    pub name: String,
    pub versions: Vec<VersionView>,
    pub current: u32,
    pub table: String,
    pub root: String,
    pub volumes: Vec<VolumeView>,
}

impl ImagePage {
    #[must_use]
    pub fn of(frame: Frame, image: &ImageSummary, detail: &ImageDetail) -> Self {
        let volumes = detail.volumes.iter().map(|v| VolumeView {
            number: v
                .partition
                .map_or_else(|| "–".to_owned(), |n| n.to_string()),
            kind: v.kind.clone(),
            label: shown(&v.label),
            size: bytes(v.len_bytes),
            used: bytes(v.used_bytes),
            percent: v.used_bytes.saturating_mul(100) / v.len_bytes.max(1),
        });
        Self {
            frame,
            name: shown(&image.name),
            versions: ImageView::of(image).versions,
            current: detail.version.version,
            table: detail.table.clone(),
            root: detail.version.root.clone(),
            volumes: volumes.collect(),
        }
    }
}
