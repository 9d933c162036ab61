//! The bytes of a peer: `cargo +nightly fuzz run frame`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    tallymesh_test_support::fuzz::frame(bytes);
});
