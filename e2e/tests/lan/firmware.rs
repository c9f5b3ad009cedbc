//! The fast rows of the firmware matrix. `cargo xtask e2e firmware` runs all of them.

use farrier_e2e::{Lab, matrix, packages, report::say};

/// The first machine; rows take the numbers that follow.
const NUMBER: u8 = 80;

/// T3: machines that are no PCs are told so on their own screen, by their own firmware or a loader of ours.
#[test]
fn t3_firmware_of_other_processors_boots_and_says_what_is_missing() {
    let lab = Lab::open().unwrap();
    let missing = packages::missing(&matrix::fast_packages()).unwrap();
    assert!(
        missing.is_empty(),
        "`cargo xtask test` installs what is missing: {missing:?}"
    );
    let mut failures = Vec::new();
    for (number, row) in (NUMBER..).zip(matrix::fast()) {
        match matrix::run(&lab, *row, number).seen {
            Ok(seen) => say(&format!(
                "{}: {} after {:.1} s, {:.1} CPU seconds",
                row.name, row.seen, seen.seconds, seen.cpu
            )),
            Err(error) => failures.push(format!("{error:#}")),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}
