//! Images on their way out of the store.

use std::path::Path;

use farrier_api::admin::{ImageDetail, ServerStatus};
use farrier_image::apply::{self, Applied, Mode};
use farrier_image::device::FileDevice;
use farrier_image::export::export_bundle;
use farrier_image::key::VerifyingKey;
use farrier_image::manifest::{ImageName, MAX_PLAIN, Manifest, SignedManifest};
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
    keys: &[String],
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
    let manifest = unpack(signed, &known.version.root, &trusted(session, keys).await?)?;
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

/// Whose signature counts: the keys that the caller names, else those of the server, which is known by its
/// certificate.
async fn trusted(session: &Session, named: &[String]) -> anyhow::Result<Vec<VerifyingKey>> {
    let keys = if named.is_empty() {
        let status: ServerStatus = session.client.get(&["status"]).await?.read()?;
        status.image_keys
    } else {
        named.to_vec()
    };
    let parse = |key: &String| {
        key.parse()
            .map_err(|error| Failure::usage(format!("{key}: {error}")))
    };
    Ok(keys.iter().map(parse).collect::<Result<_, _>>()?)
}

/// Takes the manifest out of its file, if one of `trusted` signed it and it is the one called `root`.
fn unpack(signed: Vec<u8>, root: &str, trusted: &[VerifyingKey]) -> anyhow::Result<Manifest> {
    let (manifest, found) = SignedManifest { bytes: signed }.open(trusted)?;
    if found.to_string() != root {
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

#[cfg(test)]
mod tests {
    use farrier_image::key::SigningKey;
    use farrier_image::manifest::{DiskShape, FORMAT, Manifest, SignedManifest, Table};

    use super::unpack;

    #[test]
    fn a_manifest_is_taken_only_signed_and_under_the_root_that_the_server_names() {
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
        let key = SigningKey::generate().unwrap();
        let bytes = SignedManifest::seal(&manifest, &key).unwrap().bytes;
        let (root, ours) = (manifest.root().unwrap().to_string(), [key.verifying_key()]);
        let read = |bytes: &[u8], root: &str, keys: &[_]| unpack(bytes.to_vec(), root, keys);
        assert_eq!(read(&bytes, &root, &ours).unwrap(), manifest);
        assert!(read(&bytes, &"0".repeat(64), &ours).is_err());
        assert!(read(&bytes[..100], &root, &ours).is_err());
        let other = [SigningKey::generate().unwrap().verifying_key()];
        let refused = read(&bytes, &root, &other).unwrap_err();
        assert!(refused.to_string().contains("not trusted"), "{refused}");
        let mut forged = bytes.clone();
        forged[64] ^= 1;
        let refused = read(&forged, &root, &ours).unwrap_err();
        assert!(refused.to_string().contains("signature"), "{refused}");
    }
}
