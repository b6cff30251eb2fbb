//! See `restante_fuzz::milter_content`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| restante_fuzz::milter_content(data));
