//! See `restante_fuzz::submission`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| restante_fuzz::submission(data));
