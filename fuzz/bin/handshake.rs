//! The bytes of a stranger, and of a server that is dialed, before they have proven a key: `cargo +nightly fuzz run handshake`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    tallymesh::fuzz::handshake(bytes);
});
