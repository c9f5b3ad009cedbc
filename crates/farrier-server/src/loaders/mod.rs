//! Boot programs and the agent's files: the catalogue in memory, the bytes on disk, named by hash.
//!
//! `<data>/loaders/<sha256>` is a program and `<sha256>.json` its entry in the catalogue, written last. The
//! agent's kernel and initial RAM disk are in `<data>/agent`, as [`crate::agent_image`] leaves them.

mod import;
mod pe;
mod signer;
mod trust;
mod watch;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use bytes::Bytes;
use farrier_engine::catalogue::{Catalogue, Loader};
use farrier_net::zero_copy;

use crate::agent_image::AgentImage;
use crate::hex::hex;

pub use import::{ImportError, read_loader, read_package};
pub use signer::Certificate;
pub use trust::{Generation, Trust, Verdict, trust_report, verdict};
pub use watch::watch;

/// What can be served to firmware.
#[derive(Debug)]
pub struct Loaders {
    folder: PathBuf,
    agent_folder: PathBuf,
    catalogue: ArcSwap<Catalogue>,
    agent: ArcSwap<Option<AgentFiles>>,
    /// Programs that were asked for, checked against their hash when read.
    cache: Mutex<HashMap<String, Bytes>>,
}

/// The agent, ready to be served.
#[derive(Clone, Debug)]
pub struct AgentFiles {
    /// First digits of the initial RAM disk's hash; part of the files' URLs, so that caches never mix two.
    pub tag: String,
    pub image: AgentImage,
    pub vmlinuz: Bytes,
    pub initrd: Bytes,
}

impl Loaders {
    /// Reads the catalogue and, if it was built, the agent.
    pub fn open(folder: PathBuf, agent_folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        let loaders = Self {
            folder,
            agent_folder,
            catalogue: ArcSwap::default(),
            agent: ArcSwap::default(),
            cache: Mutex::default(),
        };
        loaders.reload()?;
        Ok(loaders)
    }

    /// Reads both folders again.
    pub fn reload(&self) -> io::Result<()> {
        self.catalogue
            .store(Arc::new(read_catalogue(&self.folder)?));
        self.agent.store(Arc::new(read_agent(&self.agent_folder)?));
        self.cache
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        Ok(())
    }

    #[must_use]
    pub fn catalogue(&self) -> Arc<Catalogue> {
        self.catalogue.load_full()
    }

    /// The agent, if one was built.
    #[must_use]
    pub fn agent(&self) -> Arc<Option<AgentFiles>> {
        self.agent.load_full()
    }

    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the bytes of a program are. `sha256` is one of the catalogue's, never a client's text.
    #[must_use]
    pub fn file(&self, sha256: &str) -> PathBuf {
        self.folder.join(sha256)
    }

    /// A program's bytes, proven to be those that were imported.
    pub fn bytes(&self, loader: &Loader) -> io::Result<Bytes> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = cache.get(&loader.sha256) {
            return Ok(bytes.clone());
        }
        let bytes = zero_copy::hold(self.on_disk(loader)?, &self.folder);
        cache.insert(loader.sha256.clone(), bytes.clone());
        Ok(bytes)
    }

    /// The same from the disk, whatever is in memory: what a server has after its next start.
    pub fn on_disk(&self, loader: &Loader) -> io::Result<Vec<u8>> {
        let bytes = fs::read(self.folder.join(&loader.sha256))?;
        if sha256(&bytes) != loader.sha256 {
            return Err(io::Error::other(
                "its content was changed since it was imported; import it again",
            ));
        }
        Ok(bytes)
    }

    /// Adds programs, as [`read_package`] or [`read_loader`] found them. One with the same id is replaced.
    pub fn add(&self, found: Vec<(Loader, Vec<u8>)>) -> io::Result<()> {
        store(&self.folder, &found)?;
        self.reload()
    }

    /// Takes a program out. False if there is none of this id.
    pub fn remove(&self, id: &str) -> io::Result<bool> {
        let catalogue = self.catalogue();
        let Some(loader) = catalogue.by_id(id) else {
            return Ok(false);
        };
        fs::remove_file(self.folder.join(entry_name(loader)))?;
        if !catalogue
            .iter()
            .any(|other| other.sha256 == loader.sha256 && other.id != id)
        {
            fs::remove_file(self.folder.join(&loader.sha256))?;
        }
        self.reload()?;
        Ok(true)
    }
}

/// Writes programs into the folder of a server that may not be running.
pub fn store(folder: &Path, found: &[(Loader, Vec<u8>)]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for (loader, bytes) in found {
        write_whole(&folder.join(&loader.sha256), bytes)?;
        let entry = serde_json::to_vec_pretty(loader).map_err(io::Error::other)?;
        write_whole(&folder.join(entry_name(loader)), &entry)?;
    }
    Ok(())
}

/// The catalogue of such a folder.
pub fn read_catalogue(folder: &Path) -> io::Result<Catalogue> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "json") {
            match serde_json::from_slice::<Loader>(&fs::read(&path)?) {
                Ok(loader) => found.push(loader),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "a loader's entry is damaged; import it again")
                }
            }
        }
    }
    Ok(Catalogue::new(found))
}

/// Ids are made by us of letters, digits and hyphens.
fn entry_name(loader: &Loader) -> String {
    format!("{}.json", loader.id)
}

fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let partial = path.with_extension("new");
    fs::write(&partial, content)?;
    fs::File::open(&partial)?.sync_all()?;
    fs::rename(&partial, path)
}

fn read_agent(folder: &Path) -> io::Result<Option<AgentFiles>> {
    let record = match fs::read(folder.join("agent-image.json")) {
        Ok(record) => record,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let image: AgentImage = serde_json::from_slice(&record).map_err(io::Error::other)?;
    let read = |name: &str, hash: &str| {
        let bytes = fs::read(folder.join(name))?;
        if sha256(&bytes) == hash {
            Ok(zero_copy::hold(bytes, folder))
        } else {
            Err(io::Error::other(format!(
                "{name} in {} was changed since it was built; build the agent again",
                folder.display()
            )))
        }
    };
    let vmlinuz = read("vmlinuz", &image.vmlinuz.sha256)?;
    let initrd = read("initrd.img", &image.initrd.sha256)?;
    let tag = image.initrd.sha256.chars().take(16).collect();
    Ok(Some(AgentFiles {
        tag,
        image,
        vmlinuz,
        initrd,
    }))
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}
