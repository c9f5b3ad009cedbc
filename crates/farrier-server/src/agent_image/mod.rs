//! Builds what an agent boots from: a distribution's signed kernel as it is, and an initramfs with our agent as
//! init and the modules that hardware may ask for.
//!
//! [`kernel_package`] takes a package apart, [`modules`] chooses, [`newc`] writes. The same inputs give the
//! same bytes, so a hash says whether an image is current.

mod kernel_package;
mod module_info;
mod modules;
mod newc;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::hex::hex;

pub use kernel_package::{KernelPackage, KernelPackageError};
pub use module_info::NotAModule;
pub use modules::SelectError;
pub use newc::TooLarge;

/// What an image is made of.
#[derive(Debug)]
pub struct Ingredients<'a> {
    pub kernel: KernelPackage,
    /// The statically linked agent.
    pub agent: &'a Path,
    /// A folder laid out as `/lib/firmware`; what the chosen modules name is taken from it.
    pub firmware: Option<&'a Path>,
}

/// A finished image, as its manifest `agent-image.json` tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentImage {
    pub kernel_release: String,
    pub vmlinuz: FileRecord,
    pub initrd: FileRecord,
    /// What the initramfs takes in memory once unpacked.
    pub unpacked_bytes: u64,
    pub agent: FileRecord,
    pub modules: Vec<ModuleRecord>,
    pub firmware: Vec<String>,
}

/// One file: its name in the output folder, size and SHA-256.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    pub name: String,
    pub bytes: u64,
    pub sha256: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleRecord {
    pub name: String,
    pub path: String,
    pub bytes: u64,
}

/// Why no image was built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("cannot read the agent program {}; build it first", path.display())]
    ReadAgent { path: PathBuf, source: io::Error },
    #[error("the agent program {} wants a dynamic linker, which an initramfs has not; link it statically", path.display())]
    NotStatic { path: PathBuf },
    #[error("cannot choose kernel modules")]
    Select { source: SelectError },
    #[error("cannot read firmware file {}", path.display())]
    ReadFirmware { path: PathBuf, source: io::Error },
    #[error("cannot write the archive")]
    Archive { source: TooLarge },
    #[error("cannot compress the initramfs")]
    Compress { source: io::Error },
    #[error("cannot write {}; check the folder and the space on its disk", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// The highest level that the kernel's own unpacker reads without more memory than its window allows.
const ZSTD_LEVEL: i32 = 19;

/// Builds `vmlinuz`, `initrd.img` and `agent-image.json` in `out`. Takes a minute of CPU.
pub fn build(from: &Ingredients<'_>, out: &Path) -> Result<AgentImage, BuildError> {
    let agent = read_agent(from.agent)?;
    let chosen = modules::select(&from.kernel.modules, &from.kernel.builtin)
        .map_err(|source| BuildError::Select { source })?;
    let mut archive = skeleton();
    archive.file("init", 0o755, agent.clone());
    archive.file("modules.table", 0o644, modules::table(&chosen).into_bytes());
    let mut records = Vec::new();
    for module in &chosen {
        let content = from.kernel.modules[&module.path].clone();
        let record = ModuleRecord {
            name: module.info.name.clone(),
            path: module.path.clone(),
            bytes: content.len() as u64,
        };
        records.push(record);
        archive.file(&format!("modules/{}", module.path), 0o644, content);
    }
    let firmware = add_firmware(&mut archive, &chosen, from.firmware)?;
    let unpacked = archive
        .encode()
        .map_err(|source| BuildError::Archive { source })?;
    let initrd = compress(&unpacked).map_err(|source| BuildError::Compress { source })?;
    let image = AgentImage {
        kernel_release: from.kernel.release.clone(),
        vmlinuz: write(out, "vmlinuz", &from.kernel.vmlinuz)?,
        initrd: write(out, "initrd.img", &initrd)?,
        unpacked_bytes: unpacked.len() as u64,
        agent: record("init", &agent),
        modules: records,
        firmware,
    };
    let manifest = serde_json::to_vec_pretty(&image).expect("strings and numbers are always JSON");
    write(out, "agent-image.json", &manifest)?;
    Ok(image)
}

/// What must exist before the agent mounts anything: the kernel opens `/dev/console` for it.
fn skeleton() -> newc::Archive {
    let mut archive = newc::Archive::default();
    for folder in ["dev", "proc", "run", "sys", "tmp"] {
        archive.folder(folder);
    }
    archive.character_device("dev/console", 0o600, (5, 1));
    archive.character_device("dev/null", 0o666, (1, 3));
    archive
}

fn read_agent(path: &Path) -> Result<Vec<u8>, BuildError> {
    let agent = fs::read(path).map_err(|source| BuildError::ReadAgent {
        path: path.to_owned(),
        source,
    })?;
    let linker = b"/ld-linux";
    if agent
        .get(..4096.min(agent.len()))
        .is_some_and(|head| head.windows(linker.len()).any(|w| w == linker))
    {
        return Err(BuildError::NotStatic {
            path: path.to_owned(),
        });
    }
    Ok(agent)
}

/// Adds the firmware files that chosen modules name and the folder has.
fn add_firmware(
    archive: &mut newc::Archive,
    chosen: &[modules::Module],
    folder: Option<&Path>,
) -> Result<Vec<String>, BuildError> {
    let Some(folder) = folder else {
        return Ok(Vec::new());
    };
    let mut added = Vec::new();
    for name in chosen.iter().flat_map(|module| &module.info.firmware) {
        let path = folder.join(name);
        match fs::read(&path) {
            Ok(content) => {
                archive.file(&format!("lib/firmware/{name}"), 0o644, content);
                added.push(name.clone());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(BuildError::ReadFirmware { path, source }),
        }
    }
    added.sort();
    added.dedup();
    Ok(added)
}

fn compress(plain: &[u8]) -> io::Result<Vec<u8>> {
    let mut packer = zstd::bulk::Compressor::new(ZSTD_LEVEL)?;
    packer.include_checksum(true)?;
    packer.compress(plain)
}

fn write(out: &Path, name: &str, content: &[u8]) -> Result<FileRecord, BuildError> {
    let path = out.join(name);
    let staged = out.join(format!(".{name}.new"));
    fs::create_dir_all(out)
        .and_then(|()| fs::write(&staged, content))
        .and_then(|()| fs::rename(&staged, &path))
        .map_err(|source| BuildError::Write { path, source })?;
    Ok(record(name, content))
}

fn record(name: &str, content: &[u8]) -> FileRecord {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, content);
    let sha256 = hex(digest.as_ref());
    FileRecord {
        name: name.to_owned(),
        bytes: content.len() as u64,
        sha256,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;

    use super::module_info::tests::module;
    use super::{BuildError, Ingredients, KernelPackage, build};

    fn kernel() -> KernelPackage {
        let modules = BTreeMap::from([
            (
                "drivers/ata/ahci.ko".to_owned(),
                module("name=ahci\ndepends=libahci\nfirmware=ahci.bin\n"),
            ),
            (
                "drivers/ata/libahci.ko".to_owned(),
                module("name=libahci\n"),
            ),
        ]);
        let vmlinuz = b"the kernel".to_vec();
        KernelPackage {
            release: "6.1.0-test".into(),
            vmlinuz,
            modules,
            builtin: BTreeSet::new(),
        }
    }

    #[test]
    fn the_same_ingredients_give_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let agent = folder.path().join("agent");
        fs::write(&agent, b"\x7fELF static").unwrap();
        fs::write(folder.path().join("ahci.bin"), b"blob").unwrap();
        let from = Ingredients {
            kernel: kernel(),
            agent: &agent,
            firmware: Some(folder.path()),
        };
        let first = build(&from, &folder.path().join("one")).unwrap();
        let second = build(&from, &folder.path().join("two")).unwrap();
        assert_eq!(first, second);
        assert_eq!(first.firmware, ["ahci.bin"]);
        assert_eq!(
            first
                .modules
                .iter()
                .map(|m| m.name.as_str())
                .collect::<Vec<_>>(),
            ["ahci", "libahci"]
        );
        let bytes = |name: &str| fs::read(folder.path().join(name)).unwrap();
        assert_eq!(bytes("one/initrd.img"), bytes("two/initrd.img"));
        let unpacked = zstd::decode_all(&bytes("one/initrd.img")[..]).unwrap();
        assert_eq!(unpacked.len() as u64, first.unpacked_bytes);
        assert!(unpacked.windows(9).any(|w| w == b"m libahci"));
    }

    #[test]
    fn an_agent_that_wants_a_linker_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let agent = folder.path().join("agent");
        fs::write(&agent, b"\x7fELF /lib64/ld-linux-x86-64.so.2\0").unwrap();
        let from = Ingredients {
            kernel: kernel(),
            agent: &agent,
            firmware: None,
        };
        assert!(matches!(
            build(&from, folder.path()),
            Err(BuildError::NotStatic { .. })
        ));
    }

    #[test]
    fn a_folder_without_a_kernel_is_named_as_such() {
        let folder = tempfile::tempdir().unwrap();
        let error = KernelPackage::open(folder.path()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the kernel package has no boot/vmlinuz; give the package with the kernel itself, not the meta package"
        );
    }
}
