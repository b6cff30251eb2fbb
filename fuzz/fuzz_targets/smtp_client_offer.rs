//! See `restante_fuzz::smtp_client_offer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| restante_fuzz::smtp_client_offer(data));
