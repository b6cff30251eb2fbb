//! See `restante_fuzz::delegations`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| restante_fuzz::delegations(data));
