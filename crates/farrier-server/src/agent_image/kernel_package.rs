//! Takes the kernel and its modules out of a distribution's package, packed or unpacked, without running
//! anything of it and without any outside program.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::module_info::normal;
use crate::deb::{self, DebError, plain, whole};

/// A kernel with its modules.
#[derive(Clone)]
pub struct KernelPackage {
    /// As `uname -r` will say.
    pub release: String,
    pub vmlinuz: Vec<u8>,
    /// Path below `kernel/` to content.
    pub modules: BTreeMap<String, Vec<u8>>,
    /// Names of modules inside the kernel.
    pub builtin: BTreeSet<String>,
}

impl std::fmt::Debug for KernelPackage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "KernelPackage({}, {} modules)",
            self.release,
            self.modules.len()
        )
    }
}

/// Why a package could not be used.
#[derive(Debug, thiserror::Error)]
pub enum KernelPackageError {
    #[error("cannot read the kernel package {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("the kernel package {} cannot be used; give a Debian package `linux-image-*`", path.display())]
    Package { path: PathBuf, source: DebError },
    #[error(
        "the kernel package has no {0}; give the package with the kernel itself, not the meta package"
    )]
    Incomplete(&'static str),
}

/// Folders whose modules no agent needs and nothing chosen depends on; skipped while reading, since a
/// whole kernel package is 400 MB.
const SKIPPED: &[&str] = &[
    "drivers/gpu/",
    "drivers/iio/",
    "drivers/media/",
    "drivers/net/wireless/",
    "drivers/staging/",
    "sound/",
];

impl KernelPackage {
    /// Opens a `.deb` file, or the folder of an unpacked one.
    pub fn open(path: &Path) -> Result<Self, KernelPackageError> {
        let read = |source| KernelPackageError::Read {
            path: path.to_owned(),
            source,
        };
        let mut found = Found::default();
        if path.is_dir() {
            found.walk(path, path).map_err(read)?;
        } else {
            let package = fs::File::open(path).map_err(read)?;
            deb::each_file(package, |path, _, content| found.take(path, content)).map_err(
                |source| KernelPackageError::Package {
                    path: path.to_owned(),
                    source,
                },
            )?;
        }
        found.finish()
    }
}

#[derive(Default)]
struct Found {
    release: Option<String>,
    vmlinuz: Option<Vec<u8>>,
    modules: BTreeMap<String, Vec<u8>>,
    builtin: BTreeSet<String>,
}

impl Found {
    fn walk(&mut self, root: &Path, folder: &Path) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            let path = entry.path();
            if kind.is_dir() {
                self.walk(root, &path)?;
            } else if kind.is_file() {
                let inner = plain(path.strip_prefix(root).unwrap_or(&path));
                self.take(&inner, &mut fs::File::open(&path)?)?;
            }
        }
        Ok(())
    }

    /// Keeps what matters of one file; `path` is relative to the root of the file system.
    fn take(&mut self, path: &str, content: &mut dyn Read) -> io::Result<()> {
        let path = path.strip_prefix("usr/").unwrap_or(path);
        if let Some(release) = path.strip_prefix("boot/vmlinuz-") {
            self.release = Some(release.to_owned());
            self.vmlinuz = Some(whole(content)?);
        }
        let Some((_, inner)) = path
            .strip_prefix("lib/modules/")
            .and_then(|rest| rest.split_once('/'))
        else {
            return Ok(());
        };
        if inner == "modules.builtin" {
            let text = String::from_utf8_lossy(&whole(content)?).into_owned();
            let stem = |line: &str| {
                line.rsplit('/')
                    .next()
                    .and_then(|file| file.strip_suffix(".ko"))
                    .map(normal)
            };
            self.builtin.extend(text.lines().filter_map(stem));
        }
        let Some(module) = inner
            .strip_prefix("kernel/")
            .filter(|module| module.ends_with(".ko"))
        else {
            return Ok(());
        };
        if !SKIPPED.iter().any(|folder| module.starts_with(folder)) {
            self.modules.insert(module.to_owned(), whole(content)?);
        }
        Ok(())
    }

    fn finish(self) -> Result<KernelPackage, KernelPackageError> {
        let release = self
            .release
            .ok_or(KernelPackageError::Incomplete("boot/vmlinuz"))?;
        let vmlinuz = self
            .vmlinuz
            .ok_or(KernelPackageError::Incomplete("boot/vmlinuz"))?;
        if self.modules.is_empty() {
            return Err(KernelPackageError::Incomplete("kernel modules"));
        }
        Ok(KernelPackage {
            release,
            vmlinuz,
            modules: self.modules,
            builtin: self.builtin,
        })
    }
}
