//! See `restante_fuzz::http_repository`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| restante_fuzz::http_repository(data));
