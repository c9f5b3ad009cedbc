//! The fast rows of the firmware matrix. `cargo xtask e2e firmware` runs all of them.

use farrier_e2e::{Lab, matrix, report::say};

/// The first machine; rows take the numbers that follow.
const NUMBER: u8 = 80;

/// T3: machines that are no PCs are told so on their own screen, by their own firmware or a loader of ours. Emulators
/// that are not installed are not fetched for this: rows that need them are named and left to the whole matrix.
#[test]
fn t3_firmware_of_other_processors_boots_and_says_what_is_missing() {
    let lab = Lab::open().unwrap();
    let fast = matrix::ROWS.iter().filter(|row| row.fast);
    let (mut ran, mut failures) = (0, Vec::new());
    for (number, row) in (NUMBER..).zip(fast) {
        let missing = matrix::missing(&lab, row).unwrap();
        if !missing.is_empty() {
            say(&format!(
                "{} is left out without {}; `cargo xtask e2e firmware` fetches what it needs and runs it",
                row.name,
                missing.join(", ")
            ));
            continue;
        }
        let outcome = matrix::run(&lab, *row, number);
        ran += 1;
        match outcome.seen {
            Ok(seen) => say(&format!(
                "{}: {} after {:.1} s, {:.1} CPU seconds",
                row.name, row.seen, seen.seconds, seen.cpu
            )),
            Err(error) => failures.push(format!("{error:#}")),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert!(ran > 0, "the 32-bit firmware is a part of every lab");
}
