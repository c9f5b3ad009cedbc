//! R20: copies are taken while the server works, and brought back only when they are whole.

use std::fs;
use std::path::{Path, PathBuf};

use farrier_db::{BackupError, Db, OpenError, Options, RestoreError, backup_file, restore};
use uuid::Uuid;

struct Site {
    folder: tempfile::TempDir,
    path: PathBuf,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("farrier.db");
        Self { folder, path }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

async fn open(path: &Path) -> Db {
    Db::open(path, Options::default()).await.unwrap()
}

async fn mark(db: &Db) -> Option<String> {
    db.value("mark").await.unwrap()
}

/// A database that was backed up with the mark "old" and went on to "new".
async fn backed_up() -> (Site, PathBuf) {
    let site = Site::new();
    let backup = site.file("backup.db");
    let db = open(&site.path).await;
    db.identity(Uuid::from_u128(7)).await.unwrap();
    db.set_value("mark", "old").await.unwrap();
    db.backup(&backup).await.unwrap();
    db.set_value("mark", "new").await.unwrap();
    db.close().await;
    (site, backup)
}

#[tokio::test]
async fn r20_a_backup_comes_back_with_its_identity_and_a_higher_epoch() {
    let (site, backup) = backed_up().await;
    let restored = restore(&backup, &site.path, true).await.unwrap();
    let db = open(&site.path).await;
    assert_eq!(mark(&db).await.as_deref(), Some("old"));
    let identity = db.identity(Uuid::from_u128(8)).await.unwrap();
    assert_eq!((identity.server, identity.epoch), (Uuid::from_u128(7), 2));
    db.close().await;

    let replaced = restored.replaced.unwrap();
    let kept = open(&replaced).await;
    assert_eq!(
        mark(&kept).await.as_deref(),
        Some("new"),
        "what was replaced is kept"
    );
    kept.close().await;
}

#[tokio::test]
async fn r20_a_new_host_needs_no_force() {
    let (site, backup) = backed_up().await;
    let fresh = site.file("other.db");
    assert_eq!(
        restore(&backup, &fresh, false).await.unwrap().replaced,
        None
    );
    let db = open(&fresh).await;
    assert_eq!(mark(&db).await.as_deref(), Some("old"));
    db.close().await;
}

#[tokio::test]
async fn nothing_is_overwritten_unasked() {
    let (site, backup) = backed_up().await;
    let refused = restore(&backup, &site.path, false).await.unwrap_err();
    assert!(matches!(refused, RestoreError::Exists { .. }), "{refused}");
    assert!(refused.to_string().contains("--force"), "{refused}");
    let db = open(&site.path).await;
    assert_eq!(mark(&db).await.as_deref(), Some("new"));
    let refused = db.backup(&backup).await.unwrap_err();
    assert!(matches!(refused, BackupError::Exists { .. }), "{refused}");
    db.close().await;
}

#[tokio::test]
async fn a_running_server_is_not_restored_over() {
    let (site, backup) = backed_up().await;
    let db = open(&site.path).await;
    let refused = restore(&backup, &site.path, true).await.unwrap_err();
    assert!(
        matches!(refused, RestoreError::Refused(OpenError::InUse { .. })),
        "{refused:?}"
    );
    db.close().await;
}

#[tokio::test]
async fn a_damaged_or_foreign_backup_changes_nothing() {
    let (site, backup) = backed_up().await;
    let good = fs::read(&backup).unwrap();
    let mut noise = good.clone();
    noise[4096 * 3..]
        .iter_mut()
        .step_by(5)
        .for_each(|byte| *byte ^= 0x33);
    let empty: &[u8] = &[];
    for (name, bytes) in [
        ("noise", noise.as_slice()),
        ("cut", &good[..good.len() / 2]),
        ("text", b"a letter to my aunt".as_slice()),
        ("empty", empty),
    ] {
        let bad = site.file(name);
        fs::write(&bad, bytes).unwrap();
        let refused = restore(&bad, &site.path, true).await.unwrap_err();
        assert!(
            matches!(
                refused,
                RestoreError::Refused(OpenError::Corrupt { .. }) | RestoreError::Empty { .. }
            ),
            "{name}: {refused:?}"
        );
    }
    let missing = restore(&site.file("nowhere"), &site.path, true)
        .await
        .unwrap_err();
    assert!(matches!(missing, RestoreError::Missing { .. }), "{missing}");
    let db = open(&site.path).await;
    assert_eq!(mark(&db).await.as_deref(), Some("new"));
    db.close().await;
}

/// The power fails between two of the moves at the end of a restore.
#[tokio::test]
async fn an_interrupted_restore_is_not_mistaken_for_an_empty_server() {
    let (site, backup) = backed_up().await;
    let ready = site.file("farrier.db.restoring");
    fs::copy(&backup, &ready).unwrap();
    fs::rename(&site.path, site.file("farrier.db.replaced")).unwrap();

    let refused = Db::open(&site.path, Options::default()).await.unwrap_err();
    assert!(
        matches!(refused, OpenError::RestoreUnfinished { .. }),
        "{refused:?}"
    );
    assert!(!site.path.exists(), "an empty database was made");

    restore(&backup, &site.path, false).await.unwrap();
    let db = open(&site.path).await;
    assert_eq!(mark(&db).await.as_deref(), Some("old"));
    db.close().await;
}

/// A log that is left of the replaced database must never be played into the restored one.
#[tokio::test]
async fn the_log_of_a_killed_server_leaves_with_its_database() {
    let (site, backup) = backed_up().await;
    let db = open(&site.path).await;
    db.set_value("mark", "newest").await.unwrap();
    // What a killed server leaves: the file and its log, taken while both are open.
    let killed = Site::new();
    fs::copy(&site.path, &killed.path).unwrap();
    fs::copy(site.file("farrier.db-wal"), killed.file("farrier.db-wal")).unwrap();
    db.close().await;

    let restored = restore(&backup, &killed.path, true).await.unwrap();
    let db = open(&killed.path).await;
    assert_eq!(mark(&db).await.as_deref(), Some("old"));
    db.close().await;
    let replaced = open(&restored.replaced.unwrap()).await;
    assert_eq!(
        mark(&replaced).await.as_deref(),
        Some("newest"),
        "its log belongs to it"
    );
    replaced.close().await;
}

#[tokio::test]
async fn a_backup_under_load_is_consistent() {
    let site = Site::new();
    let db = open(&site.path).await;
    let writer = tokio::spawn({
        let db = db.clone();
        async move {
            for n in 0..400 {
                db.set_value("first", &n.to_string()).await.unwrap();
                db.set_value("second", &n.to_string()).await.unwrap();
            }
        }
    });
    for n in 0..3 {
        let copy = site.file(&format!("copy-{n}"));
        backup_file(&site.path, &copy).await.unwrap();
        let copied = open(&copy).await;
        let number = async |key| -> i64 {
            copied
                .value(key)
                .await
                .unwrap()
                .map_or(-1, |text| text.parse().unwrap())
        };
        let (first, second) = (number("first").await, number("second").await);
        assert!(first == second || first == second + 1, "{first} {second}");
        copied.close().await;
    }
    writer.await.unwrap();
    db.close().await;
}

#[tokio::test]
async fn a_backup_is_private_and_leaves_no_pieces() {
    use std::os::unix::fs::PermissionsExt;
    let (site, backup) = backed_up().await;
    assert_eq!(
        fs::metadata(&backup).unwrap().permissions().mode() & 0o077,
        0
    );
    let db = open(&site.path).await;
    let refused = db.backup(&site.file("no/such/folder")).await.unwrap_err();
    assert!(matches!(refused, BackupError::Write { .. }), "{refused:?}");
    assert!(refused.retry_helps());
    db.close().await;
    let pieces: Vec<_> = fs::read_dir(site.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name.to_string_lossy().contains(".part"))
        .collect();
    assert!(pieces.is_empty(), "{pieces:?}");
}
