//! Single packages, fetched and unpacked but never installed.
//!
//! Loaders are better new than stable, so they come from `sid`. It gets a package index of its own in the lab folder,
//! made from the machine's own sources: same mirror, same keyring, other suite. Packages for another processor get
//! theirs in the same way. The machine's sources stay as they are.

mod source;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    command::{command, run},
    lab::Lab,
    report::say,
};

pub use source::Source;

/// Where a package comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// The release that is installed, security updates included.
    Installed,
    /// `sid`, falling back to the installed release when it cannot be read.
    Unstable,
    /// The installed release for another processor, by Debian's name for it.
    Foreign(&'static str),
    /// `sid` for another processor.
    UnstableForeign(&'static str),
}

/// A package file.
#[derive(Debug, Clone)]
pub struct Deb {
    /// Name of the package.
    pub package: String,
    /// The file.
    pub path: PathBuf,
}

/// Loaders for `farrier loader import`, with the suite that each comes from.
pub const LOADERS: &[(&str, Suite)] = &[
    ("ipxe", Suite::Unstable),
    ("pxelinux", Suite::Installed),
    ("syslinux-common", Suite::Installed),
    ("shim-signed", Suite::Installed),
    ("grub-efi-amd64-signed", Suite::Installed),
    ("grub-efi-ia32-bin", Suite::Installed),
    ("memtest86+", Suite::Installed),
];

/// Programs that only tests use, and whose packages would start services or clash if they were installed.
pub const FOREIGN: &[&str] = &[
    "isc-dhcp-relay",
    "isc-dhcp-server",
    "bootpc",
    "kea-dhcp4-server",
];

/// The kernel that the agent and the golden disk boot with, by its name that always means the newest.
const KERNEL: &str = "linux-image-amd64";

/// Fetches packages into the lab folder.
#[derive(Debug)]
pub struct Debs {
    folder: PathBuf,
    lab: Lab,
}

impl Debs {
    /// Opens the store of packages in the lab folder.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(lab: &Lab) -> Result<Self> {
        Ok(Self {
            folder: lab.subfolder("debs")?,
            lab: lab.clone(),
        })
    }

    /// All loader packages, fetched now if they were not before.
    ///
    /// # Errors
    /// Names the package that could not be fetched.
    pub fn loaders(&self) -> Result<Vec<Deb>> {
        LOADERS
            .iter()
            .map(|(package, suite)| self.fetch(package, *suite))
            .collect()
    }

    /// The package of the newest kernel of the installed release.
    ///
    /// # Errors
    /// When the name cannot be resolved or the package not be fetched.
    pub fn kernel(&self) -> Result<Deb> {
        let _lock = self.lab.lock("debs")?;
        if let Some(path) = self.fetched("kernel")? {
            return Ok(Deb {
                package: KERNEL.to_owned(),
                path,
            });
        }
        let depends = run(&mut command("apt-cache", ["depends", KERNEL]))?;
        let real = depends
            .lines()
            .find_map(|line| line.trim().strip_prefix("Depends: "))
            .with_context(|| {
                format!("{KERNEL} names no kernel; renew the package index with `apt-get update`")
            })?
            .to_owned();
        let path = self.download("kernel", &real, Suite::Installed)?;
        Ok(Deb {
            package: real,
            path,
        })
    }

    /// One package, fetched now if it was not before.
    ///
    /// # Errors
    /// When neither the suite nor, for `sid`, the installed release has it.
    pub fn fetch(&self, package: &str, suite: Suite) -> Result<Deb> {
        self.fetch_as(package, package, suite)
    }

    /// The same, kept under another name: one package for several processors.
    ///
    /// # Errors
    /// As [`Debs::fetch`].
    pub fn fetch_as(&self, name: &str, package: &str, suite: Suite) -> Result<Deb> {
        let _lock = self.lab.lock("debs")?;
        let path = match self.fetched(name)? {
            Some(path) => path,
            None => self.download_or_fall_back(name, package, suite)?,
        };
        Ok(Deb {
            package: package.to_owned(),
            path,
        })
    }

    /// A program of one of the [`FOREIGN`] packages, fetched and unpacked now if it was not before.
    ///
    /// # Errors
    /// When the package cannot be had, or has no such file.
    pub fn program(&self, package: &str, path: &str) -> Result<PathBuf> {
        let deb = self.fetch(package, Suite::Installed)?;
        let program = self.unpack(&deb)?.join(path);
        if !program.is_file() {
            bail!("{package} has no {path}");
        }
        Ok(program)
    }

    /// Unpacks a package beside it and returns the folder.
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn unpack(&self, deb: &Deb) -> Result<PathBuf> {
        // Tests that want the same package run at the same time.
        let _lock = self.lab.lock("unpack")?;
        let target = deb.path.with_extension("files");
        if !target.exists() {
            let half = deb.path.with_extension("unpacking");
            run(command("dpkg-deb", ["-x"]).arg(&deb.path).arg(&half))?;
            fs::rename(&half, &target)
                .with_context(|| format!("cannot name {}", target.display()))?;
        }
        Ok(target)
    }

    fn fetched(&self, package: &str) -> Result<Option<PathBuf>> {
        let folder = self.folder.join(package);
        if !folder.exists() {
            return Ok(None);
        }
        only_deb(&folder)
    }

    fn download_or_fall_back(&self, name: &str, package: &str, suite: Suite) -> Result<PathBuf> {
        match self.download(name, package, suite) {
            Err(error) if suite == Suite::Unstable => {
                say(&format!(
                    "      {package} is not to be had from sid ({error:#}); taking the installed release's"
                ));
                self.download(name, package, Suite::Installed)
            }
            result => result,
        }
    }

    /// Fetches into a folder that gets its name when the package is complete.
    fn download(&self, folder: &str, package: &str, suite: Suite) -> Result<PathBuf> {
        say(&format!("      fetching {package}"));
        let half = self.folder.join(format!("{folder}.part"));
        let _ = fs::remove_dir_all(&half);
        fs::create_dir_all(&half).with_context(|| format!("cannot make {}", half.display()))?;
        let options = match suite {
            Suite::Installed => Vec::new(),
            Suite::Unstable => self.index("sid", None)?,
            Suite::UnstableForeign(arch) => self.index("sid", Some(arch))?,
            Suite::Foreign(arch) => self.index(&Source::of_this_machine()?.suite, Some(arch))?,
        };
        // Without its sandbox apt writes as root, which is who owns the lab folder.
        run(Command::new("apt-get")
            .args(["-q", "-o", "APT::Sandbox::User=root"])
            .args(options)
            .args(["download", package])
            .current_dir(&half))
        .with_context(|| {
            format!(
                "cannot fetch {package}; check the network, or put its .deb into {}",
                half.display()
            )
        })?;
        let target = self.folder.join(folder);
        let _ = fs::remove_dir_all(&target);
        fs::rename(&half, &target).with_context(|| format!("cannot name {}", target.display()))?;
        only_deb(&target)?
            .with_context(|| format!("fetching {package} left no file in {}", target.display()))
    }

    /// The options that make apt use an index of our own, which is fetched the first time.
    fn index(&self, suite: &str, arch: Option<&str>) -> Result<Vec<String>> {
        let name = arch.map_or_else(|| suite.to_owned(), |arch| format!("{suite}-{arch}"));
        let index = self.folder.join(format!("index-{name}"));
        for folder in ["state/lists/partial", "cache/archives/partial", "sources"] {
            fs::create_dir_all(index.join(folder))
                .with_context(|| format!("cannot make {}", index.display()))?;
        }
        fs::write(index.join("status"), "").context("cannot write the empty package state")?;
        let source = Source::of_this_machine()?;
        fs::write(
            index.join(format!("sources/{suite}.sources")),
            source.render(suite),
        )
        .with_context(|| format!("cannot write the source of {suite}"))?;
        let at = |name: &str| index.join(name).display().to_string();
        let mut options = vec![
            format!("Dir::State={}", at("state")),
            format!("Dir::State::status={}", at("status")),
            format!("Dir::Cache={}", at("cache")),
            "Dir::Etc::SourceList=/dev/null".to_owned(),
            format!("Dir::Etc::SourceParts={}", at("sources")),
            "Acquire::Languages=none".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
            "APT::Sandbox::User=root".to_owned(),
        ];
        if let Some(arch) = arch {
            options.push(format!("APT::Architecture={arch}"));
            options.push(format!("APT::Architectures={arch}"));
        }
        let options: Vec<String> = options
            .into_iter()
            .flat_map(|option| ["-o".to_owned(), option])
            .collect();
        if !index.join("updated").exists() {
            say(&format!(
                "      fetching the package index of {name} into the lab folder"
            ));
            run(command("apt-get", ["-q"]).args(&options).arg("update"))?;
            fs::write(index.join("updated"), "").context("cannot mark the index as fetched")?;
        }
        Ok(options)
    }
}

fn only_deb(folder: &Path) -> Result<Option<PathBuf>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    Ok(entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|end| end == "deb")))
}
