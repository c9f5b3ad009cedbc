#![no_main]

use farrier_testkit::fuzz::reply_builder;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| reply_builder(bytes));
