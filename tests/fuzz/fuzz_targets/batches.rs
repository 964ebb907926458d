#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tower_azure_openai::fuzzing::run("batches", data));
