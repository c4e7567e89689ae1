//! See `sanctum_server::surface::certificate`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| sanctum_server::surface::certificate(bytes));
