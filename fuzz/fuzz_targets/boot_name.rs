#![no_main]

use farrier_testkit::fuzz::boot_name;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| boot_name(bytes));
