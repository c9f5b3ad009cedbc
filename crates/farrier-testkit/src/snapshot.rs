//! Expected text kept in files beside the tests' data.

use std::path::Path;
use std::{env, fs};

/// Compares `text` with the file at `path`. With `FARRIER_UPDATE` set the file is written instead.
///
/// # Panics
/// If they differ, with the first line that does, or if the file cannot be read or written.
pub fn check(path: &Path, text: &str) {
    if env::var_os("FARRIER_UPDATE").is_some() {
        fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        return;
    }
    let expected = fs::read_to_string(path).unwrap_or_else(|error| {
        panic!(
            "{}: {error}; run again with FARRIER_UPDATE=1 to write it",
            path.display()
        )
    });
    let lines = expected.lines().zip(text.lines());
    for (number, (expected, found)) in (1..).zip(lines) {
        assert_eq!(found, expected, "{} line {number}", path.display());
    }
    assert_eq!(
        text.lines().count(),
        expected.lines().count(),
        "{}: number of lines",
        path.display()
    );
}
