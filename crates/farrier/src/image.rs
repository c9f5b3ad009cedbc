//! `farrier image`: what the store holds, and its way in and out.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use farrier_api::admin::{ImageDetail, ImageSummary, Images, Verified};
use farrier_image::manifest::ImageName;
use farrier_server::ui::text::{bytes, shown};
use serde_json::Value;

use crate::connection::{Options, Session};
use crate::exit::Failure;
use crate::output::{self, Fields, Table, time};
use crate::{image_export, image_import};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List images with their versions.
    List,
    /// Show an image, or one of its versions in full.
    Show {
        image: String,
        #[arg(long)]
        version: Option<u32>,
    },
    /// Read every chunk of an image back and compare it with its name.
    Verify {
        image: String,
        /// One version; all of them when left out.
        #[arg(long)]
        version: Option<u32>,
    },
    /// Delete a version of an image. Its chunks go with the next prune.
    Delete {
        image: String,
        #[arg(long)]
        version: u32,
        /// Do it; without this, the plan is shown.
        #[arg(long)]
        yes: bool,
    },
    /// Remove chunks that no image needs.
    Prune {
        /// Do it; without this, the plan is shown.
        #[arg(long)]
        yes: bool,
    },
    /// Take a disk file (raw or qcow2) as the next version of an image.
    Import {
        file: PathBuf,
        #[arg(long = "as", value_name = "IMAGE")]
        image: ImageName,
        /// Take file systems that were not unmounted, with every byte.
        #[arg(long)]
        unclean: bool,
    },
    /// Write a version of an image to a file.
    Export {
        image: ImageName,
        #[arg(long)]
        version: Option<u32>,
        /// A new file, or for bundles a new folder.
        #[arg(long)]
        to: PathBuf,
        /// `bundle` keeps versions and signatures, and needs the server's data folder.
        #[arg(long, default_value = "raw")]
        format: Format,
        /// Take only what this key signed: ed25519:... Default: the keys that the server names.
        #[arg(long, value_name = "KEY")]
        key: Vec<String>,
    },
    /// Take a bundle that another server exported. Needs the data folder of a server that is stopped.
    Adopt {
        bundle: PathBuf,
        /// The key that signed it, as its server's people told you: ed25519:...
        #[arg(long)]
        trust: Option<String>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Bundle,
    Raw,
}

pub(crate) async fn run(options: &Options, verb: Verb) -> anyhow::Result<()> {
    match verb {
        Verb::Export {
            image,
            version,
            to,
            format: Format::Bundle,
            ..
        } => image_export::bundle(&options.data(), &image, version, &to).await,
        Verb::Adopt { bundle, trust } => {
            image_import::adopt(&options.data(), &bundle, trust.as_deref()).await
        }
        verb => with_server(&options.session()?, verb).await,
    }
}

async fn with_server(session: &Session, verb: Verb) -> anyhow::Result<()> {
    let client = &session.client;
    match verb {
        Verb::List => session.show(&client.get(&["images"]).await?, list),
        Verb::Show {
            image,
            version: None,
        } => session.show(&client.get(&["images", &image]).await?, show),
        Verb::Show {
            image,
            version: Some(version),
        } => session.show(
            &client
                .get(&["images", &image, &version.to_string()])
                .await?,
            show_version,
        ),
        Verb::Verify { image, version } => {
            let version = version_text(version);
            let answer = client
                .post(&["images", &image, &version, "verify"], &Value::Null)
                .await?;
            session.show(&answer, verified)?;
            match answer.read()?.bad_chunks.len() {
                0 => Ok(()),
                bad => Err(Failure::refused(format!(
                    "{bad} chunks of {} are missing or damaged",
                    shown(&image)
                ))
                .hint("capture or import the image again: what is the same heals the store")
                .into()),
            }
        }
        Verb::Delete {
            image,
            version,
            yes,
        } => {
            let version = version.to_string();
            let path = ["images", &image, &version, "delete"];
            let confirm = session.confirmed(&path, yes).await?;
            client.post::<Value>(&path, &confirm).await?;
            session.done("deleted")
        }
        Verb::Prune { yes } => {
            let path = ["store", "prune"];
            let confirm = session.confirmed(&path, yes).await?;
            client.post::<Value>(&path, &confirm).await?;
            session.done("pruned")
        }
        Verb::Import {
            file,
            image,
            unclean,
        } => image_import::import(session, &file, image, unclean).await,
        Verb::Export {
            image,
            version,
            to,
            key,
            ..
        } => image_export::raw(session, &image, version, &key, &to).await,
        Verb::Adopt { .. } => Ok(()),
    }
}

/// How the interface calls a version.
pub(crate) fn version_text(version: Option<u32>) -> String {
    version.map_or_else(|| "latest".to_owned(), |version| version.to_string())
}

fn list(images: &Images) -> String {
    let mut table = Table::new([
        "IMAGE", "VERSION", "CREATED", "DISK", "CONTENT", "STORED", "ITS OWN", "SOURCE",
    ]);
    for image in &images.images {
        for version in &image.versions {
            table.row([
                image.name.clone(),
                version.version.to_string(),
                time(version.created),
                bytes(version.disk_bytes),
                bytes(version.content_bytes),
                bytes(version.stored_bytes),
                bytes(version.own_bytes),
                version.source.clone(),
            ]);
        }
    }
    let store = &images.store;
    let free = store
        .free_bytes
        .map_or_else(String::new, |free| format!(", {} free", bytes(free)));
    let summary = format!(
        "{} of content in {} versions take {}{free}",
        bytes(store.content_bytes),
        store.versions,
        bytes(store.stored_bytes)
    );
    output::talk(&summary);
    table.to_string()
}

fn show(image: &ImageSummary) -> String {
    let mut table = Table::new([
        "VERSION", "CREATED", "DISK", "CONTENT", "STORED", "ITS OWN", "ROOT", "SOURCE",
    ]);
    for version in &image.versions {
        table.row([
            version.version.to_string(),
            time(version.created),
            bytes(version.disk_bytes),
            bytes(version.content_bytes),
            bytes(version.stored_bytes),
            bytes(version.own_bytes),
            version.root.chars().take(16).collect(),
            version.source.clone(),
        ]);
    }
    table.to_string()
}

fn show_version(image: &ImageDetail) -> String {
    let version = &image.version;
    let mut fields = Fields::default();
    fields.field(
        "image",
        format!("{} version {}", image.name, version.version),
    );
    fields.field("root", &version.root);
    fields.field("created", time(version.created));
    fields.field("source", &version.source);
    fields.field("disk", bytes(version.disk_bytes));
    fields.field("content", bytes(version.content_bytes));
    let own = format!(
        "{}, {} of it for this version alone",
        bytes(version.stored_bytes),
        bytes(version.own_bytes)
    );
    fields.field("stored", own);
    fields.field(
        "chunks",
        format!("{} ({} distinct)", version.chunks, version.distinct_chunks),
    );
    fields.field("table", &image.table);
    let mut volumes = Table::new(["PARTITION", "KIND", "LABEL", "START", "SIZE", "IN USE"]);
    for volume in &image.volumes {
        volumes.row([
            volume
                .partition
                .map(|number| number.to_string())
                .unwrap_or_default(),
            volume.kind.clone(),
            volume.label.clone(),
            volume.start_bytes.to_string(),
            bytes(volume.len_bytes),
            bytes(volume.used_bytes),
        ]);
    }
    format!("{fields}\n{volumes}")
}

fn verified(outcome: &Verified) -> String {
    let mut text = format!(
        "{} chunks read, {} bad\n",
        outcome.checked_chunks,
        outcome.bad_chunks.len()
    );
    for chunk in &outcome.bad_chunks {
        text.push_str(&format!("  {}\n", shown(chunk)));
    }
    text
}
