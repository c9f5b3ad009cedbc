//! `farrier media`: disk images that machines start.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Subcommand;
use farrier_server::media::floppy::{Density, Floppy};
use farrier_server::media::look::look;
use farrier_server::media::{Medium, MediumKind, MediumName, shelf, store};
use farrier_server::ui::text::bytes;

use crate::exit::Failure;
use crate::output::{self, Table};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Copy a floppy, hard-disk or CD image into the data folder. A running server notices within seconds; the setting
    /// `media` puts it into menus, and `farrier machine boot MACHINE medium:NAME` starts it once.
    Add {
        image: PathBuf,
        /// What it is called. Default: the name of the file.
        #[arg(long)]
        name: Option<String>,
    },
    /// List the images in the data folder, and what each can be started by.
    List,
    /// Show what an image is; a path is looked at where it lies.
    Show { image: String },
    /// Take an image out of the data folder.
    Remove {
        name: String,
        /// Do it; without this, it is only said what would be removed.
        #[arg(long)]
        yes: bool,
    },
    /// Images of floppies, file by file. If one holds FARRIER.BAT, each machine gets that file with its own values.
    #[command(subcommand)]
    Floppy(FloppyVerb),
}

#[derive(Debug, Subcommand)]
pub(crate) enum FloppyVerb {
    /// Make a floppy of a folder.
    Create {
        image: PathBuf,
        folder: PathBuf,
        /// 2.88 MB rather than 1.44.
        #[arg(long)]
        extended: bool,
    },
    /// List what is on it.
    List { image: PathBuf },
    /// Add a file, or replace it.
    Put {
        image: PathBuf,
        file: PathBuf,
        /// Its path on the floppy. Default: its own name, in the root.
        #[arg(long = "as")]
        path: Option<String>,
    },
    /// Take a file away.
    Remove { image: PathBuf, path: String },
}

pub(crate) fn run(verb: &Verb, data: &Path) -> anyhow::Result<()> {
    let folder = data.join("media");
    match verb {
        Verb::Add { image, name } => {
            let name = match name {
                Some(name) => MediumName::new(name)?,
                None => own_name(image)?,
            };
            let medium = store::add(&folder, image, name)
                .with_context(|| format!("{} is not taken", image.display()))?;
            output::data(&shown(name.as_str(), &medium))
        }
        Verb::List => {
            let mut table = Table::new(["NAME", "KIND", "SIZE", "STARTS ON"]);
            for (name, looked) in shelf::found(&folder) {
                table.row(match looked {
                    Ok(medium) => [
                        name.to_string(),
                        medium.kind.to_string(),
                        bytes(medium.size),
                        starts_on(&medium).to_owned(),
                    ],
                    Err(error) => [
                        name.to_string(),
                        "none".into(),
                        "".into(),
                        error.to_string(),
                    ],
                });
            }
            output::data(&table.to_string())
        }
        Verb::Show { image } => {
            let path = match MediumName::new(image) {
                Ok(name) if folder.join(name.as_str()).exists() => folder.join(name.as_str()),
                _ => PathBuf::from(image),
            };
            let medium = look(&path).with_context(|| format!("{} is no medium", path.display()))?;
            output::data(&shown(image, &medium))
        }
        Verb::Remove { name, yes } => {
            let name = MediumName::new(name)?;
            let medium = look(&folder.join(name.as_str()));
            if !yes && let Ok(medium) = medium {
                output::data(&shown(name.as_str(), &medium))?;
                return Err(Failure::refused("nothing was removed")
                    .hint("say --yes to remove it; menus and wishes that name it then say that it is missing")
                    .into());
            }
            Ok(store::remove(&folder, name)?)
        }
        Verb::Floppy(verb) => floppy(verb),
    }
}

fn own_name(image: &Path) -> anyhow::Result<MediumName> {
    let name = image.file_name().and_then(|name| name.to_str());
    MediumName::new(name.unwrap_or_default()).with_context(|| {
        format!(
            "{} needs another name; give it with --name",
            image.display()
        )
    })
}

fn starts_on(medium: &Medium) -> &'static str {
    match (medium.bios, medium.uefi) {
        (true, true) => "BIOS, UEFI",
        (true, false) => "BIOS",
        (false, true) => "UEFI",
        (false, false) => "nothing",
    }
}

fn shown(name: &str, medium: &Medium) -> String {
    let counted = match medium.kind {
        MediumKind::Disk(g) => format!(
            ", {} cylinders, {} heads, {} sectors",
            g.cylinders, g.heads, g.sectors
        ),
        MediumKind::Cd | MediumKind::Floppy => String::new(),
    };
    format!(
        "{name}: {} of {} ({} bytes{counted}), starts on {}",
        medium.kind,
        bytes(medium.size),
        medium.size,
        starts_on(medium)
    )
}

fn floppy(verb: &FloppyVerb) -> anyhow::Result<()> {
    match verb {
        FloppyVerb::Create {
            image,
            folder,
            extended,
        } => {
            if image.exists() {
                anyhow::bail!("{} exists; remove it first", image.display());
            }
            let density = if *extended {
                Density::Extended
            } else {
                Density::High
            };
            write(image, &Floppy::of_folder(folder, density)?)
        }
        FloppyVerb::List { image } => {
            let mut table = Table::new(["SIZE", "FILE"]);
            for (path, size) in read(image)?.list()? {
                table.row([size.to_string(), path]);
            }
            output::data(&table.to_string())
        }
        FloppyVerb::Put { image, file, path } => {
            let mut floppy = read(image)?;
            let own = file.file_name().map(|name| name.to_string_lossy());
            let path = path
                .clone()
                .or_else(|| own.map(Into::into))
                .with_context(|| format!("{} has no name; give one with --as", file.display()))?;
            let content = std::fs::read(file)
                .with_context(|| format!("{} cannot be read", file.display()))?;
            floppy.put(&path, &content)?;
            write(image, &floppy)
        }
        FloppyVerb::Remove { image, path } => {
            let mut floppy = read(image)?;
            floppy.remove(path)?;
            write(image, &floppy)
        }
    }
}

fn read(image: &PathBuf) -> anyhow::Result<Floppy> {
    let bytes =
        std::fs::read(image).with_context(|| format!("{} cannot be read", image.display()))?;
    Ok(Floppy::from_bytes(bytes))
}

/// Beside the old one first: a server may be reading it.
fn write(image: &PathBuf, floppy: &Floppy) -> anyhow::Result<()> {
    let partial = image.with_extension("new");
    std::fs::write(&partial, floppy.as_bytes())
        .and_then(|()| std::fs::rename(&partial, image))
        .with_context(|| format!("{} cannot be written", image.display()))
}
