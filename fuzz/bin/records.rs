//! The records of a connection, made up or edited: `cargo +nightly fuzz run records`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    tallymesh::fuzz::records(bytes);
});
