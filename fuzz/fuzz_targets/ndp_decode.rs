#![no_main]

use farrier_testkit::fuzz::ndp_decode;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ndp_decode(bytes));
