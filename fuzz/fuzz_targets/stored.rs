//! See `restante_fuzz::stored`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| restante_fuzz::stored(data));
