//! See `restante_fuzz::smtp_offers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| restante_fuzz::smtp_offers(data));
