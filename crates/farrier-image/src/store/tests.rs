//! One body of tests for every kind of store, and a world that can be stopped at any write.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use object_store::memory::InMemory;
use tempfile::TempDir;

use super::*;
use crate::chunk::{CHUNK_SIZE, StoredChunk};
use crate::manifest::{DiskShape, FORMAT, Run, Table, Volume, VolumeKind};

mod contract;
mod crash;
mod damage;
mod full;
mod prune;

/// How the world ends at a chosen write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The process dies before the write.
    Before,
    /// The process dies right after it.
    After,
    /// The process dies while half of the bytes are written.
    Torn,
    /// The write fails and everything after it works.
    Fails,
    /// The write is done, an error is reported all the same, and everything after it works.
    Lies,
}

pub(super) struct Faults {
    end: End,
    at: usize,
    count: AtomicUsize,
    dead: AtomicBool,
}

impl Faults {
    pub(super) fn new(end: End, at: usize) -> Arc<Self> {
        Arc::new(Self {
            end,
            at,
            count: AtomicUsize::new(0),
            dead: AtomicBool::new(false),
        })
    }

    /// Whether the chosen write was reached.
    pub(super) fn hit(&self) -> bool {
        self.count.load(Ordering::SeqCst) > self.at
    }

    pub(super) fn before(&self) -> io::Result<()> {
        if self.dead.load(Ordering::SeqCst) {
            return Err(fault());
        }
        let now = self.count.fetch_add(1, Ordering::SeqCst);
        match self.end {
            End::Before | End::Torn if now == self.at => {
                self.dead.store(true, Ordering::SeqCst);
                Err(fault())
            }
            End::Fails if now == self.at => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    pub(super) fn after(&self) -> io::Result<()> {
        let last = self.count.load(Ordering::SeqCst) - 1;
        match self.end {
            End::After if last == self.at => {
                self.dead.store(true, Ordering::SeqCst);
                Err(fault())
            }
            End::Lies if last == self.at => Err(fault()),
            _ => Ok(()),
        }
    }

    pub(super) fn torn(&self, len: usize) -> Option<usize> {
        let now = self.count.load(Ordering::SeqCst);
        (self.end == End::Torn && now == self.at && !self.dead.load(Ordering::SeqCst))
            .then_some(len / 2)
    }
}

fn fault() -> io::Error {
    io::Error::other("the test stopped the world here")
}

/// Where a store lives between two openings.
struct Place {
    folder: TempDir,
    bucket: Option<Arc<InMemory>>,
    key: Vec<u8>,
}

impl Place {
    fn local() -> Self {
        let key = SigningKey::generate().unwrap().to_pkcs8().unwrap();
        Self {
            folder: tempfile::tempdir().unwrap(),
            bucket: None,
            key,
        }
    }

    fn bucket() -> Self {
        Self {
            bucket: Some(Arc::new(InMemory::new())),
            ..Self::local()
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn keys(&self) -> StoreKeys {
        StoreKeys {
            signing: Some(SigningKey::from_pkcs8(&self.key).unwrap()),
            trusted: vec![],
        }
    }

    async fn open(&self) -> Store {
        self.open_with(None, StoreOptions::default()).await.unwrap()
    }

    async fn open_greedy(&self) -> Store {
        self.open_with(None, greedy()).await.unwrap()
    }

    /// A process that is killed lets go at once. A store that ends here may leave a thread that is still at its last
    /// write, and is waited for.
    async fn lock(&self) -> Result<File, StoreError> {
        for _ in 0..500 {
            match lock_folder(self.path()) {
                Err(StoreError::InUse) => tokio::time::sleep(Duration::from_millis(10)).await,
                other => return other,
            }
        }
        lock_folder(self.path())
    }

    async fn open_with(
        &self,
        faults: Option<Arc<Faults>>,
        options: StoreOptions,
    ) -> Result<Store, StoreError> {
        let held = self.lock().await?;
        let mut medium = match &self.bucket {
            None => Medium::local(self.path())?,
            Some(bucket) => Medium::remote(
                Arc::clone(bucket) as Arc<dyn ObjectStore>,
                &self.path().join("spool"),
            ),
        };
        medium.faults = faults;
        Store::assemble(medium, Some(held), self.keys(), options).await
    }
}

/// Prunes whatever no version and no writer needs.
fn greedy() -> StoreOptions {
    StoreOptions {
        grace: Duration::ZERO,
        ..StoreOptions::default()
    }
}

/// Content number `n`, hard to compress, so that sizes are predictable.
fn content(n: u64) -> Vec<u8> {
    let mut bytes = vec![0; 2000];
    blake3::Hasher::new()
        .update(&n.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

fn chunk(n: u64) -> StoredChunk {
    StoredChunk::pack(&content(n), 3)
}

fn chunks(range: Range<u64>) -> Vec<StoredChunk> {
    range.map(chunk).collect()
}

/// An image of one raw volume that consists of these contents.
fn image(name: &str, contents: &[u64]) -> Manifest {
    let len_bytes = (contents.len() * CHUNK_SIZE) as u64;
    Manifest {
        format: FORMAT,
        image: name.parse().unwrap(),
        version: 0,
        created_ms: 0,
        source: "test".to_owned(),
        disk: DiskShape {
            size_bytes: len_bytes,
            logical_sector: 512,
        },
        table: Table::None,
        volumes: vec![Volume {
            kind: VolumeKind::Raw,
            partition: None,
            start_bytes: 0,
            len_bytes,
            label: String::new(),
            fs_uuid: String::new(),
            block_bytes: 4096,
            used: vec![Run {
                first: 0,
                count: len_bytes / 4096,
            }],
            chunks: contents.iter().map(|n| Some(chunk(*n).id)).collect(),
        }],
    }
}

fn name(text: &str) -> ImageName {
    text.parse().unwrap()
}

/// Every chunk of every visible version is there and good, and versions are what was committed.
async fn assert_whole(store: &Store) {
    assert!(store.unreadable().is_empty());
    let report = store.verify(&Scope::All, &|_| ()).await.unwrap();
    assert_eq!(report.damaged, vec![], "a needed chunk is gone or bad");
}

/// Flips one bit of a file.
fn flip(path: &Path, byte: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[byte] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

fn pack_files(root: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for folder in fs::read_dir(root.join("packs")).into_iter().flatten() {
        found.extend(
            fs::read_dir(folder.unwrap().path())
                .unwrap()
                .map(|e| e.unwrap().path()),
        );
    }
    found.sort();
    found
}
