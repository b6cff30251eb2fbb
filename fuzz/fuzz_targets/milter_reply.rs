//! See `restante_fuzz::milter_reply`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| restante_fuzz::milter_reply(data));
