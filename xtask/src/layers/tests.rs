//! Arrows and words that are refused.

use super::*;

fn crate_with(name: &str, normal: &[&str], tests: &[&str]) -> Package {
    let set = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    Package {
        name: name.to_owned(),
        folder: PathBuf::new(),
        normal: set(normal),
        tests: set(tests),
    }
}

fn workspace_with(broken: Package) -> Vec<Package> {
    let mut packages: Vec<Package> = ARROWS
        .iter()
        .map(|(name, uses)| crate_with(name, uses, &[]))
        .collect();
    packages.retain(|package| package.name != broken.name);
    packages.push(broken);
    packages
}

#[test]
fn allowed_arrows_pass() {
    let packages = workspace_with(crate_with(
        "farrier-engine",
        &["farrier-proto", "serde"],
        &["farrier-testkit"],
    ));
    assert_eq!(arrows(&packages), [""; 0]);
    assert_eq!(purity(&packages), [""; 0]);
}

#[test]
fn broken_arrows_fail() {
    for (from, to) in [
        ("farrier-proto", "farrier-engine"),
        ("farrier-engine", "farrier-db"),
        ("farrier-db", "farrier-proto"),
        ("farrier-image", "farrier-api"),
        ("farrier-agent", "farrier-engine"),
        ("farrier", "farrier-net"),
        ("farrier-server", "farrier-testkit"),
    ] {
        let faults = arrows(&workspace_with(crate_with(from, &[to], &[])));
        assert_eq!(faults, [format!("{from} must not depend on {to}")]);
    }
}

#[test]
fn arrows_hold_in_tests_too_and_new_crates_need_a_row() {
    let faults = arrows(&workspace_with(crate_with(
        "farrier-proto",
        &[],
        &["farrier-server", "farrier-testkit"],
    )));
    assert_eq!(
        faults,
        ["farrier-proto must not depend on farrier-server, not even in tests"]
    );
    let faults = arrows(&workspace_with(crate_with("farrier-common", &[], &[])));
    assert!(
        faults[0].starts_with("farrier-common has no row"),
        "{faults:?}"
    );
}

#[test]
fn runtimes_and_too_many_dependencies_fail_in_pure_crates() {
    let faults = purity(&workspace_with(crate_with(
        "farrier-proto",
        &["tokio", "thiserror"],
        &[],
    )));
    assert_eq!(
        faults,
        ["farrier-proto is pure and must not depend on tokio"]
    );
    let many = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
    assert_eq!(
        purity(&workspace_with(crate_with("farrier-engine", &many, &[]))).len(),
        1
    );
}

#[test]
fn clocks_files_and_sockets_are_found_in_code_but_not_in_comments_and_tests() {
    let text = "// std::fs is not used\nlet now = Instant::now();\nuse std::net::UdpSocket;\nuse std::net::Ipv4Addr;\n\
                #[cfg(test)]\nmod tests { use std::fs; }\n";
    assert_eq!(
        impure_lines(text),
        [(2, "Instant::now"), (3, "std::net::UdpSocket")]
    );
}

#[test]
fn metadata_is_read_by_kind() {
    let metadata = serde_json::json!({ "packages": [{
        "name": "a", "manifest_path": "/w/a/Cargo.toml",
        "dependencies": [{ "name": "b", "kind": null }, { "name": "c", "kind": "dev" }, { "name": "d", "kind": "build" }],
    }] });
    let packages = packages(&metadata).unwrap();
    assert_eq!(
        packages[0].normal,
        BTreeSet::from(["b".to_owned(), "d".to_owned()])
    );
    assert_eq!(packages[0].tests, BTreeSet::from(["c".to_owned()]));
    assert_eq!(packages[0].folder, Path::new("/w/a"));
}

#[test]
fn a_growing_lock_file_is_noticed() {
    assert_eq!(too_many_locked("[[package]]\n"), None);
    assert!(too_many_locked(&"[[package]]\n".repeat(LOCKED + 1)).is_some());
}

#[test]
fn this_workspace_keeps_its_layers() {
    run().unwrap();
}
