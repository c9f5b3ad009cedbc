//! Which files are believed, which are refused, and what the refusal says.

use std::fs;
use std::path::{Path, PathBuf};

use farrier_db::{Db, DbError, Fault, OpenError, Options};
use farrier_engine::lease::{Lease, LeaseState};
use farrier_engine::{MacAddr, WallTime};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection, Executor};

struct Site {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

fn site() -> Site {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("farrier.db");
    Site {
        _folder: folder,
        path,
    }
}

async fn open(path: &Path) -> Result<Db, OpenError> {
    Db::open(path, Options::default()).await
}

async fn sql(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new()
        .filename(path)
        .foreign_keys(false)
        .connect()
        .await
        .unwrap()
}

fn lease(n: u32) -> Lease {
    Lease {
        ip: n.into(),
        mac: MacAddr([2, 0, 0, 0, 0, 1]),
        client_id: None,
        hostname: Some("x".repeat(200)),
        state: LeaseState::Active,
        starts: WallTime(0),
        ends: WallTime(1),
    }
}

/// A closed database with some pages of leases.
async fn filled() -> Site {
    let site = site();
    let db = open(&site.path).await.unwrap();
    for batch in 0..4 {
        let writes: Vec<_> = (0..100)
            .map(|n| {
                let db = db.clone();
                tokio::spawn(async move { db.save_lease(&lease(batch * 100 + n)).await.unwrap() })
            })
            .collect();
        for write in writes {
            write.await.unwrap();
        }
    }
    db.close().await;
    site
}

fn sibling(path: &Path, ending: &str) -> PathBuf {
    format!("{}{ending}", path.display()).into()
}

#[tokio::test]
async fn what_was_stored_is_there_after_reopening() {
    let site = filled().await;
    let db = open(&site.path).await.unwrap();
    assert_eq!(db.all_leases().await.unwrap().len(), 400);
    db.close().await;
    assert!(
        !sibling(&site.path, "-wal").exists(),
        "a clean end leaves no log behind"
    );
}

#[tokio::test]
async fn the_file_is_for_the_server_only() {
    use std::os::unix::fs::PermissionsExt;
    let site = site();
    let db = open(&site.path).await.unwrap();
    db.save_lease(&lease(1)).await.unwrap();
    for ending in ["", "-wal", "-shm", ".lock"] {
        let mode = fs::metadata(sibling(&site.path, ending))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o077, 0, "{ending}: {mode:o}");
    }
    db.close().await;
}

#[tokio::test]
async fn r14_a_second_server_is_refused() {
    let site = site();
    let db = open(&site.path).await.unwrap();
    let refused = open(&site.path).await.unwrap_err();
    assert!(matches!(refused, OpenError::InUse { .. }), "{refused}");
    assert!(
        refused.to_string().ends_with("stop that one first"),
        "{refused}"
    );
    db.close().await;
    open(&site.path).await.unwrap().close().await;
}

#[tokio::test]
async fn r15_a_newer_schema_is_refused_and_left_alone() {
    let site = filled().await;
    let mut conn = sql(&site.path).await;
    conn.execute(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'future', 1, x'00', 0)",
    )
    .await
    .unwrap();
    conn.close().await.unwrap();
    let before = fs::read(&site.path).unwrap();
    let refused = open(&site.path).await.unwrap_err();
    assert!(
        matches!(refused, OpenError::Newer { found: 9999, .. }),
        "{refused}"
    );
    assert!(
        refused.to_string().contains("install that version"),
        "{refused}"
    );
    assert!(!refused.retry_helps());
    assert!(
        fs::read(&site.path).unwrap() == before,
        "the file was changed"
    );
}

#[tokio::test]
async fn r15_an_older_schema_is_backed_up_and_brought_up_to_date() {
    let site = filled().await;
    take_back_to_first_schema(&site.path).await;

    let db = open(&site.path).await.unwrap();
    assert_eq!(db.all_leases().await.unwrap().len(), 400);
    assert_eq!(db.users().await.unwrap(), []);
    db.close().await;

    let backup = sibling(&site.path, ".schema-1.backup");
    let mut conn = sql(&backup).await;
    let (leases,): (i64,) = sqlx::query_as("SELECT count(*) FROM lease")
        .fetch_one(&mut conn)
        .await
        .unwrap();
    let (version,): (i64,) = sqlx::query_as("SELECT max(version) FROM _sqlx_migrations")
        .fetch_one(&mut conn)
        .await
        .unwrap();
    assert_eq!((leases, version), (400, 1));
}

#[tokio::test]
async fn r15_a_failed_upgrade_leaves_the_old_data_and_names_the_backup() {
    let site = filled().await;
    take_back_to_first_schema(&site.path).await;
    let mut conn = sql(&site.path).await;
    // Stands in the way of the second migration.
    conn.execute("CREATE TABLE audit (x)").await.unwrap();
    conn.close().await.unwrap();

    let failed = open(&site.path).await.unwrap_err();
    let backup = sibling(&site.path, ".schema-1.backup");
    assert!(
        matches!(&failed, OpenError::Migrate { backup: Some(b), .. } if *b == backup),
        "{failed:?}"
    );
    assert!(
        failed.to_string().contains(backup.to_str().unwrap()),
        "{failed}"
    );

    let mut conn = sql(&site.path).await;
    let (leases,): (i64,) = sqlx::query_as("SELECT count(*) FROM lease")
        .fetch_one(&mut conn)
        .await
        .unwrap();
    let (half,): (i64,) =
        sqlx::query_as("SELECT count(*) FROM sqlite_schema WHERE name = 'person'")
            .fetch_one(&mut conn)
            .await
            .unwrap();
    assert_eq!((leases, half), (400, 0), "a migration is whole or absent");
    conn.execute("DROP TABLE audit").await.unwrap();
    conn.close().await.unwrap();
    open(&site.path).await.unwrap().close().await;
}

/// Undoes the later migrations by hand, as if their releases had never run.
async fn take_back_to_first_schema(path: &Path) {
    let mut conn = sql(path).await;
    for undo in [
        "DROP TRIGGER model_after_change",
        "DROP TRIGGER model_after_end",
        "DROP INDEX machine_by_model",
        "ALTER TABLE machine DROP COLUMN model",
        "ALTER TABLE machine DROP COLUMN marks",
        "DROP TABLE model",
    ] {
        conn.execute(undo).await.unwrap();
    }
    for table in [
        "boot_token",
        "agent_session",
        "web_session",
        "person",
        "api_token",
        "setup_token",
        "audit",
        "policy_book",
        "agent_start",
    ] {
        conn.execute(sqlx::AssertSqlSafe(format!("DROP TABLE {table}")))
            .await
            .unwrap();
    }
    conn.execute("CREATE TABLE loader (id TEXT NOT NULL PRIMARY KEY, doc TEXT NOT NULL) STRICT")
        .await
        .unwrap();
    conn.execute("DELETE FROM _sqlx_migrations WHERE version > 1")
        .await
        .unwrap();
    conn.close().await.unwrap();
}

#[tokio::test]
async fn a_foreign_database_is_refused_and_left_alone() {
    let site = site();
    let mut conn = SqliteConnectOptions::new()
        .filename(&site.path)
        .create_if_missing(true)
        .connect()
        .await
        .unwrap();
    conn.execute("CREATE TABLE music (title)").await.unwrap();
    conn.close().await.unwrap();
    let before = fs::read(&site.path).unwrap();
    let refused = open(&site.path).await.unwrap_err();
    assert!(matches!(refused, OpenError::Foreign { .. }), "{refused}");
    assert!(
        fs::read(&site.path).unwrap() == before,
        "the file was changed"
    );
}

/// Harms a file, whose pages have the size given.
type Damage = fn(&mut Vec<u8>, usize);

#[tokio::test]
async fn a_corrupt_file_is_refused_with_what_to_do() {
    let good = fs::read(&filled().await.path).unwrap();
    let page = 4096;
    let damages: [(&str, Damage); 4] = [
        ("text instead of a database", |bytes, _| {
            *bytes = b"once upon a time ".repeat(1000)
        }),
        ("a cut file", |bytes, page| bytes.truncate(page * 3 + 100)),
        ("pages of noise", |bytes, page| {
            bytes[page * 2..]
                .iter_mut()
                .step_by(3)
                .for_each(|b| *b ^= 0x5a)
        }),
        ("pages of zeros", |bytes, page| bytes[page..].fill(0)),
    ];
    for (name, damage) in damages {
        let site = site();
        let mut bytes = good.clone();
        damage(&mut bytes, page);
        fs::write(&site.path, &bytes).unwrap();
        let refused = open(&site.path).await.expect_err(name);
        assert!(
            matches!(refused, OpenError::Corrupt { .. }),
            "{name}: {refused:?}"
        );
        assert!(
            refused
                .to_string()
                .ends_with("restore a backup with `farrier db restore`"),
            "{name}: {refused}"
        );
        assert!(!refused.retry_helps(), "{name}");
        assert!(
            fs::read(&site.path).unwrap() == bytes,
            "{name}: the evidence was changed"
        );
    }
}

#[tokio::test]
async fn damage_found_while_running_is_told_apart() {
    let site = filled().await;
    let mut bytes = fs::read(&site.path).unwrap();
    let mut conn = sql(&site.path).await;
    let (root,): (i64,) = sqlx::query_as("SELECT rootpage FROM sqlite_schema WHERE name = 'lease'")
        .fetch_one(&mut conn)
        .await
        .unwrap();
    conn.close().await.unwrap();
    let start = (usize::try_from(root).unwrap() - 1) * 4096;
    bytes[start..start + 4096].fill(0xee);
    fs::write(&site.path, bytes).unwrap();

    let db = Db::open(
        &site.path,
        Options {
            check: false,
            ..Options::default()
        },
    )
    .await
    .unwrap();
    let error = db.all_leases().await.unwrap_err();
    assert_eq!(error.fault(), Some(Fault::Corrupt), "{error}");
    let error = db.save_lease(&lease(1)).await.unwrap_err();
    assert_eq!(error.fault(), Some(Fault::Corrupt), "{error}");
    // The rest goes on.
    db.set_value("k", "v").await.unwrap();
    assert_eq!(db.value("k").await.unwrap().as_deref(), Some("v"));
    db.close().await;
}

#[tokio::test]
async fn a_missing_folder_is_named() {
    let site = site();
    let path = site.path.join("nowhere/farrier.db");
    let refused = open(&path).await.unwrap_err();
    assert!(matches!(refused, OpenError::Prepare { .. }), "{refused:?}");
    assert!(refused.to_string().contains("create it"), "{refused}");
}

#[tokio::test]
async fn a_closed_database_says_so() {
    let site = site();
    let db = open(&site.path).await.unwrap();
    let late = db.clone();
    let closing = tokio::spawn(db.close());
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let error = late.all_leases().await.unwrap_err();
    assert!(matches!(error, DbError::Closed), "{error:?}");
    drop(late);
    closing.await.unwrap();
}
