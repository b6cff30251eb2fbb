//! See `restante_fuzz::smtp_oracle`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| restante_fuzz::smtp_oracle(data));
