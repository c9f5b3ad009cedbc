#![no_main]

use farrier_testkit::fuzz::tftp_session;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tftp_session(bytes));
