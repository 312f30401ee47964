#![no_main]

#[allow(dead_code, reason = "each target runs one of them")]
#[path = "../src/s3.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::document(data));
