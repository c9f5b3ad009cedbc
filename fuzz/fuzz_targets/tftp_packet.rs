#![no_main]

use farrier_testkit::fuzz::tftp_packet;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tftp_packet(bytes));
