//! The fuzz target of the JSON deserializer: `./dev fuzz`.
#![no_main]

#[path = "../json.rs"]
mod json;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    drop(json::check(input));
});
