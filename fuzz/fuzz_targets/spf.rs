//! See `restante_fuzz::spf`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| restante_fuzz::spf(data));
