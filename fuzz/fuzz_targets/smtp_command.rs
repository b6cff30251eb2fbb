//! See `restante_fuzz::smtp_command`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| restante_fuzz::smtp_command(data));
