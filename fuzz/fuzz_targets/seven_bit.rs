//! See `restante_fuzz::seven_bit`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| restante_fuzz::seven_bit(data));
