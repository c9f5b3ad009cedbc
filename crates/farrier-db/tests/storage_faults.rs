//! R4 and R5: a full and a read-only file system, real ones, mounted for the test alone.
//!
//! Mounting wants rights, so this program runs itself again in a mount namespace of its own (as root, or
//! as root of a user namespace). Where neither is allowed, the test says so and checks nothing.

use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use farrier_db::{Db, DbError, Fault, OpenError, Options};
use farrier_engine::lease::{Lease, LeaseState};
use farrier_engine::{MacAddr, WallTime};

const FOLDER: &str = "FARRIER_DB_MOUNT_FOLDER";

fn lease(n: u32) -> Lease {
    Lease {
        ip: Ipv4Addr::from(n),
        mac: MacAddr([2, 0, 0, 0, 0, 1]),
        client_id: None,
        hostname: Some("x".repeat(400)),
        state: LeaseState::Active,
        starts: WallTime(0),
        ends: WallTime(n.into()),
    }
}

/// Runs the test `name` of this file again where it may mount; true if this is that run.
fn in_own_namespace(name: &str) -> Option<PathBuf> {
    if let Ok(folder) = std::env::var(FOLDER) {
        return Some(folder.into());
    }
    let folder = tempfile::tempdir().unwrap();
    for namespace in [["-m", "--"].as_slice(), &["-r", "-m", "--"]] {
        let may_mount = Command::new("unshare")
            .args(namespace)
            .args(["mount", "-t", "tmpfs", "tmpfs"])
            .arg(folder.path())
            .output()
            .is_ok_and(|output| output.status.success());
        if !may_mount {
            continue;
        }
        let run = Command::new("unshare")
            .args(namespace)
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(FOLDER, folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&run.stdout) + String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success() && said.contains("1 passed"), "{said}");
        return None;
    }
    eprintln_skipped(name);
    None
}

#[allow(
    clippy::print_stderr,
    reason = "a test that checks nothing has to say so"
)]
fn eprintln_skipped(name: &str) {
    eprintln!("SKIPPED {name}: this user may not mount a file system, not even in a namespace");
}

fn mount(folder: &Path, options: &str) {
    let done = Command::new("mount")
        .args(["-t", "tmpfs", "-o", options, "tmpfs"])
        .arg(folder)
        .status()
        .unwrap();
    assert!(done.success());
}

/// Takes all space that is left.
fn fill(folder: &Path) -> PathBuf {
    let path = folder.join("filler");
    let mut filler = fs::File::create(&path).unwrap();
    for size in [1 << 16, 4096] {
        while filler.write_all(&vec![1; size]).is_ok() {}
    }
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r4_a_full_disk_is_told_apart_and_harms_nothing() {
    let Some(folder) = in_own_namespace("r4_a_full_disk_is_told_apart_and_harms_nothing") else {
        return;
    };
    mount(&folder, "size=6m");
    let path = folder.join("farrier.db");
    let db = Db::open(&path, Options::default()).await.unwrap();
    for n in 0..200 {
        db.save_lease(&lease(n)).await.unwrap();
    }
    let filler = fill(&folder);
    let (stored, refused) = write_concurrently(&db, 1000..9000).await;
    assert!(!refused.is_empty(), "the disk was never full");
    for error in &refused {
        assert!(
            matches!(
                error,
                DbError::Storage {
                    fault: Fault::Full,
                    ..
                }
            ),
            "{error:?}"
        );
        assert!(error.retry_helps());
        assert!(error.to_string().contains("free some"), "{error}");
    }
    let mut expected: Vec<u32> = (0..200).chain(stored).collect();
    expected.sort_unstable();
    assert_eq!(
        numbers(&db).await,
        expected,
        "stored is what was acknowledged, no more and no less"
    );

    fs::remove_file(filler).unwrap();
    db.save_lease(&lease(100_000)).await.unwrap();
    db.close().await;
    let db = Db::open(&path, Options::default()).await.unwrap();
    expected.push(100_000);
    assert_eq!(numbers(&db).await, expected);
    db.close().await;
}

async fn write_concurrently(db: &Db, all: std::ops::Range<u32>) -> (Vec<u32>, Vec<DbError>) {
    let writers: Vec<_> = all
        .map(|n| {
            let db = db.clone();
            tokio::spawn(async move { db.save_lease(&lease(n)).await.map(|()| n) })
        })
        .collect();
    let (mut stored, mut refused) = (Vec::new(), Vec::new());
    for writer in writers {
        match writer.await.unwrap() {
            Ok(n) => stored.push(n),
            Err(e) => refused.push(e),
        }
    }
    (stored, refused)
}

async fn numbers(db: &Db) -> Vec<u32> {
    db.all_leases()
        .await
        .unwrap()
        .into_iter()
        .map(|lease| lease.ip.into())
        .collect()
}

#[tokio::test]
async fn r4_a_disk_that_is_full_from_the_start_is_named() {
    let Some(folder) = in_own_namespace("r4_a_disk_that_is_full_from_the_start_is_named") else {
        return;
    };
    mount(&folder, "size=1m");
    let filler = fill(&folder);
    let path = folder.join("farrier.db");
    let refused = Db::open(&path, Options::default()).await.unwrap_err();
    assert!(
        matches!(
            refused,
            OpenError::Storage {
                fault: Fault::Full,
                ..
            }
        ),
        "{refused:?}"
    );
    fs::remove_file(filler).unwrap();
    Db::open(&path, Options::default())
        .await
        .unwrap()
        .close()
        .await;
}

#[tokio::test]
async fn r5_a_read_only_file_system_is_named() {
    let Some(folder) = in_own_namespace("r5_a_read_only_file_system_is_named") else {
        return;
    };
    mount(&folder, "size=4m");
    let path = folder.join("farrier.db");
    let db = Db::open(&path, Options::default()).await.unwrap();
    db.save_lease(&lease(1)).await.unwrap();
    db.close().await;
    mount_again(&folder, "remount,ro");
    let refused = Db::open(&path, Options::default()).await.unwrap_err();
    assert!(
        matches!(
            refused,
            OpenError::Storage {
                fault: Fault::ReadOnly,
                ..
            }
        ),
        "{refused:?}"
    );
    assert!(
        refused.to_string().contains("mount its disk writable"),
        "{refused}"
    );
    assert!(!refused.retry_helps());
    mount_again(&folder, "remount,rw");
    let db = Db::open(&path, Options::default()).await.unwrap();
    assert_eq!(numbers(&db).await, [1]);
    db.close().await;
}

fn mount_again(folder: &Path, options: &str) {
    assert!(
        Command::new("mount")
            .args(["-o", options])
            .arg(folder)
            .status()
            .unwrap()
            .success()
    );
}
