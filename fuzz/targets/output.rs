//! See `sanctum_server::fuzz_entry_points::output`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sanctum_server::fuzz_entry_points::output(bytes));
