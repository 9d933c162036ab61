//! The command that makes keys.

use tallymesh::{ClusterKey, Config, NodeKey};

use crate::{tallymesh, text};

#[test]
fn a_key_is_printed_or_put_into_a_file_that_only_its_owner_can_read() {
    let printed = tallymesh(&["keygen"]);
    assert!(printed.status.success(), "{}", text(&printed.stderr));
    let printed = ClusterKey::parse(&text(&printed.stdout)).unwrap();

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cluster.key");
    let path = path.to_str().unwrap();
    let made = tallymesh(&["keygen", "--out", path]);
    assert!(made.status.success() && made.stdout.is_empty(), "{}", text(&made.stderr));
    let content = std::fs::read_to_string(path).unwrap();
    let key = ClusterKey::parse(&content).unwrap();
    assert_ne!(key, printed);
    let said = text(&made.stderr);
    assert!(said.contains(&key.fingerprint()) && !said.contains(content.trim()), "{said}");
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(path).unwrap());
        assert_eq!(mode & 0o777, 0o600);
    }
    // As it is, a node takes it.
    Config::builder("a").in_memory().listen("0.0.0.0:1").key_file(path).build().unwrap();

    let again = tallymesh(&["keygen", "--out", path]);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).contains("is there already"), "{}", text(&again.stderr));
    assert_eq!(std::fs::read_to_string(path).unwrap(), content);
    let nowhere = dir.path().join("no/such/dir");
    let nowhere = tallymesh(&["keygen", "--out", nowhere.to_str().unwrap()]);
    assert!(text(&nowhere.stderr).contains("cannot be written"));
}

#[test]
fn a_key_of_a_node_is_made_beside_its_public_half() {
    let printed = tallymesh(&["keygen", "--node"]);
    assert!(printed.status.success(), "{}", text(&printed.stderr));
    let key = NodeKey::parse(&text(&printed.stdout)).unwrap();
    let said = text(&printed.stderr);
    assert!(said.contains(&key.public_key().to_string()), "{said}");
    assert!(!said.contains(&key.reveal()), "{said}");

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.key");
    let path = path.to_str().unwrap();
    let made = tallymesh(&["keygen", "--node", "--out", path]);
    assert!(made.status.success() && made.stdout.is_empty(), "{}", text(&made.stderr));
    let content = std::fs::read_to_string(path).unwrap();
    let key = NodeKey::parse(&content).unwrap();
    let shown = tallymesh(&["keygen", "--public", path]);
    assert_eq!(text(&shown.stdout).trim(), key.public_key().to_string());
    for said in [text(&made.stderr), text(&shown.stderr)] {
        assert!(!said.contains(content.trim()), "{said}");
    }
    assert!(text(&made.stderr).contains(&key.public_key().to_string()));
    // As it is, a node takes it.
    let members = [format!("a={}", key.public_key())];
    let config = Config::builder("a").in_memory().listen("0.0.0.0:1").node_key_file(path);
    config.members(members).build().unwrap();

    let both = tallymesh(&["keygen", "--public", path, "--node"]);
    assert_eq!(both.status.code(), Some(2), "{}", text(&both.stderr));
    std::fs::write(path, "no key").unwrap();
    let none = tallymesh(&["keygen", "--public", path]);
    assert_eq!(none.status.code(), Some(1));
    assert!(text(&none.stderr).contains("64 hex digits, not 6"), "{}", text(&none.stderr));
}
