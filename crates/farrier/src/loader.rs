//! `farrier loader`: boot programs.

use std::path::PathBuf;

use clap::Subcommand;
use farrier_api::admin::Loader;
use farrier_server::ui::text::bytes;

use crate::connection::Options;
use crate::local;
use crate::output::Table;

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List the boot programs that the server has.
    List,
    /// Take the boot programs out of Debian packages (or single files named as there) into the data
    /// folder. A running server notices within seconds.
    Import {
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Take over the boot folder of Raspberry Pis: what would be on the first partition of their memory card. It
    /// replaces the one before. A folder in it named by a board's serial number is for that board alone.
    Board { folder: PathBuf },
    /// Show who signed the boot programs in the data folder, their SBAT generations, and what each shim
    /// there would start or refuse.
    Show {
        /// All of them unless ids are named.
        ids: Vec<String>,
    },
}

pub(crate) async fn run(options: &Options, verb: Verb) -> anyhow::Result<()> {
    match verb {
        Verb::List => {
            let session = options.session()?;
            session.show(
                &session.client.get(&["loaders"]).await?,
                |loaders: &Vec<Loader>| list(loaders),
            )
        }
        Verb::Import { files } => local::import_loaders(&files, &options.data()),
        Verb::Board { folder } => local::import_board(&folder, &options.data()),
        Verb::Show { ids } => local::show_loaders(&ids, &options.data()),
    }
}

fn list(loaders: &[Loader]) -> String {
    let mut table = Table::new([
        "ID", "KIND", "FIRMWARE", "ARCH", "VERSION", "SIGNER", "SIZE", "SOURCE",
    ]);
    for loader in loaders {
        table.row([
            loader.id.clone(),
            loader.kind.clone(),
            loader.firmware.clone(),
            loader.arch.clone(),
            loader.version.clone(),
            loader.signer.clone().unwrap_or_default(),
            bytes(loader.size),
            loader.source.clone(),
        ]);
    }
    table.to_string()
}
