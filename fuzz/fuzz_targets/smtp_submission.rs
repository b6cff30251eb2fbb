//! See `restante_fuzz::smtp_submission`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| restante_fuzz::smtp_submission(data));
