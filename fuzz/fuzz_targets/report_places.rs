//! See `restante_fuzz::report_places`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| restante_fuzz::report_places(data));
