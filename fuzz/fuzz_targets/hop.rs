//! See `restante_fuzz::hop`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| restante_fuzz::hop(data));
