//! See `restante_fuzz::renewal`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| restante_fuzz::renewal(data));
