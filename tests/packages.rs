//! What the packages of the workspace are built of.

use std::path::Path;

/// What only the program needs; a crate that depends on the library compiles none of it.
const OF_THE_PROGRAM: &[&str] =
    &["clap", "csv", "hdrhistogram", "indicatif", "serde_json", "tempfile", "tracing-subscriber"];

#[test]
fn the_library_needs_nothing_of_the_program() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let manifest: toml::Table = toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let dependencies = manifest["dependencies"].as_table().unwrap();
    for package in OF_THE_PROGRAM {
        assert!(!dependencies.contains_key(*package), "{package} is a dependency of the library");
    }
    assert!(dependencies.values().all(|dependency| dependency.get("optional").is_none()));
    let has_default = |features: &toml::Value| features.get("default").is_some();
    assert!(!manifest.get("features").is_some_and(has_default), "no default features");
    assert_eq!(
        manifest["workspace"]["default-members"].as_array().unwrap(),
        &[toml::Value::from("cli")],
        "`cargo run --release -- demo` starts the program"
    );
}
