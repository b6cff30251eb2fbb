//! See `restante_fuzz::message_signature`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| restante_fuzz::message_signature(data));
