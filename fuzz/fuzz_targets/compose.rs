//! See `restante_fuzz::compose`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| restante_fuzz::compose(data));
