//! `farrier image` as people type it, against a server on loopback: the program that is shipped, its exit codes and
//! both of its outputs.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use farrier_server::ca;
use farrier_server::config::Config;
use farrier_server::http::admin;
use farrier_server::http::serve::{Limits, serve};
use farrier_server::run;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// The admin plane of a server, and where its files are.
struct Server {
    at: SocketAddr,
    folder: TempDir,
    _stop: watch::Sender<bool>,
}

/// How a command ended.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    data: String,
    talk: String,
}

impl Server {
    async fn start() -> Self {
        run::install_crypto();
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let at = listener.local_addr().unwrap();
        let text = format!(
            "data_dir = \"{}\"\n[admin]\nlisten = \"{at}\"\n[[interface]]\nname = \"lo\"\n",
            data.display()
        );
        let (core, _storing) = run::open(Config::parse(&text).unwrap()).await.unwrap();
        let tls = core.ca.admin_tls(&ca::names([at.ip()], &[])).unwrap();
        let limits = Limits {
            total: 64,
            per_address: 64,
            bodies: 256 << 20,
        };
        let (stop, stopped) = watch::channel(false);
        let plane = admin::router(Arc::clone(&core));
        tokio::spawn(serve(listener, Some(tls), plane, limits, stopped));
        Self {
            at,
            folder,
            _stop: stop,
        }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Types `farrier image` with these words, as the owner of the data folder.
    fn image(&self, words: &[&str]) -> Ended {
        let ended = Command::new(env!("CARGO_BIN_EXE_farrier"))
            .arg("image")
            .args(words)
            .arg("--server")
            .arg(format!("https://{}", self.at))
            .arg("--data")
            .arg(self.data())
            .env("HOME", self.folder.path())
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("FARRIER_TOKEN")
            .env_remove("FARRIER_CA")
            .output()
            .unwrap();
        Ended {
            code: ended.status.code(),
            data: String::from_utf8(ended.stdout).unwrap(),
            talk: String::from_utf8(ended.stderr).unwrap(),
        }
    }

    /// The same, where it is done.
    #[track_caller]
    fn done(&self, words: &[&str]) -> String {
        let ended = self.image(words);
        assert_eq!(ended.code, Some(0), "{words:?}: {ended:?}");
        ended.data
    }

    /// The same, where it is refused.
    #[track_caller]
    fn refused(&self, words: &[&str]) -> Ended {
        let ended = self.image(words);
        assert_eq!(ended.code, Some(1), "{words:?}: {ended:?}");
        ended
    }

    /// Everything below the folder of images, to be compared.
    fn stored(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        collect(&self.data().join("images"), &mut found);
        found.sort();
        found
    }
}

fn collect(folder: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else {
            let content = fs::read(&path).unwrap();
            found.push((path, content));
        }
    }
}

/// A disk without partitions: bytes that do not compress, with a hole that reads as zeros.
fn disk(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut content: Vec<u8> = (0..(2 << 20) / 8).flat_map(|_| next()).collect();
    content[1 << 19..1 << 20].fill(0);
    content
}

/// The line of a table that begins with these cells.
fn has_row(table: &str, cells: &[&str]) -> bool {
    table.lines().any(|line| {
        let mut found = line.split_whitespace();
        cells.iter().all(|cell| found.next() == Some(*cell))
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_file_is_imported_looked_at_verified_exported_and_deleted() {
    let server = Server::start().await;
    let (first, second) = (disk(5), disk(7));
    let raw = server.file("disk.raw");
    for (content, version) in [(&first, 1), (&second, 2)] {
        fs::write(&raw, content).unwrap();
        let said = server.done(&["import", &raw, "--as", "lab"]);
        assert!(
            said.starts_with(&format!("lab version {version} ")),
            "{said}"
        );
    }

    let list = server.done(&["list"]);
    for version in ["1", "2"] {
        assert!(has_row(&list, &["lab", version]), "{list}");
    }
    assert!(list.contains("file disk.raw"), "{list}");
    let shown = server.done(&["show", "lab"]);
    assert!(
        has_row(&shown, &["1"]) && has_row(&shown, &["2"]),
        "{shown}"
    );
    let shown = server.done(&["show", "lab", "--version", "1"]);
    assert!(
        has_row(&shown, &["image:", "lab", "version", "1"]),
        "{shown}"
    );
    assert!(has_row(&shown, &["table:", "none"]), "{shown}");
    let none = server.refused(&["show", "lab", "--version", "3"]);
    assert!(none.talk.contains('3'), "{none:?}");
    let said = server.done(&["verify", "lab"]);
    assert!(said.contains("chunks read, 0 bad"), "{said}");

    for (content, version) in [(&first, "1"), (&second, "2")] {
        let to = server.file(&format!("{version}.raw"));
        server.done(&["export", "lab", "--version", version, "--to", &to]);
        assert!(fs::read(&to).unwrap() == *content, "byte for byte");
        let again = server.refused(&["export", "lab", "--to", &to]);
        assert!(again.talk.contains("exists already"), "{again:?}");
    }

    let delete = ["delete", "lab", "--version", "1"];
    let plan = server.refused(&delete);
    assert!(plan.data.contains("Delete the image lab"), "{plan:?}");
    assert!(plan.talk.contains("--yes"), "{plan:?}");
    assert!(has_row(&server.done(&["list"]), &["lab", "1"]));
    server.done(&[&delete[..], &["--yes"]].concat());
    let list = server.done(&["list"]);
    assert!(!has_row(&list, &["lab", "1"]), "{list}");
    assert!(has_row(&list, &["lab", "2"]), "{list}");
}

/// What was deleted just now stays for the grace time of captures, and the plan says so; what a version needs stays
/// for good.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prune_is_a_plan_until_it_is_confirmed_and_takes_nothing_that_is_needed() {
    let server = Server::start().await;
    let raw = server.file("disk.raw");
    for seed in [5, 7] {
        fs::write(&raw, disk(seed)).unwrap();
        server.done(&["import", &raw, "--as", "lab"]);
    }
    server.done(&["delete", "lab", "--version", "1", "--yes"]);

    let before = server.stored();
    let plan = server.refused(&["prune"]);
    assert!(plan.data.contains("Remove chunks"), "{plan:?}");
    assert!(plan.data.contains("stay for now"), "{plan:?}");
    assert!(plan.talk.contains("nothing was done"), "{plan:?}");
    assert!(server.stored() == before, "a plan changes nothing");

    let said = server.done(&["prune", "--yes"]);
    assert!(said.contains("pruned"), "{said}");
    let said = server.done(&["verify", "lab"]);
    assert!(said.contains(" 0 bad"), "{said}");
    let to = server.file("again.raw");
    server.done(&["export", "lab", "--to", &to]);
    assert!(fs::read(&to).unwrap() == disk(7), "byte for byte");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t14_damage_is_found_by_verify_and_never_exported() {
    let server = Server::start().await;
    let raw = server.file("disk.raw");
    fs::write(&raw, disk(5)).unwrap();
    server.done(&["import", &raw, "--as", "lab"]);
    let (pack, mut content) = server
        .stored()
        .into_iter()
        .max_by_key(|(_, content)| content.len())
        .unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 4;
    fs::write(&pack, content).unwrap();

    let found = server.refused(&["verify", "lab"]);
    assert!(found.data.contains(" 1 bad"), "{found:?}");
    for words in ["1 chunks of lab", "capture or import the image again"] {
        assert!(found.talk.contains(words), "{found:?}");
    }
    let to = server.file("out.raw");
    let refused = server.image(&["export", "lab", "--to", &to]);
    assert_ne!(refused.code, Some(0), "{refused:?}");
    assert!(!Path::new(&to).exists(), "what is not whole is no disk");

    // The remedy: what is the same heals the store.
    server.done(&["import", &raw, "--as", "lab"]);
    server.done(&["verify", "lab"]);
    server.done(&["export", "lab", "--to", &to]);
    assert!(fs::read(&to).unwrap() == disk(5), "byte for byte");
}
