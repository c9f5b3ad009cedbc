//! R4: a full disk stops captures and nothing else.

use std::process::Command;

use super::*;

/// A small file system of its own; none where the tests may not mount.
struct Small(TempDir);

impl Small {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"])
            .arg(folder.path())
            .output()
            .is_ok_and(|out| out.status.success());
        mounted.then_some(Self(folder))
    }

    fn remount(&self, mode: &str) {
        let done = Command::new("mount")
            .args(["-o", &format!("remount,{mode}")])
            .arg(self.0.path())
            .status();
        assert!(done.unwrap().success());
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn r4_a_full_store_says_so_keeps_what_it_has_and_goes_on_when_there_is_room() {
    let Some(small) = Small::mount() else {
        // Only root may mount; the same errors are injected in `crash.rs`.
        return;
    };
    let keys = || StoreKeys {
        signing: Some(SigningKey::generate().unwrap()),
        trusted: vec![],
    };
    let store = Store::open_local(small.0.path(), keys(), greedy())
        .await
        .unwrap();
    let ballast = small.0.path().join("ballast");
    fs::write(&ballast, vec![1; 1 << 20]).unwrap();
    let mut stored = 0;
    let full = loop {
        match store.put(chunks(stored..stored + 50)).await {
            Ok(_) => stored += 50,
            Err(e) => break e,
        }
    };
    assert!(matches!(full, StoreError::Full { .. }), "{full:?}");
    assert!(full.may_retry());
    assert!(stored >= 100);
    let ids: Vec<ChunkId> = (0..stored).map(|n| chunk(n).id).collect();
    assert!(!store.missing(&ids).contains(&true));
    store.chunk(chunk(stored - 1).id).await.unwrap();
    fs::remove_file(ballast).unwrap();
    store.put(chunks(stored..stored + 50)).await.unwrap();
    store
        .commit(image("a", &[0, stored, stored + 49]), 1)
        .await
        .unwrap();
    assert_whole(&store).await;
}

#[tokio::test]
async fn r5_a_read_only_store_is_read_and_refuses_writes() {
    let Some(small) = Small::mount() else {
        return;
    };
    let key = SigningKey::generate().unwrap().to_pkcs8().unwrap();
    let keys = || StoreKeys {
        signing: Some(SigningKey::from_pkcs8(&key).unwrap()),
        trusted: vec![],
    };
    let store = Store::open_local(small.0.path(), keys(), greedy())
        .await
        .unwrap();
    store.put(chunks(0..3)).await.unwrap();
    store.commit(image("a", &[0, 1]), 1).await.unwrap();
    drop(store);
    small.remount("ro");
    let options = StoreOptions {
        access: Access::Read,
        ..greedy()
    };
    let reader = Store::open_local(small.0.path(), keys(), options)
        .await
        .unwrap();
    assert_whole(&reader).await;
    assert!(
        Store::open_local(small.0.path(), keys(), greedy())
            .await
            .is_err_and(|e| { matches!(e, StoreError::ReadOnly { .. }) })
    );
}
