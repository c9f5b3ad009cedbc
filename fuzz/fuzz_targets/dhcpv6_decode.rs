#![no_main]

use farrier_testkit::fuzz::dhcpv6_decode;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| dhcpv6_decode(bytes));
