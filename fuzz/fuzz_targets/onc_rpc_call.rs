#![no_main]

use farrier_testkit::fuzz::onc_rpc_call;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| onc_rpc_call(bytes));
