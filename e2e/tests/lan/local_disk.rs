//! How soon the local disk starts when a machine has nothing to do.

use std::time::Duration;

use farrier_e2e::{Vm, lab::stretched, report::say};

const BOOT: Duration = Duration::from_secs(150);

/// Waits for the words that lead from a loader to the disk's own, one after another. `began` is when the loader showed
/// itself, in seconds after power-on, and the words follow what was waited for then.
///
/// The goal is 10 seconds on a machine with nothing else to do: those in which the emulated one was kept from running
/// do not count.
pub(crate) fn starts_within_10_seconds(vm: &mut Vm, loader: &str, began: f64, words: &[&str]) {
    let before = vm.kept_waiting();
    let mut reached = began;
    for words in words {
        reached = vm.wait_for(words, BOOT).unwrap();
    }
    let seconds = reached - began;
    let waited = vm.kept_waiting() - before;
    say(&format!(
        "{loader} to the disk's loader: {seconds:.1} s, of which it waited for a processor for {waited:.1} s"
    ));
    let limit = stretched(Duration::from_secs(10)).as_secs_f64();
    assert!(seconds - waited <= limit, "{seconds} s, {waited} s");
}
