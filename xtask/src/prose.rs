//! Checks what the documents claim against the tree: tests that exist, rows that are complete, paths that are there.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::build::workspace;

const CAPABILITIES: &str = "docs/capabilities.md";
/// Rows of each family of capabilities.
const FAMILIES: [(&str, u32); 6] = [
    ("T", 23),
    ("Z", 28),
    ("F", 12),
    ("L", 11),
    ("R", 18),
    ("X", 5),
];

/// Reports everything that is wrong at once.
pub(crate) fn run() -> Result<()> {
    let root = workspace()?;
    let read = |name: &str| {
        fs::read_to_string(root.join(name)).with_context(|| format!("cannot read {name}"))
    };
    let tests = TestNames::of(&root)?;
    let mut faults = Vec::new();
    for name in [CAPABILITIES, "docs/operations/threat-model.md"] {
        faults.extend(
            missing_tests(&read(name)?, &tests)
                .into_iter()
                .map(|test| format!("{name}: there is no test {test}")),
        );
    }
    faults.extend(capability_faults(&read(CAPABILITIES)?));
    faults.extend(missing_paths(&root, &read("ARCHITECTURE.md")?));
    for (name, most) in [("README.md", 150), ("ARCHITECTURE.md", 250)] {
        let lines = read(name)?.lines().count();
        if lines > most {
            faults.push(format!("{name} has {lines} lines, {most} are allowed"));
        }
    }
    if faults.is_empty() {
        Ok(())
    } else {
        bail!("the documents are not true:\n  {}", faults.join("\n  "))
    }
}

/// Names of functions, by package.
struct TestNames(BTreeSet<(String, String)>);

impl TestNames {
    fn of(root: &Path) -> Result<Self> {
        let mut names = BTreeSet::new();
        let mut packages: Vec<(String, PathBuf)> = vec![
            ("farrier-e2e".into(), root.join("e2e")),
            ("xtask".into(), root.join("xtask")),
        ];
        for entry in fs::read_dir(root.join("crates"))? {
            let path = entry?.path();
            packages.push((
                path.file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned(),
                path,
            ));
        }
        for (package, folder) in packages {
            collect(&folder, &mut |text| {
                for rest in text.split("fn ").skip(1) {
                    let end = rest
                        .find(|c: char| !c.is_alphanumeric() && c != '_')
                        .unwrap_or(rest.len());
                    names.insert((package.clone(), rest[..end].to_owned()));
                }
            })?;
        }
        Ok(Self(names))
    }

    fn has(&self, package: &str, name: &str) -> bool {
        self.0.contains(&(package.to_owned(), name.to_owned()))
    }
}

fn collect(folder: &Path, take: &mut impl FnMut(&str)) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, take)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            take(&fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2))
}

fn missing_tests(text: &str, tests: &TestNames) -> Vec<String> {
    let named = quoted(text).filter_map(|word| word.split_once("::"));
    let own = named.filter(|(package, _)| package.starts_with("farrier") || *package == "xtask");
    own.filter(|(package, name)| !tests.has(package, name))
        .map(|(package, name)| format!("{package}::{name}"))
        .collect()
}

fn capability_faults(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|l| l.starts_with("| "))
        .map(|l| l.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    for (family, count) in FAMILIES {
        for number in 1..=count {
            let id = format!("{family}{number}");
            let Some(row) = rows.iter().find(|row| row.first() == Some(&id.as_str())) else {
                faults.push(format!("{CAPABILITIES}: row {id} is missing"));
                continue;
            };
            let (state, tests) = (
                row.get(2).copied().unwrap_or(""),
                row.get(3).copied().unwrap_or(""),
            );
            let good = match state {
                "works" => tests.contains("::"),
                "not yet" => !tests.contains("::"),
                "partly" => true,
                _ => false,
            };
            if !good {
                faults.push(format!(
                    "{CAPABILITIES}: row {id} is {state:?} with the tests {tests:?}"
                ));
            }
        }
    }
    faults
}

fn missing_paths(root: &Path, text: &str) -> Vec<String> {
    let starts = [
        "crates/",
        "xtask/",
        "docs/",
        "e2e/",
        "testdata/",
        "fuzz/",
        "ui/",
    ];
    let is_path = |word: &&str| {
        starts.iter().any(|start| word.starts_with(start)) && !word.contains(['<', '*', '{', ' '])
    };
    quoted(text)
        .filter(is_path)
        .filter(|path| !root.join(path).exists())
        .map(|path| format!("ARCHITECTURE.md: {path} does not exist"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{TestNames, capability_faults, missing_tests};

    #[test]
    fn a_named_test_must_exist() {
        let tests = TestNames([("farrier-db".to_owned(), "there".to_owned())].into());
        let text = "proved by `farrier-db::there` and `farrier-db::gone`, not by `other::thing`";
        assert_eq!(missing_tests(text, &tests), ["farrier-db::gone"]);
    }

    #[test]
    fn a_row_works_only_with_a_test() {
        let faults = capability_faults(
            "| T1 | boots | works | - | - |\n| T2 | boots | partly | - | a run |\n",
        );
        assert!(
            faults
                .iter()
                .any(|f| f.contains("T1") && f.contains("works"))
        );
        assert!(!faults.iter().any(|f| f.contains("row T2 ")));
        assert!(faults.iter().any(|f| f.contains("row X5 is missing")));
    }
}
