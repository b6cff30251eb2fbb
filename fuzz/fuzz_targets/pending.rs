//! See `restante_fuzz::pending`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| restante_fuzz::pending(data));
