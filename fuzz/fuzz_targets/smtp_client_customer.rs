//! See `restante_fuzz::smtp_client_customer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| restante_fuzz::smtp_client_customer(data));
