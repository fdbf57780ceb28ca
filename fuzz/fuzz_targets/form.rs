//! The fuzz target of the form parser: `./dev fuzz`.
#![no_main]

#[path = "../form/mod.rs"]
mod form;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    form::check(input);
});
