//! See `restante_fuzz::denial`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| restante_fuzz::denial(data));
