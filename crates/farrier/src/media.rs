//! `farrier media`: disk images that machines start.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Subcommand;
use farrier_api::admin::{MediumValues, MediumValuesQuery};
use farrier_server::media::floppy::{Density, Floppy, SIZES};
use farrier_server::media::look::look;
use farrier_server::media::{Medium, MediumKind, MediumName, shelf, store};
use farrier_server::ui::text::{bytes, shown as tame};

use crate::connection::Options;
use crate::exit::Failure;
use crate::output::{self, Table};
use crate::policy::first_mac;

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
    /// Show what an image is, and which values of machines it asks for; a path is looked at where it lies. With a
    /// machine, ask the server what that machine's own copy would hold.
    Show {
        image: String,
        /// A known machine: its id, name or address.
        #[arg(long, conflicts_with = "mac")]
        machine: Option<String>,
        /// A hardware address; it need not be known.
        #[arg(long)]
        mac: Option<String>,
        /// As if it spoke from there. Default: where it was last heard, or holds a lease.
        #[arg(long)]
        address: Option<String>,
    },
    /// Take an image out of the data folder.
    Remove {
        name: String,
        /// Do it; without this, it is only said what would be removed.
        #[arg(long)]
        yes: bool,
    },
    /// Images of floppies, file by file. Where a file holds {{FARRIER_NAME    }} or the like, each machine gets a value
    /// of its own; if there is a FARRIER.BAT, it gets all of them in there.
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

pub(crate) fn run(verb: &Verb, options: &Options) -> anyhow::Result<()> {
    let folder = options.data().join("media");
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
        Verb::Show {
            image,
            machine,
            mac,
            address,
        } if machine.is_some() || mac.is_some() => crate::in_runtime(async {
            let session = options.session()?;
            let mac = match (mac, machine) {
                (Some(mac), _) => mac.clone(),
                (None, machine) => {
                    first_mac(&session, machine.as_deref().unwrap_or_default()).await?
                }
            };
            let query = MediumValuesQuery {
                mac,
                address: address.clone(),
            };
            let answer = session
                .client
                .ask(&["media", image, "values"], &query)
                .await?;
            session.show(&answer, values)
        }),
        Verb::Show { image, address, .. } => {
            if address.is_some() {
                return Err(Failure::usage("--address wants --machine or --mac beside it").into());
            }
            let path = match MediumName::new(image) {
                Ok(name) if folder.join(name.as_str()).exists() => folder.join(name.as_str()),
                _ => PathBuf::from(image),
            };
            let medium = look(&path).with_context(|| format!("{} is no medium", path.display()))?;
            let places = match medium.kind {
                MediumKind::Floppy => places(&read(&path)?),
                MediumKind::Cd | MediumKind::Disk(_) => String::new(),
            };
            output::data(&format!("{}\n{places}", shown(image, &medium)))
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

/// What a floppy asks for.
fn places(floppy: &Floppy) -> String {
    if !SIZES.contains(&floppy.as_bytes().len()) {
        return String::new();
    }
    let asked = match floppy.asked() {
        Ok(asked) => asked,
        Err(why) => return format!("No machine would be sent it: {why}.\n"),
    };
    let mut text = String::new();
    if floppy.has_variables() {
        text.push_str("FARRIER.BAT: each machine gets all its values there.\n");
    }
    if !asked.widths.is_empty() {
        let mut table = Table::new(["VARIABLE", "PLACES FOR"]);
        for (name, widths) in &asked.widths {
            table.row([name.variable(), room(widths)]);
        }
        text.push_str(&table.to_string());
    }
    if let Some(fault) = asked.fault {
        text.push_str(&damaged(&fault.to_string()));
    }
    text
}

fn damaged(fault: &str) -> String {
    let fault = tame(fault);
    format!("It is damaged, so values may be missing in it: {fault}.\n")
}

/// What one machine's own copy would hold.
fn values(found: &MediumValues) -> String {
    let mut table = Table::new(["VARIABLE", "VALUE", "FROM", "PLACES FOR"]);
    for value in &found.values {
        let (text, origin) = match &value.value {
            Some(text) => (text.clone(), value.origin.clone()),
            None => (String::new(), format!("not known: {}", value.origin)),
        };
        let mut places = room(&value.widths);
        if found.batch && value.value.is_some() {
            let comma = if places.is_empty() { "" } else { ", " };
            places.push_str(comma);
            places.push_str("FARRIER.BAT");
        }
        table.row([value.variable.clone(), text, origin, places]);
    }
    let mut text = match &found.address {
        Some(address) => format!("It is at {}.\n", tame(address)),
        None => "Where it is, is not known: --address says it.\n".to_owned(),
    };
    if !found.values.is_empty() {
        text.push_str(&table.to_string());
    } else if found.fault.is_none() && found.refused.is_none() {
        text.push_str("The image asks for no values: every machine gets it as it is.\n");
    }
    if let Some(fault) = &found.fault {
        text.push_str(&damaged(fault));
    }
    if let Some(why) = &found.refused {
        text.push_str(&format!(
            "The machine would not be sent it: {}.\n",
            tame(why)
        ));
    }
    text
}

/// `16, 40 characters`.
fn room<'a>(widths: impl IntoIterator<Item = &'a u32>) -> String {
    let widths: Vec<_> = widths.into_iter().map(ToString::to_string).collect();
    match widths.as_slice() {
        [] => String::new(),
        widths => format!("{} characters", widths.join(", ")),
    }
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

fn read(image: &Path) -> anyhow::Result<Floppy> {
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

#[cfg(test)]
mod tests {
    use farrier_api::admin::{MediumValue, MediumValues};
    use farrier_server::media::floppy::{Density, Floppy, VARIABLES};

    #[test]
    fn r9_what_a_floppy_asks_for_is_shown_with_its_room() {
        let mut floppy = Floppy::blank(Density::High).unwrap();
        assert_eq!(super::places(&floppy), "");
        floppy
            .put("A.INI", b"{{FARRIER_NAME}} {{FARRIER_HOME    }}")
            .unwrap();
        floppy.put("B.INI", b"{{FARRIER_NAME }}").unwrap();
        floppy.put(VARIABLES, b"").unwrap();
        assert_eq!(
            super::places(&floppy),
            "FARRIER.BAT: each machine gets all its values there.\n\
             VARIABLE      PLACES FOR\n\
             FARRIER_HOME  20 characters\n\
             FARRIER_NAME  16, 17 characters\n"
        );
    }

    #[test]
    fn r9_a_dry_run_says_each_value_its_origin_and_what_is_wrong() {
        let value =
            |variable: &str, value: Option<&str>, origin: &str, widths: &[u32]| MediumValue {
                variable: variable.to_owned(),
                value: value.map(str::to_owned),
                origin: origin.to_owned(),
                widths: widths.to_vec(),
            };
        let found = MediumValues {
            address: Some("10.0.0.7".to_owned()),
            batch: true,
            values: vec![
                value("FARRIER_HOME", Some("\\\\srv\\home"), "group lab", &[20]),
                value(
                    "FARRIER_ROUTER",
                    None,
                    "another server lent its address",
                    &[],
                ),
            ],
            fault: Some("the file A.INI cannot be read (its end is missing)".to_owned()),
            refused: Some("it is too narrow".to_owned()),
        };
        assert_eq!(
            super::values(&found),
            "It is at 10.0.0.7.\n\
             VARIABLE        VALUE       FROM                                        PLACES FOR\n\
             FARRIER_HOME    \\\\srv\\home  group lab                                   20 characters, FARRIER.BAT\n\
             FARRIER_ROUTER  -           not known: another server lent its address  -\n\
             It is damaged, so values may be missing in it: the file A.INI cannot be read (its end is missing).\n\
             The machine would not be sent it: it is too narrow.\n"
        );
    }

    #[test]
    fn r9_a_dry_run_calls_no_image_complete_whose_places_are_not_known() {
        let refused = |refused: Option<&str>| MediumValues {
            address: Some("10.0.0.7".to_owned()),
            batch: false,
            values: Vec::new(),
            fault: None,
            refused: refused.map(str::to_owned),
        };
        assert_eq!(
            super::values(&refused(None)),
            "It is at 10.0.0.7.\nThe image asks for no values: every machine gets it as it is.\n"
        );
        assert_eq!(
            super::values(&refused(Some("it asks for more than 64 different values"))),
            "It is at 10.0.0.7.\n\
             The machine would not be sent it: it asks for more than 64 different values.\n"
        );
    }
}
