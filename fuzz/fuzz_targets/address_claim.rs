#![no_main]

use farrier_testkit::fuzz::address_claim;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| address_claim(bytes));
