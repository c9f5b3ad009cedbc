#![no_main]

use farrier_testkit::fuzz::multicast_stream;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| multicast_stream(bytes));
