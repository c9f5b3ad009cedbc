#![no_main]

use farrier_testkit::fuzz::option43_decode;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| option43_decode(bytes));
