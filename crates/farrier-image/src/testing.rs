//! What tests of several modules share: a store in memory, tools of the distribution, and their disks.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::chunk::{ChunkId, StoredChunk};
use crate::key::SigningKey;
use crate::manifest::{Manifest, SignedManifest};
use crate::patch::{Changed, Held};
use crate::transport::{ChunkSink, ChunkSource, TransportError};

/// A store in memory that keeps what it was given and counts what was asked of it.
pub(crate) struct MemStore {
    pub(crate) chunks: Mutex<HashMap<ChunkId, StoredChunk>>,
    pub(crate) puts: AtomicU64,
    /// Every so many calls one is answered "unavailable"; 0 means never.
    pub(crate) flaky: AtomicU64,
    calls: AtomicU64,
    key: SigningKey,
}

impl MemStore {
    pub(crate) fn new() -> Self {
        Self {
            chunks: Mutex::default(),
            puts: AtomicU64::new(0),
            flaky: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            key: SigningKey::generate().unwrap(),
        }
    }

    pub(crate) fn stored_bytes(&self) -> u64 {
        self.chunks
            .lock()
            .unwrap()
            .values()
            .map(|chunk| chunk.frame.len() as u64)
            .sum()
    }

    pub(crate) fn open(&self, signed: &SignedManifest) -> Manifest {
        signed.open(&[self.key.verifying_key()]).unwrap().0
    }

    fn stumble(&self) -> Result<(), TransportError> {
        let flaky = self.flaky.load(Ordering::Relaxed);
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        if flaky != 0 && call % flaky == flaky - 1 {
            return Err(TransportError::Unavailable("restarting".to_owned()));
        }
        Ok(())
    }
}

impl ChunkSink for MemStore {
    fn missing(&self, ids: &[ChunkId]) -> Result<Vec<bool>, TransportError> {
        self.stumble()?;
        let chunks = self.chunks.lock().unwrap();
        Ok(ids.iter().map(|id| !chunks.contains_key(id)).collect())
    }

    fn put(&self, new: &[StoredChunk]) -> Result<(), TransportError> {
        self.stumble()?;
        self.puts.fetch_add(new.len() as u64, Ordering::Relaxed);
        let mut chunks = self.chunks.lock().unwrap();
        for chunk in new {
            let mut content = vec![];
            chunk
                .open(&mut content)
                .map_err(|e| TransportError::Refused(e.to_string()))?;
            chunks.insert(chunk.id, chunk.clone());
        }
        Ok(())
    }

    fn commit(&self, manifest: Manifest) -> Result<SignedManifest, TransportError> {
        self.stumble()?;
        let chunks = self.chunks.lock().unwrap();
        let absent = manifest.chunk_ids().find(|id| !chunks.contains_key(id));
        assert_eq!(absent, None, "committed before all chunks were there");
        Ok(SignedManifest::seal(&manifest, &self.key).unwrap())
    }
}

impl ChunkSource for MemStore {
    fn fetch(
        &self,
        ids: &[ChunkId],
        deliver: &mut dyn FnMut(StoredChunk) -> bool,
    ) -> Result<(), TransportError> {
        for id in ids {
            self.stumble()?;
            let chunk = self.chunks.lock().unwrap().get(id).cloned();
            let absent = || TransportError::BadChunk {
                id: *id,
                cause: "absent".to_owned(),
            };
            if !deliver(chunk.ok_or_else(absent)?) {
                break;
            }
        }
        Ok(())
    }

    fn patches(&self) -> bool {
        true
    }

    fn fetch_changed(
        &self,
        held: &[Held],
        deliver: &mut dyn FnMut(Changed) -> bool,
    ) -> Result<(), TransportError> {
        let mut next = held.iter();
        let ids: Vec<ChunkId> = held.iter().map(|held| held.id).collect();
        self.fetch(&ids, &mut |chunk| {
            let held = next
                .next()
                .expect("it delivers in the order of the question");
            deliver(Changed::between(held, chunk))
        })
    }
}

/// Finds a program of the distribution, or says loudly that a test does not run without it.
pub(crate) fn tool(name: &str) -> Option<PathBuf> {
    let places = ["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/bin"];
    let found = places
        .iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|path| path.exists());
    if found.is_none() {
        let _ = std::io::Write::write_all(
            &mut std::io::stderr(),
            format!("SKIPPED: {name} is not installed (apt-get install gdisk fdisk e2fsprogs dosfstools mtools util-linux qemu-utils)\n").as_bytes(),
        );
    }
    found
}

/// Runs a program that must succeed; returns what it printed. None when it is not installed.
pub(crate) fn run(name: &str, arguments: &[&str]) -> Option<String> {
    let (status, text) = run_any(name, arguments)?;
    assert_eq!(status, 0, "{name} {arguments:?}: {text}");
    Some(text)
}

/// Runs a program; returns exit status and everything it printed.
pub(crate) fn run_any(name: &str, arguments: &[&str]) -> Option<(i32, String)> {
    let output = Command::new(tool(name)?)
        .args(arguments)
        .env("MTOOLS_SKIP_CHECK", "1")
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    Some((
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&text).into_owned(),
    ))
}

/// Bytes that do not compress, from a seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut out);
    out
}

/// Makes a sparse file.
pub(crate) fn sparse(path: &Path, size: u64) {
    std::fs::File::create(path).unwrap().set_len(size).unwrap();
}

/// A folder with files of various sizes, some with holes, of about `mib` MiB.
pub(crate) fn tree(dir: &Path, mib: usize) {
    std::fs::create_dir_all(dir.join("deep/er")).unwrap();
    for i in 0..mib * 4 {
        let place = if i % 3 == 0 {
            dir.join("deep/er")
        } else {
            dir.to_owned()
        };
        let text: String = (0..2000)
            .map(|line| format!("line {line} of file {i}\n"))
            .collect();
        let content = if i % 2 == 0 {
            noise(i as u64, 240_000)
        } else {
            text.into_bytes()
        };
        std::fs::write(place.join(format!("file-{i}.bin")), content).unwrap();
    }
}
