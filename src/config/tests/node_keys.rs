//! Keys of nodes as settings: where they may stand, beside what, and that no message shows them.

use super::super::file;
use super::keys::{file as key_file, fingerprints, with};
use super::*;
use crate::NodeKey;

const KEY: &str = "7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f";

fn key() -> NodeKey {
    NodeKey::parse(KEY).unwrap()
}

/// The line of TOML that makes `a` a member by the key, and `b` by another one.
fn members() -> String {
    let other = NodeKey::parse(&KEY.replace('7', "6")).unwrap();
    format!("members = [\"a={}\", \"b={}\"]", key().public_key(), other.public_key())
}

#[test]
fn with_a_node_key_the_network_is_open_and_addresses_are_learned() {
    let fingerprint = key().public_key().fingerprint();
    let file = key_file(&format!("# of a\n{KEY}\n"));
    for key in [format!("node_key = \"{KEY}\""), format!("node_key_file = {:?}", file.path())] {
        let config = with(&format!("listen = \"0.0.0.0:1\"\n{key}\n{}", members())).unwrap();
        assert!(config.gossip.peer_exchange && !config.is_open());
        assert_eq!(fingerprints(&config), [&*fingerprint]);
        let again = config.to_builder().build().unwrap();
        assert_eq!(format!("{again:?}"), format!("{config:?}"));
        for shown in [format!("{config:?}"), format!("{:?}", config.to_builder())] {
            assert!(!shown.contains(&KEY[..8]), "{shown}");
        }
        assert!(format!("{config:?}").contains(&fingerprint));
    }
}

#[test]
fn the_environment_may_have_the_key_and_the_members() {
    let settings = key_file(&format!("{MINIMAL}[gossip]\nnode_key_file = \"no/such\"\n"));
    let read = |value: &str| {
        let listed = format!("a={}", key().public_key());
        let variables =
            [("TALLYMESH_GOSSIP_NODE_KEY", value), ("TALLYMESH_GOSSIP_MEMBERS", &listed)];
        let variables = variables.map(|(name, value)| (name.into(), value.into()));
        file::read(settings.path(), variables).and_then(ConfigBuilder::build)
    };
    assert_eq!(fingerprints(&read(KEY).unwrap()), [key().public_key().fingerprint()]);
    let message = read(&KEY[1..]).unwrap_err().to_string();
    assert!(
        message.contains("TALLYMESH_GOSSIP_NODE_KEY") && message.contains("not 63"),
        "{message}"
    );
    assert!(!message.contains(&KEY[..8]), "{message}");
}

#[test]
fn what_does_not_make_the_node_a_member_is_refused_with_what_to_do() {
    let node_key = format!("node_key = \"{KEY}\"");
    let own = format!("a={}", key().public_key());
    let of_b = format!("members = [\"b={}\"]", key().public_key());
    let others = members()
        .replacen("\"a=", "\"c=", 1)
        .replace(&key().public_key().to_string(), &"9".repeat(64));
    let twice = format!("members = [\"{own}\", \"{own}\"]");
    let with_cluster_key = format!("{node_key}\nkey = \"{KEY}\"\n{}", members());
    for (gossip, path, why) in [
        (node_key.clone(), "gossip.node_key", &*own),
        (members(), "gossip.members", "only with gossip.node_key"),
        (with_cluster_key, "gossip.node_key", "only without gossip.key"),
        (format!("{node_key}\n{of_b}"), "gossip.members", "each node has a key of its own"),
        (format!("{node_key}\n{others}"), "gossip.members", &own),
        (format!("{node_key}\n{twice}"), "gossip.members", "each key once"),
        (format!("{node_key}\nmembers = [\"a\"]"), "gossip.members", "node=public key"),
        (
            format!("{node_key}\nnode_key_file = \"x\"\n{}", members()),
            "gossip.node_key_file",
            "in one place",
        ),
        (
            format!("node_key = \"{}\"\n{}", &KEY[2..], members()),
            "gossip.node_key",
            "64 hex digits, not 62",
        ),
        (format!("node_key_file = \"/\"\n{}", members()), "gossip.node_key_file", "a regular file"),
        // What is not TOML, or of another type, shows the line.
        (format!("node_key = {KEY}"), "TOML", "(hidden)"),
        (format!("node_key = [\"{KEY}\"]"), "gossip.node_key", "(hidden)"),
    ] {
        let message = with(&gossip).expect_err(&gossip).to_string();
        for part in [path, why] {
            assert!(message.contains(part), "{gossip:?}: {message}");
        }
        assert!(!message.contains(&KEY[..8]), "{gossip:?}: {message}");
    }
    let slots = format!(
        "[node]\nid = \"a\"\ndata_dir = \"d\"\nslots = 2\n[gossip]\nlisten = \"127.0.0.1:1\"\n{node_key}\n{}\n",
        members()
    );
    let message = Config::from_toml(&slots).unwrap_err().to_string();
    assert!(message.contains("gossip.node_key") && message.contains("node.slots"), "{message}");
}

#[test]
#[cfg(unix)]
fn a_file_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let file = key_file(KEY);
    std::fs::set_permissions(file.path(), PermissionsExt::from_mode(0o640)).unwrap();
    let message = with(&format!("node_key_file = {:?}\n{}", file.path(), members()));
    let message = message.unwrap_err().to_string();
    assert!(message.contains("gossip.node_key_file") && message.contains("chmod 600"), "{message}");
}
