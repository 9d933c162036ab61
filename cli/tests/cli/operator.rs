//! `tallymesh ctl quarantine`, `release` and `forget`.

use serde_json::Value;
use tallymesh::Request;
use tallymesh_test_support::until;

use crate::ctl::{Node, on_a_runtime, peer_of};
use crate::{PATIENCE, config, tallymesh, text};

/// What the status says of the operator's words, the only one of them.
fn standing(node: &Node) -> Value {
    let status = node.asked(&["status"]);
    let [entry] = &status["operator"].as_array().unwrap()[..] else { panic!("{status}") };
    entry.clone()
}

#[test]
fn a_node_is_quarantined_released_and_a_replica_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path());
    on_a_runtime(async {
        let peer = peer_of(&node.first).await;
        let request = Request::new().with("session", "s1");
        assert!(peer.acquire(&request).is_allowed() && peer.acquire(&request).is_allowed());
        let value = |node: &Node| node.asked(&["counters"])["counters"][0]["value"].clone();
        until("the node has heard", PATIENCE, || value(&node) == 2).await;

        let said = node.asked(&["quarantine", "b", "--for", "1h"]);
        let entry = &said["operator"][0];
        assert_eq!((&entry["action"], &entry["subject"]), (&"quarantine".into(), &"b".into()));
        assert_eq!((&entry["is_in_force"], &entry["is_told"]), (&true.into(), &false.into()));
        until("b counts for nothing", PATIENCE, || value(&node) == 0).await;
        until("all of the table", PATIENCE, || standing(&node)["progress"] == 100).await;
        let told = text(&node.ctl(&["status"]).stdout);
        assert!(
            told.contains("quarantine b: since") && told.contains("on this node alone"),
            "{told}"
        );

        node.asked(&["release", "b"]);
        until("it counts again", PATIENCE, || value(&node) == 2).await;
        assert_eq!(standing(&node)["action"], "release");

        let replica = peer.status().replica.to_string();
        let said = text(&node.ctl(&["forget", &replica]).stdout);
        assert!(said.starts_with(&format!("forget {replica}: since ")), "{said}");
        let is_gone = || node.asked(&["counters"])["counters"].as_array().unwrap().is_empty();
        until("nothing of it is left", PATIENCE, is_gone).await;
        peer.close().await.unwrap();
    });
    for (args, part) in [
        (&["forget", "b"][..], "invalid value"),
        (&["quarantine", "b"], "--for"),
        (&["quarantine", "b", "--for", "soon"], "invalid value"),
        (&["release", "b", "--operator-key", "no such file"], "cannot be read"),
    ] {
        let refused = node.ctl(args);
        let message = text(&refused.stderr);
        assert!(!refused.status.success() && message.contains(part), "{args:?}: {message}");
    }
    node.close();
}

#[test]
fn where_there_is_an_operators_key_only_what_it_signed_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let keys: Vec<String> = ["operator.key", "other.key"]
        .map(|name| dir.path().join(name).to_str().unwrap().to_owned())
        .into();
    let made = keys.iter().map(|path| tallymesh(&["keygen", "--operator", "--out", path]));
    let said: Vec<String> = made.map(|made| text(&made.stderr)).collect();
    let public = said[0].split('"').nth(1).unwrap();
    let config = config(dir.path());
    let settings = std::fs::read_to_string(&config).unwrap();
    let key = format!("[operator]\npublic_key = \"{public}\"\n");
    std::fs::write(&config, format!("{key}{settings}")).unwrap();
    let node = Node::of(config, dir.path().join("data/control.sock"));
    let quarantine = ["quarantine", "b", "--for", "1h"];
    for (signing, part) in [
        (&[][..], "the entry is not signed"),
        (&["--operator-key", &keys[1]], "not by the private key of operator.public_key"),
    ] {
        let refused = node.ctl(&[&quarantine, signing].concat());
        let message = text(&refused.stderr);
        assert!(!refused.status.success() && message.contains(part), "{message}");
    }
    assert_eq!(node.asked(&["status"])["operator"], serde_json::json!([]));
    let signing = ["--operator-key", &keys[0]];
    // One right after the other: each is later than the one before.
    for (word, action) in [
        (&quarantine[..], "quarantine"),
        (&["release", "b"], "release"),
        (&quarantine[..], "quarantine"),
    ] {
        let said = node.asked(&[word, &signing].concat());
        assert_eq!(said["operator"][0]["action"], action);
        assert_eq!(standing(&node)["is_told"], true);
    }
    node.close();
}
