#![no_main]

use farrier_testkit::fuzz::rarp_decode;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rarp_decode(bytes));
