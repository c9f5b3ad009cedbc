//! Images on their way out of the store.

use std::path::Path;

use farrier_api::admin::ImageDetail;
use farrier_image::apply::{self, Applied, Mode};
use farrier_image::device::FileDevice;
use farrier_image::export::export_bundle;
use farrier_image::manifest::{ImageName, MAX_PLAIN, Manifest};
use farrier_image::store::{Access, Which};
use farrier_server::ui::text::bytes;

use crate::connection::Session;
use crate::exit::Failure;
use crate::image::version_text;
use crate::image_content::{ServerStore, Shown};
use crate::{local, output, wait};

/// Writes a version as a plain disk file, with holes where nothing is kept. It is deployed like to any
/// disk, so every chunk is proven before it is written, and the file is read back.
pub(crate) async fn raw(
    session: &Session,
    image: &ImageName,
    version: Option<u32>,
    to: &Path,
) -> anyhow::Result<()> {
    if to.exists() {
        return Err(exists(to));
    }
    let client = &session.client;
    let wanted = version_text(version);
    let known: ImageDetail = client
        .get(&["images", image.as_str(), &wanted])
        .await?
        .read()?;
    // "The latest" may be another one a moment later.
    let version = known.version.version.to_string();
    let signed = client.manifest(image.as_str(), &version, MAX_PLAIN).await?;
    let manifest = unpack(&signed, &known.version.root)?;
    let store = ServerStore::new(client.clone());
    let path = to.to_owned();
    let work = tokio::task::spawn_blocking(move || {
        let done = write(&manifest, &store, &path);
        if done.is_err() {
            // What is not whole must not be taken for a disk; it was made by this command.
            let _ = std::fs::remove_file(&path);
        }
        done
    });
    let done = work.await??;
    output::talk(&format!(
        "{} fetched, {} written and proven",
        bytes(done.fetched_bytes),
        bytes(done.written_bytes)
    ));
    session.done(&format!("{} version {version} {}", known.name, done.root))
}

/// Takes the manifest out of its file. Who signed does not matter here: the server is known by its
/// certificate, and the content must be what it calls by this root.
fn unpack(signed: &[u8], root: &str) -> anyhow::Result<Manifest> {
    let body = signed.get(MANIFEST_HEADER..).unwrap_or_default();
    let manifest = Manifest::decode(body, MAX_PLAIN)?;
    if manifest.root()?.to_string() != root {
        return Err(
            Failure::refused("the manifest is not the one that the server names")
                .hint("verify the image: farrier image verify")
                .into(),
        );
    }
    Ok(manifest)
}

fn write(manifest: &Manifest, store: &ServerStore, path: &Path) -> anyhow::Result<Applied> {
    let file = FileDevice::create(path, manifest.disk.size_bytes)?
        .with_sector(manifest.disk.logical_sector);
    let plan = apply::plan(&file, manifest, Mode::Deploy)?;
    let bar = wait::bar(plan.content_bytes);
    let done = apply::apply(&file, manifest, &plan, store, &Shown(bar.clone()));
    bar.finish_and_clear();
    Ok(done?)
}

/// Writes a version with its signature into a new folder.
pub(crate) async fn bundle(
    data: &Path,
    image: &ImageName,
    version: Option<u32>,
    to: &Path,
) -> anyhow::Result<()> {
    if to.exists() {
        return Err(exists(to));
    }
    let store = local::store(data, Access::Read).await?;
    export_bundle(
        &store,
        image,
        version.map_or(Which::Latest, Which::Version),
        to,
    )
    .await?;
    let keys: Vec<_> = store.trusted().iter().map(ToString::to_string).collect();
    output::data(&format!("{} signed by {}", to.display(), keys.join(", ")))
}

fn exists(to: &Path) -> anyhow::Error {
    Failure::refused(format!("{} exists already", to.display()))
        .hint("choose another name, or remove it")
        .into()
}

/// `docs/formats/image.md`: what stands before the compressed body of a manifest file.
const MANIFEST_HEADER: usize = 128;

#[cfg(test)]
mod tests {
    use farrier_image::key::SigningKey;
    use farrier_image::manifest::{DiskShape, FORMAT, Manifest, SignedManifest, Table};

    use super::unpack;

    #[test]
    fn a_manifest_is_taken_only_under_the_root_that_the_server_names() {
        let manifest = Manifest {
            format: FORMAT,
            image: "lab".parse().unwrap(),
            version: 3,
            created_ms: 1,
            source: "test".to_owned(),
            disk: DiskShape {
                size_bytes: 1 << 20,
                logical_sector: 512,
            },
            table: Table::None,
            volumes: Vec::new(),
        };
        let signed = SignedManifest::seal(&manifest, &SigningKey::generate().unwrap()).unwrap();
        let root = manifest.root().unwrap().to_string();
        assert_eq!(unpack(&signed.bytes, &root).unwrap(), manifest);
        assert!(unpack(&signed.bytes, &"0".repeat(64)).is_err());
        assert!(unpack(&signed.bytes[..100], &root).is_err());
    }
}
