//! See `restante_fuzz::coding`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| restante_fuzz::coding(data));
