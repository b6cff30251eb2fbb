//! See `restante_fuzz::routes`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| restante_fuzz::routes(data));
