#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| laborllm_core::fuzz::tries(data));
