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
        let text = read(name)?;
        faults.extend(wrong_names(&text, &tests).map(|what| format!("{name}: {what}")));
    }
    faults.extend(capability_faults(&read(CAPABILITIES)?, &tests));
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

/// Names of tests, by package.
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
                names.extend(tests_in(text).map(|name| (package.clone(), name.to_owned())));
            })?;
        }
        Ok(Self(names))
    }

    fn has(&self, package: &str, name: &str) -> bool {
        self.0.contains(&(package.to_owned(), name.to_owned()))
    }

    /// Whether some package has a test of this name.
    fn knows(&self, name: &str) -> bool {
        self.0.iter().any(|(_, known)| known == name)
    }
}

/// Names of the functions that stand under an attribute that makes them tests, those of `proptest!` among them.
/// Where a macro writes such functions (`fn $name`), the paths listed below it, one in a line, are their names.
fn tests_in(text: &str) -> impl Iterator<Item = &str> {
    let (mut is_test, mut by_macro) = (false, false);
    let lines = text.lines().map(str::trim);
    lines.filter_map(move |line| {
        is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        if by_macro && line.split("::").all(is_identifier) {
            return line.rsplit_once("::").map(|(_, name)| name);
        }
        let (before, rest) = line.split_once("fn ")?;
        let is_code = before.is_empty() || before.ends_with(' ') && !line.starts_with("//");
        if !is_code || !std::mem::take(&mut is_test) {
            return None;
        }
        by_macro |= rest.starts_with('$');
        let name = rest
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .next();
        name.filter(|name| is_identifier(name))
    })
}

fn is_identifier(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || c == '_')
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

/// Names that a reader would take for tests and that are none.
fn wrong_names(text: &str, tests: &TestNames) -> impl Iterator<Item = String> {
    quoted(text).filter_map(|word| match word.split_once("::") {
        Some((package, name)) => {
            let ours = package.starts_with("farrier") || package == "xtask" || tests.knows(name);
            (ours && !tests.has(package, name)).then(|| format!("there is no test {word}"))
        }
        None => {
            let bare = || format!("the test {word} is named without its package");
            tests.knows(word).then(bare)
        }
    })
}

fn capability_faults(text: &str, tests: &TestNames) -> Vec<String> {
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
            let (state, named) = (
                row.get(2).copied().unwrap_or(""),
                row.get(3).copied().unwrap_or(""),
            );
            let named_tests: Vec<&str> = quoted(named).collect();
            let good = match state {
                "works" => !named_tests.is_empty(),
                "not yet" => named_tests.is_empty(),
                "partly" => true,
                _ => false,
            };
            if !good {
                faults.push(format!(
                    "{CAPABILITIES}: row {id} is {state:?} with the tests {named:?}"
                ));
            }
            let is_test = |word: &&str| {
                let parts = word.split_once("::");
                parts.is_some_and(|(package, name)| tests.has(package, name))
            };
            let others = named_tests.iter().filter(|word| !is_test(word));
            faults.extend(others.map(|word| {
                format!(
                    "{CAPABILITIES}: row {id} has {word} among its tests, which is no PACKAGE::TEST"
                )
            }));
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
    use super::{TestNames, capability_faults, tests_in, wrong_names};

    fn there() -> TestNames {
        TestNames([("farrier-db".to_owned(), "there".to_owned())].into())
    }

    #[test]
    fn a_named_test_must_exist_in_its_package() {
        let text = "proved by `farrier-db::there` and `farrier-db::gone`, `db::there`, `there`, not by `other::thing`, \
                    `word`";
        let wrong: Vec<_> = wrong_names(text, &there()).collect();
        assert_eq!(
            wrong,
            [
                "there is no test farrier-db::gone",
                "there is no test db::there",
                "the test there is named without its package"
            ]
        );
    }

    #[test]
    fn only_functions_under_a_test_attribute_are_tests() {
        let text = "fn helper() {}\n#[test]\n#[should_panic]\n/// Not the fn in here.\nfn one() {\n  fn inner() {}\n}\n\
                    #[tokio::test(flavor = \"multi_thread\",\n worker_threads = 2)]\nasync fn two() {}\n\
                    proptest! {\n    #[test]\n    fn three(a: u8) {}\n}\nfn four() {}\n";
        assert_eq!(tests_in(text).collect::<Vec<_>>(), ["one", "two", "three"]);
    }

    #[test]
    fn tests_that_a_macro_writes_have_the_names_that_it_is_given() {
        let text = "macro_rules! on_each {\n($($area:ident::$name:ident)*) => {$(\n#[tokio::test]\nasync fn $name() {\n\
                    contract::$area::$name(&db).await;\n}\n)*};\n}\non_each! {\n    leases::one\n    tasks::two\n}\n";
        assert_eq!(tests_in(text).collect::<Vec<_>>(), ["one", "two"]);
    }

    #[test]
    fn a_row_works_only_with_a_test() {
        let text = "| T1 | boots | works | - | - |\n| T2 | boots | partly | - | a run |\n\
                    | T3 | boots | works | `farrier-db::there`, `there` | - |\n\
                    | T4 | boots | partly | `db::there` | `word` |\n";
        let faults = capability_faults(text, &there());
        let told = |row: &str, what: &str| {
            let mut of_row = faults.iter().filter(|f| f.contains(&format!("row {row} ")));
            of_row.any(|f| f.contains(what))
        };
        assert!(told("T1", "works"), "{faults:?}");
        assert!(!told("T2", ""), "{faults:?}");
        assert!(told("T3", "has there among its tests"), "{faults:?}");
        assert!(!told("T3", "farrier-db"), "{faults:?}");
        assert!(told("T4", "has db::there among its tests"), "{faults:?}");
        assert!(told("X5", "is missing"), "{faults:?}");
    }
}
