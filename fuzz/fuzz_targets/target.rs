#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| webseed_bridge::fuzzing::target(data));
