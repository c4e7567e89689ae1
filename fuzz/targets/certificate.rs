//! See `sanctum_server::fuzz_entry_points::certificate`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sanctum_server::fuzz_entry_points::certificate(bytes));
