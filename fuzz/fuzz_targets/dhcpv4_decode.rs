#![no_main]

use farrier_testkit::fuzz::dhcpv4_decode;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dhcpv4_decode(bytes));
