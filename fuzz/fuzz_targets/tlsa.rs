//! See `restante_fuzz::tlsa`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| restante_fuzz::tlsa(data));
