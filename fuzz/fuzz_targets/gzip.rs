#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| image::fuzzing::gzip(bytes));
