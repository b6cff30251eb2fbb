//! See `restante_fuzz::receipts`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| restante_fuzz::receipts(data));
