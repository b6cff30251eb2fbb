//! See `restante_fuzz::offer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| restante_fuzz::offer(data));
