//! Disk files and bundles on their way into the store.

use std::path::Path;

use anyhow::Context as _;
use farrier_api::admin::ImageDetail;
use farrier_api::client::Answer;
use farrier_image::capture::{CaptureOptions, Captured, capture, plan};
use farrier_image::export::{bundle_key, import_bundle};
use farrier_image::fs::Unclean;
use farrier_image::import::open;
use farrier_image::key::VerifyingKey;
use farrier_image::manifest::ImageName;
use farrier_image::store::Access;
use farrier_server::core::now;
use farrier_server::ui::text::bytes;

use crate::connection::Session;
use crate::exit::Failure;
use crate::image_content::{ServerStore, Shown};
use crate::{local, output, wait};

/// Captures a disk file into the server's store. What the store has is not sent, so an import that was
/// broken off goes on where it was.
pub(crate) async fn import(
    session: &Session,
    file: &Path,
    image: ImageName,
    unclean: bool,
) -> anyhow::Result<()> {
    let store = ServerStore::new(session.client.clone());
    let name = file
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let options = CaptureOptions {
        source: format!("file {name}"),
        unclean: if unclean {
            Unclean::TakeRaw
        } else {
            Unclean::Refuse
        },
        ..CaptureOptions::new(image.clone())
    };
    let file = file.to_owned();
    let work = tokio::task::spawn_blocking(move || -> anyhow::Result<Captured> {
        let disk = open(&file)?;
        let plan = plan(&*disk, &options).context(UNCLEAN_HINT)?;
        for warning in &plan.warnings {
            output::talk(&format!("warning: {warning}"));
        }
        let bar = wait::bar(plan.used_bytes());
        let done = capture(&*disk, &plan, &store, &Shown(bar.clone()));
        bar.finish_and_clear();
        Ok(done?)
    });
    let done = work.await??;
    output::talk(&format!(
        "{} read, {} new chunks sent ({})",
        bytes(done.read_bytes),
        done.new_chunks,
        bytes(done.stored_bytes)
    ));
    let version: Answer<ImageDetail> = session
        .client
        .get(&["images", image.as_str(), "latest"])
        .await?;
    session.show(&version, |image| {
        format!(
            "{} version {} {}",
            image.name, image.version.version, image.version.root
        )
    })
}

/// Takes a bundle into the store of a server that is stopped.
pub(crate) async fn adopt(data: &Path, bundle: &Path, trust: Option<&str>) -> anyhow::Result<()> {
    let claimed = bundle_key(bundle)?;
    let trusted: Option<VerifyingKey> = match trust {
        Some(text) => Some(
            text.parse()
                .map_err(|error| Failure::usage(format!("--trust: {error}")))?,
        ),
        None => None,
    };
    let store = local::store(data, Access::Write).await?;
    if !store.trusted().contains(&claimed) && trusted != Some(claimed) {
        return Err(Failure::refused(format!(
            "the bundle says it is signed by {claimed}, which is not trusted here"
        ))
        .hint("compare it with what its server's people told you, then give it with --trust")
        .into());
    }
    let trusted: Vec<_> = trusted.into_iter().collect();
    let taken = import_bundle(&store, bundle, &trusted, now().0).await?;
    output::data(&format!("version {} {}", taken.version, taken.root))
}

const UNCLEAN_HINT: &str = "the disk file cannot be taken";
