//! The fuzz target of the parsers of `Range` and `Authorization`: `./dev fuzz`.
#![no_main]

#[path = "../headers.rs"]
mod headers;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    headers::check(input);
});
