//! Keys of the cluster as settings: where they may stand, and that no message shows them.

use super::super::file;
use super::*;
use crate::ClusterKey;
use crate::credentials::Credentials;

const KEY: &str = "7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f";

pub(super) fn fingerprints(config: &Config) -> Vec<String> {
    config.credentials.as_ref().map(Credentials::fingerprints).unwrap_or_default()
}

pub(super) fn with(gossip: &str) -> Result<Config, ConfigError> {
    Config::from_toml(&format!("{MINIMAL}[gossip]\n{gossip}\n"))
}

/// A file with this content that only its owner can read.
pub(super) fn file(content: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    file
}

fn key_file(file: &tempfile::NamedTempFile) -> String {
    format!("key_file = {:?}", file.path())
}

#[test]
fn with_a_key_the_network_is_open_and_addresses_are_learned() {
    let config = with(&format!("listen = \"0.0.0.0:1\"\nkey = \"{KEY}\"")).unwrap();
    assert!(config.gossip.peer_exchange && !config.is_open());
    assert_eq!(fingerprints(&config), ["260e32fffb57070c"]);
    assert_eq!(fingerprints(&config.to_builder().build().unwrap()), ["260e32fffb57070c"]);
    let insecure = with("listen = \"0.0.0.0:1\"\ninsecure = true").unwrap();
    assert!(insecure.is_open() && fingerprints(&insecure).is_empty());
    assert!(!with("listen = \"127.0.0.1:1\"\ninsecure = true").unwrap().is_open());
}

#[test]
fn a_file_may_hold_the_keys() {
    let other = KEY.replace('7', "6");
    let file = file(&format!("# of spring\n{KEY}\n\n {other}   # of autumn\n"));
    let config = with(&format!("listen = \"0.0.0.0:1\"\n{}", key_file(&file))).unwrap();
    assert_eq!(fingerprints(&config).len(), 2);
    assert_eq!(fingerprints(&config)[0], "260e32fffb57070c");
    assert_eq!(fingerprints(&config.to_builder().build().unwrap()), fingerprints(&config));
    // What is set later takes its place.
    let key = ClusterKey::parse(&other).unwrap();
    let built = config.to_builder().gossip_key([key]).build().unwrap();
    assert_eq!(fingerprints(&built).len(), 1);
}

#[test]
#[cfg(unix)]
fn a_file_that_others_can_read_is_refused_with_what_to_do() {
    use std::os::unix::fs::PermissionsExt;
    let file = file(KEY);
    for (mode, is_allowed) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
        std::fs::set_permissions(file.path(), PermissionsExt::from_mode(mode)).unwrap();
        match with(&key_file(&file)) {
            Ok(_) => assert!(is_allowed, "{mode:o}"),
            Err(error) => {
                let message = error.to_string();
                let mode = format!("mode {mode:o}");
                for part in ["gossip.key_file", &mode, "chmod 600"] {
                    assert!(!is_allowed && message.contains(part), "{message}");
                }
            }
        }
    }
}

#[test]
fn a_key_that_is_none_is_refused_by_its_path_and_never_shown() {
    let short = &KEY[..62];
    let zeros = "0".repeat(64);
    let (file, bad_file) = (file(KEY), file(short));
    for (gossip, path, why) in [
        (format!("key = \"{short}\""), "gossip.key", "64 hex digits, not 62"),
        (format!("key = \"{KEY}, {short}\""), "gossip.key", "64 hex digits, not 62"),
        (format!("key = \"{zeros}\""), "gossip.key", "all zeros"),
        (format!("key = \"{KEY},{KEY}\""), "gossip.key", "each key once"),
        ("key = \"\"".to_owned(), "gossip.key", "at least one key"),
        (format!("key = \"{KEY}\"\n{}", key_file(&file)), "gossip.key_file", "in one place"),
        (key_file(&bad_file), "gossip.key_file", "64 hex digits, not 62"),
        ("key_file = \"no/such\"".to_owned(), "gossip.key_file", "a file that can be read"),
        ("key_file = \"/\"".to_owned(), "gossip.key_file", "a regular file"),
        // What is not TOML, or of another type, shows the line.
        (format!("key = {KEY}"), "TOML", "(hidden)"),
        (format!("key = \"{KEY}"), "TOML", "(hidden)"),
        (format!("key = [\"{KEY}\"]"), "gossip.key", "(hidden)"),
        (format!("key = [\n\"{KEY}\"]"), "gossip.key", "(hidden)"),
        (format!("key = [\n{KEY}]"), "TOML", "(hidden)"),
        (format!("kye = \"{KEY}\""), "kye", "(hidden)"),
    ] {
        let message = with(&gossip).expect_err(&gossip).to_string();
        for part in [path, why] {
            assert!(message.contains(part), "{gossip:?}: {message}");
        }
        assert!(!message.contains(&KEY[..8]), "{gossip:?}: {message}");
    }
    let base = Config::builder("a").in_memory();
    for (keys, why) in [(0, "at least one"), (5, "at most 4 keys, not 5")] {
        let keys =
            (1..=keys).map(|byte| ClusterKey::parse(&format!("{byte:02}").repeat(32)).unwrap());
        let message = base.clone().gossip_key(keys).build().unwrap_err().to_string();
        assert!(message.contains("gossip.key") && message.contains(why), "{message}");
    }
}

#[test]
fn a_variable_of_the_environment_takes_the_place_of_a_key_file_and_is_not_shown() {
    let read = |value: &str| {
        let text = file(&format!("{MINIMAL}[gossip]\nkey_file = \"no/such\"\n"));
        let variables = [("TALLYMESH_GOSSIP_KEY".into(), value.into())];
        file::read(text.path(), variables).and_then(ConfigBuilder::build)
    };
    assert_eq!(fingerprints(&read(KEY).unwrap()), ["260e32fffb57070c"]);
    let message = read(&KEY[1..]).unwrap_err().to_string();
    assert!(message.contains("TALLYMESH_GOSSIP_KEY") && message.contains("not 63"), "{message}");
    assert!(!message.contains(&KEY[..8]), "{message}");
}

#[test]
fn no_form_of_a_config_shows_a_key() {
    let config = with(&format!("key = \"{KEY}\"")).unwrap();
    for shown in [format!("{config:?}"), format!("{:?}", config.to_builder())] {
        assert!(!shown.contains(&KEY[..8]) && shown.contains("260e32fffb57070c"), "{shown}");
    }
}

#[test]
fn certificates_need_a_build_with_tls_and_come_together() {
    let refused = with("tls_key = \"a.key\"").unwrap_err().to_string();
    let missing = match cfg!(feature = "tls") {
        true => "only with gossip.tls_certificate",
        false => "the cargo feature `tls`",
    };
    assert!(refused.contains("gossip.tls_key") && refused.contains(missing), "{refused}");
}
