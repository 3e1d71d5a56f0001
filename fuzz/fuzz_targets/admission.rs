#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| uma_gateway::fuzz::admission(input));
