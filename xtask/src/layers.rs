//! Who may depend on whom, and what the pure crates must not touch.
//!
//! `conventions`: the wire and the engine never wait, never read a clock, never see a socket or a file. A dependency
//! that brings a runtime in is refused by its name; code that uses the standard library for it, by a scan of the source.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use farrier_e2e::{
    command::{command, run as run_command},
    report::say,
};
use serde_json::Value;

use crate::build;

/// Which of our crates a crate may name among its dependencies. What is not listed is refused.
const ARROWS: &[(&str, &[&str])] = &[
    (
        "farrier",
        &[
            "farrier-server",
            "farrier-api",
            "farrier-db",
            "farrier-image",
            "farrier-proto",
        ],
    ),
    (
        "farrier-server",
        &[
            "farrier-api",
            "farrier-db",
            "farrier-engine",
            "farrier-image",
            "farrier-net",
            "farrier-proto",
        ],
    ),
    (
        "farrier-agent",
        &[
            "farrier-api",
            "farrier-image",
            "farrier-net",
            "farrier-proto",
        ],
    ),
    ("farrier-db", &["farrier-engine"]),
    ("farrier-engine", &["farrier-proto"]),
    ("farrier-net", &["farrier-proto"]),
    ("farrier-image", &[]),
    ("farrier-api", &[]),
    ("farrier-proto", &[]),
    (
        "farrier-testkit",
        &["farrier-proto", "farrier-engine", "farrier-image"],
    ),
    ("farrier-e2e", &["farrier-api"]),
    ("xtask", &["farrier-e2e"]),
];

/// Which crate may be used by tests only.
const TESTS_ONLY: &str = "farrier-testkit";

/// Crates without runtime, socket, file and clock.
const PURE: &[&str] = &["farrier-proto", "farrier-engine"];

/// Dependencies that would end a pure crate's purity.
const IMPURE: &[&str] = &[
    "async-std",
    "axum",
    "chrono",
    "getrandom",
    "hyper",
    "jiff",
    "log",
    "mio",
    "nix",
    "object_store",
    "parking_lot",
    "rand",
    "reqwest",
    "rusqlite",
    "rustix",
    "rustls",
    "smol",
    "socket2",
    "sqlx",
    "time",
    "tokio",
    "tower",
    "tracing-subscriber",
];

/// Direct dependencies that a pure crate may have.
const PURE_DEPENDENCIES: usize = 8;

/// Packages in the lock file.
const LOCKED: usize = 400;

/// Words of the standard library that a pure crate must not use.
const IMPURE_WORDS: &[&str] = &[
    "std::net::TcpStream",
    "std::net::TcpListener",
    "std::net::UdpSocket",
    "std::net::ToSocketAddrs",
    "UdpSocket",
    "TcpStream",
    "std::fs",
    "std::env",
    "std::thread",
    "std::process",
    "std::io::std",
    "Instant::now",
    "SystemTime",
    "thread_local!",
    "std::sync::Mutex",
    "std::sync::RwLock",
    "println!",
    "eprintln!",
];

/// A package with the names of its direct dependencies.
#[derive(Debug, Clone, Default)]
struct Package {
    name: String,
    folder: PathBuf,
    normal: BTreeSet<String>,
    tests: BTreeSet<String>,
}

/// Checks the workspace and lists every fault.
pub(crate) fn run() -> Result<()> {
    let workspace = build::workspace()?;
    let mut cargo = command(
        "cargo",
        ["metadata", "--format-version=1", "--no-deps", "--locked"],
    );
    let metadata = run_command(cargo.current_dir(&workspace))
        .context("cannot read the workspace's dependencies")?;
    let metadata = serde_json::from_str(&metadata).context("cargo's metadata is no JSON")?;
    let packages = packages(&metadata)?;
    let mut faults = arrows(&packages);
    faults.extend(purity(&packages));
    for package in packages
        .iter()
        .filter(|package| PURE.contains(&package.name.as_str()))
    {
        faults.extend(scan(&package.folder.join("src"))?);
    }
    let lock =
        fs::read_to_string(workspace.join("Cargo.lock")).context("cannot read Cargo.lock")?;
    faults.extend(too_many_locked(&lock));
    if !faults.is_empty() {
        bail!("the layers are broken:\n  {}", faults.join("\n  "));
    }
    say(&format!(
        "layers: {} packages, every arrow allowed, {} crates pure",
        packages.len(),
        PURE.len()
    ));
    Ok(())
}

fn packages(metadata: &Value) -> Result<Vec<Package>> {
    let list = metadata["packages"]
        .as_array()
        .context("cargo's metadata names no packages")?;
    list.iter().map(package).collect()
}

fn package(value: &Value) -> Result<Package> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let manifest = text(&value["manifest_path"]).context("a package without manifest")?;
    let mut package = Package {
        name: text(&value["name"]).context("a package without name")?,
        folder: Path::new(&manifest)
            .parent()
            .context("a manifest without folder")?
            .to_path_buf(),
        ..Package::default()
    };
    for dependency in value["dependencies"]
        .as_array()
        .context("a package without dependencies")?
    {
        let name = text(&dependency["name"]).context("a dependency without name")?;
        let tests = dependency["kind"].as_str() == Some("dev");
        if tests {
            package.tests.insert(name)
        } else {
            package.normal.insert(name)
        };
    }
    Ok(package)
}

fn arrows(packages: &[Package]) -> Vec<String> {
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let own: BTreeSet<&str> = packages
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    let mut faults = Vec::new();
    for package in packages {
        let Some(may_use) = allowed.get(package.name.as_str()) else {
            faults.push(format!(
                "{} has no row in the table of arrows (xtask/src/layers.rs)",
                package.name
            ));
            continue;
        };
        for name in package
            .normal
            .iter()
            .filter(|name| own.contains(name.as_str()))
        {
            if name == TESTS_ONLY || !may_use.contains(&name.as_str()) {
                faults.push(format!("{} must not depend on {name}", package.name));
            }
        }
        for name in package
            .tests
            .iter()
            .filter(|name| own.contains(name.as_str()))
        {
            if name != TESTS_ONLY && !may_use.contains(&name.as_str()) {
                faults.push(format!(
                    "{} must not depend on {name}, not even in tests",
                    package.name
                ));
            }
        }
    }
    faults
}

fn purity(packages: &[Package]) -> Vec<String> {
    let mut faults = Vec::new();
    for package in packages
        .iter()
        .filter(|package| PURE.contains(&package.name.as_str()))
    {
        for name in package
            .normal
            .iter()
            .filter(|name| IMPURE.contains(&name.as_str()))
        {
            faults.push(format!(
                "{} is pure and must not depend on {name}",
                package.name
            ));
        }
        if package.normal.len() > PURE_DEPENDENCIES {
            faults.push(format!(
                "{} has {} direct dependencies; a pure crate may have {PURE_DEPENDENCIES}",
                package.name,
                package.normal.len()
            ));
        }
    }
    faults
}

fn too_many_locked(lock: &str) -> Option<String> {
    let count = lock.lines().filter(|line| *line == "[[package]]").count();
    (count > LOCKED).then(|| {
        format!(
            "Cargo.lock holds {count} packages and may hold {LOCKED}; drop one before adding one"
        )
    })
}

fn scan(folder: &Path) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for entry in
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?
    {
        let path = entry.context("cannot read the source")?.path();
        if path.is_dir() {
            faults.extend(scan(&path)?);
        } else if path.extension().is_some_and(|end| end == "rs") && !is_test_file(&path) {
            let text = fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            faults.extend(impure_lines(&text).into_iter().map(|(line, word)| {
                format!(
                    "{}:{line}: a pure crate must not use `{word}`; take it as an argument",
                    path.display()
                )
            }));
        }
    }
    Ok(faults)
}

fn is_test_file(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "tests.rs")
        || path.components().any(|part| part.as_os_str() == "tests")
}

/// Lines of code, tests and comments excepted, that name what a pure crate must not use.
fn impure_lines(text: &str) -> Vec<(usize, &'static str)> {
    let code = text
        .lines()
        .take_while(|line| !line.trim_start().starts_with("#[cfg(test)]"));
    let mut found = Vec::new();
    for (number, line) in (1..).zip(code) {
        let line = line.split("//").next().unwrap_or_default();
        found.extend(
            IMPURE_WORDS
                .iter()
                .find(|word| line.contains(**word))
                .map(|word| (number, *word)),
        );
    }
    found
}

#[cfg(test)]
mod tests;
