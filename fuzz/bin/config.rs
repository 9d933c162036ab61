//! The text of a settings file: `cargo +nightly fuzz run config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    tallymesh_test_support::fuzz::config(bytes);
});
