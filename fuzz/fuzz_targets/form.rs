//! Any bytes as a form: `./dev fuzz`.
#![no_main]

#[path = "../form/mod.rs"]
mod form;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    form::check(input);
});
