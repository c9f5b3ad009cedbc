//! `farrier media`: floppies that machines start from memory.

use std::path::PathBuf;

use anyhow::Context;
use clap::Subcommand;
use farrier_server::media::floppy::Floppy;

use crate::output::{self, Table};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Images of 1.44 MB floppies. One in the folder `media` of the data folder is served as
    /// `boot/media/NAME`; if it holds FARRIER.BAT, each machine gets that file with its own values.
    #[command(subcommand)]
    Floppy(FloppyVerb),
}

#[derive(Debug, Subcommand)]
pub(crate) enum FloppyVerb {
    /// Make a floppy of a folder.
    Create { image: PathBuf, folder: PathBuf },
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

pub(crate) fn run(verb: &Verb) -> anyhow::Result<()> {
    let Verb::Floppy(verb) = verb;
    match verb {
        FloppyVerb::Create { image, folder } => {
            if image.exists() {
                anyhow::bail!("{} exists; remove it first", image.display());
            }
            write(image, &Floppy::of_folder(folder)?)
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
