#![no_main]

use farrier_testkit::fuzz::tls_hello;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tls_hello(bytes));
