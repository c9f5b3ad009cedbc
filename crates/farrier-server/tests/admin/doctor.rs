//! What `farrier doctor` says of the server's own things when they are broken: which one it is, and what to do.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use farrier_api::admin::{Check, Verdict};
use farrier_engine::model::{FirmwareKind, Role};
use farrier_engine::task::State;
use farrier_server::auth::{Principal, Via};
use farrier_server::service::Desk;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose};
use time::{Duration, OffsetDateTime};

use crate::site::{SmallDisk, add_ipxe, ipxe};
use crate::world::{World, empty, fresh, task, world};

async fn checks(world: &World) -> Vec<Check> {
    let who = Principal {
        name: "ada".to_owned(),
        role: Role::Admin,
        via: Via::Local,
        from: None,
    };
    let desk = Desk::new(Arc::clone(&world.core), who);
    desk.doctor().await.unwrap().checks
}

/// What is said under this name, as one line.
async fn said(world: &World, name: &str) -> (Verdict, String) {
    let checks = checks(world).await;
    let mut of_name = checks.iter().filter(|check| check.name == name);
    let check = of_name
        .next()
        .unwrap_or_else(|| panic!("no {name} among {checks:?}"));
    let remedy = check.remedy.as_deref().unwrap_or_default();
    (check.verdict, format!("{}; {remedy}", check.found))
}

/// It is in the state `verdict`, and all of `words` are said of it.
#[track_caller]
fn holds((found, text): &(Verdict, String), verdict: Verdict, words: &[&str]) {
    assert_eq!(*found, verdict, "{text}");
    for word in words {
        assert!(text.contains(word), "no {word:?} in {text:?}");
    }
}

#[tokio::test]
async fn f12_doctor_names_what_is_in_order_too() {
    let world = fresh().await;
    add_ipxe(&world.core);
    let database = world.core.db.path().display().to_string();
    for (name, word) in [
        ("database", database.as_str()),
        ("clock", "plausible"),
        ("certificates", "more days"),
        ("loaders", "2 in the catalogue"),
        ("agents", "no task"),
        ("warnings", "none"),
    ] {
        holds(&said(&world, name).await, Verdict::Good, &[word]);
    }
    let with_remedy = checks(&world).await.into_iter().find(|check| {
        let is_good = check.verdict == Verdict::Good;
        is_good && check.remedy.is_some()
    });
    assert_eq!(with_remedy, None);
}

#[tokio::test]
async fn f12_doctor_tells_little_space_and_a_full_disk_by_the_database() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join("site");
    let Some(small) = SmallDisk::mount(&folder, 32 << 20) else {
        return;
    };
    let world = empty(&folder).await;
    let store = said(&world, "image store").await;
    holds(
        &store,
        Verdict::Warning,
        &["MiB free", "farrier image prune"],
    );
    holds(&said(&world, "database").await, Verdict::Good, &[]);

    small.fill();
    let store = said(&world, "image store").await;
    holds(
        &store,
        Verdict::Warning,
        &["0 B free", "farrier image prune"],
    );
    // What the journal has room for already still goes through.
    let mut database = said(&world, "database").await;
    for _ in 0..600 {
        if database.0 != Verdict::Good {
            break;
        }
        database = said(&world, "database").await;
    }
    let words = ["free space", "farrier db restore"];
    holds(&database, Verdict::Bad, &words);
    small.empty();
    holds(&said(&world, "database").await, Verdict::Good, &[]);
}

#[tokio::test]
async fn f12_doctor_tells_a_database_that_cannot_be_read_and_checks_the_rest_all_the_same() {
    let world = fresh().await;
    add_ipxe(&world.core);
    // Its readers are gone at once; the rest waits for the last user, which is the server.
    let closing = world.core.db.clone().close();
    let patience = std::time::Duration::from_millis(500);
    let _ = tokio::time::timeout(patience, closing).await;
    let words = ["see the check of the database"];
    holds(&said(&world, "warnings").await, Verdict::Bad, &words);
    for name in ["loaders", "clock", "certificates"] {
        holds(&said(&world, name).await, Verdict::Good, &[]);
    }
}

#[tokio::test]
async fn f12_doctor_names_loaders_that_were_deleted_or_changed_behind_the_servers_back() {
    let world = fresh().await;
    let import = "farrier loader import";
    let none = said(&world, "loaders").await;
    holds(&none, Verdict::Bad, &["there are none", import]);
    add_ipxe(&world.core);
    holds(&said(&world, "loaders").await, Verdict::Good, &[]);

    // Behind the back of a server that has both of them in memory by now.
    let folder = world.core.config.loaders();
    let file = |id: &str, name: &str, firmware| folder.join(ipxe(id, name, firmware).0.sha256);
    let bios = file("undionly", "undionly.kpxe", FirmwareKind::Bios);
    let uefi = file("snponly", "snponly.efi", FirmwareKind::Uefi);
    fs::remove_file(&bios).unwrap();
    let deleted = said(&world, "loaders").await;
    holds(&deleted, Verdict::Bad, &["undionly", import]);
    assert!(!deleted.1.contains("snponly"), "{}", deleted.1);
    fs::write(&uefi, "the bytes of somebody else").unwrap();
    let changed = said(&world, "loaders").await;
    holds(&changed, Verdict::Bad, &["undionly", "snponly", import]);

    add_ipxe(&world.core);
    holds(&said(&world, "loaders").await, Verdict::Good, &[]);
}

/// A root as the server makes it, that ends in so many days.
fn root_for(folder: &Path, days: i64) {
    let key = KeyPair::generate().unwrap();
    let mut root = CertificateParams::default();
    root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    root.not_after = OffsetDateTime::now_utc() + Duration::days(days);
    let root = root.self_signed(&key).unwrap();
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("root.key"), key.serialize_pem()).unwrap();
    fs::write(folder.join("root.pem"), root.pem()).unwrap();
}

#[tokio::test]
async fn f12_doctor_tells_the_days_of_a_root_certificate_that_ends_soon() {
    for (days, verdict, words) in [
        (30, Verdict::Bad, ["ends in 29 days", "ca folder"]),
        (90, Verdict::Good, ["89 more days", ""]),
    ] {
        let data = tempfile::tempdir().unwrap();
        root_for(&data.path().join("ca"), days);
        let world = empty(data.path()).await;
        holds(&said(&world, "certificates").await, verdict, &words);
    }
}

#[tokio::test]
async fn f12_doctor_counts_silent_agents_and_warnings() {
    let world = world().await;
    task(&world.core, world.machine, State::Lost).await;
    let agents = said(&world, "agents").await;
    let words = ["1 task(s)", "farrier task list --state lost"];
    holds(&agents, Verdict::Warning, &words);
    let warnings = said(&world, "warnings").await;
    let words = ["10.0.0.9", "dashboard"];
    holds(&warnings, Verdict::Warning, &words);
}
