//! What the packages of the workspace are built of, and what for.

use std::collections::BTreeSet;
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
    // A library user who asks for no feature compiles no resolver and no TLS.
    let optional = dependencies.iter().filter(|(_, of)| of.get("optional").is_some());
    assert_eq!(
        optional.map(|(name, _)| &**name).collect::<Vec<_>>(),
        ["hickory-resolver", "rustls", "rustls-webpki"]
    );
    let has_default = |features: &toml::Value| features.get("default").is_some();
    assert!(!manifest.get("features").is_some_and(has_default), "no default features");
    assert_eq!(
        manifest["workspace"]["default-members"].as_array().unwrap(),
        &[toml::Value::from("cli")],
        "`cargo run --release -- demo` starts the program"
    );
}

/// The scripts that build for other systems.
const BUILD_FOR_OTHERS: &[&str] = &[".ci/run", ".ci/other-machines"];

/// The names of Rust's targets in a text, which name a maker: `s390x-unknown-linux-gnu`, and not the compiler `s390x-linux-gnu-gcc`.
fn targets(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && !"_-".contains(c));
    let makers = ["-unknown-", "-pc-", "-apple-"];
    words.filter(|word| makers.iter().any(|maker| word.contains(maker))).collect()
}

#[test]
fn every_target_that_is_built_for_has_its_row_in_the_page_of_platforms() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: &str| std::fs::read_to_string(root.join(file)).unwrap();
    let page = read("docs/platforms.md");
    let in_page = targets(&page);
    for file in BUILD_FOR_OTHERS {
        let script = read(file);
        let built = targets(&script);
        assert!(built.len() > 2, "{file} builds for other systems");
        let missing: Vec<_> = built.difference(&in_page).collect();
        assert!(missing.is_empty(), "{file} builds for {missing:?}: say so in docs/platforms.md");
    }
}

#[test]
fn targets_are_found() {
    let script = "add x86_64-pc-windows-gnu; gcc-s390x-linux-gnu \"s390x-unknown-linux-gnu\" -D w";
    let expected = BTreeSet::from(["x86_64-pc-windows-gnu", "s390x-unknown-linux-gnu"]);
    assert_eq!(targets(script), expected);
}
