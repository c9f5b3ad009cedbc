use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::chunk::{CHUNK_SIZE, StoredChunk};
use crate::key::SigningKey;
use crate::manifest::{DiskShape, FORMAT, Manifest, Run, Table, Volume, VolumeKind};
use crate::transport::Unwatched;

async fn store(path: &Path) -> Store {
    let keys = StoreKeys {
        signing: Some(SigningKey::generate().unwrap()),
        trusted: vec![],
    };
    Store::open_local(path, keys, StoreOptions::default())
        .await
        .unwrap()
}

/// A disk of three chunks, the middle one empty.
fn disk() -> Vec<u8> {
    let mut bytes = vec![0; 3 * CHUNK_SIZE];
    let (first, last) = bytes.split_at_mut(2 * CHUNK_SIZE);
    blake3::Hasher::new()
        .finalize_xof()
        .fill(&mut first[..CHUNK_SIZE]);
    last.fill(0x5a);
    bytes
}

async fn with_image(store: &Store) -> Committed {
    let mut chunks = Vec::new();
    for content in disk().chunks(CHUNK_SIZE) {
        chunks.push((!crate::chunk::is_zero(content)).then(|| StoredChunk::pack(content, 3)));
    }
    store
        .put(chunks.iter().flatten().cloned().collect())
        .await
        .unwrap();
    let len_bytes = 3 * CHUNK_SIZE as u64;
    let volume = Volume {
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
        chunks: chunks.iter().map(|c| c.as_ref().map(|c| c.id)).collect(),
    };
    let manifest = Manifest {
        format: FORMAT,
        image: "golden".parse().unwrap(),
        version: 0,
        created_ms: 0,
        source: String::new(),
        disk: DiskShape {
            size_bytes: len_bytes,
            logical_sector: 512,
        },
        table: Table::None,
        volumes: vec![volume],
    };
    store.commit(manifest, 1).await.unwrap()
}

#[tokio::test]
async fn a_plain_disk_has_the_content_of_the_captured_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder.path().join("store")).await;
    let committed = with_image(&store).await;
    let to = folder.path().join("disk.raw");
    let name = "golden".parse().unwrap();
    let applied = export_raw(&store, &name, Which::Latest, &to, Arc::new(Unwatched))
        .await
        .unwrap();
    assert!(applied.proven);
    assert_eq!(applied.root, committed.root);
    assert_eq!(fs::read(&to).unwrap(), disk());
    let again = export_raw(&store, &name, Which::Latest, &to, Arc::new(Unwatched)).await;
    assert!(matches!(again, Err(ExportError::Exists { .. })));
}

#[tokio::test]
async fn a_bundle_moves_an_image_to_another_store() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (
        store(&folder.path().join("a")).await,
        store(&folder.path().join("b")).await,
    );
    with_image(&from).await;
    let bundle = folder.path().join("bundle");
    let name: ImageName = "golden".parse().unwrap();
    export_bundle(&from, &name, Which::Latest, &bundle)
        .await
        .unwrap();
    let key = bundle_key(&bundle).unwrap();
    assert_eq!(key, from.trusted()[0]);
    let stranger = import_bundle(&to, &bundle, &[], 5).await;
    assert!(matches!(
        stranger,
        Err(ExportError::Store(StoreError::Manifest { .. }))
    ));
    assert_eq!(to.images(), vec![]);
    let imported = import_bundle(&to, &bundle, &[key], 5).await.unwrap();
    let there = to
        .manifest(&name, Which::Version(imported.version))
        .await
        .unwrap()
        .manifest;
    let here = from.manifest(&name, Which::Latest).await.unwrap().manifest;
    assert_eq!(there.volumes, here.volumes);
    let report = to.verify(&crate::store::Scope::All, &|_| ()).await.unwrap();
    assert_eq!((report.chunks, report.damaged), (2, vec![]));
}

#[tokio::test]
async fn t14_a_changed_bundle_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (
        store(&folder.path().join("a")).await,
        store(&folder.path().join("b")).await,
    );
    with_image(&from).await;
    let bundle = folder.path().join("bundle");
    export_bundle(&from, &"golden".parse().unwrap(), Which::Latest, &bundle)
        .await
        .unwrap();
    let packs = fs::read_dir(bundle.join("packs"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let pack = fs::read_dir(packs).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&pack).unwrap();
    bytes[500] ^= 1;
    fs::write(&pack, bytes).unwrap();
    let refused = import_bundle(&to, &bundle, &from.trusted(), 5).await;
    assert!(matches!(
        refused,
        Err(ExportError::Store(StoreError::Corrupt { .. }))
    ));
    assert_eq!(to.images(), vec![]);
}
