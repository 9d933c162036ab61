//! What is read, what is refused, and with which words.

mod builder;
mod docs;
mod environment;
mod keys;
mod node_keys;
mod rows;
mod typescript;

use super::*;

const MINIMAL: &str = "[node]\nid = \"a\"\ndata_dir = \"d\"\n";

fn refused(extra: &str) -> String {
    Config::from_toml(&format!("{MINIMAL}{extra}")).expect_err(extra).to_string()
}

#[test]
fn the_readme_s_config_is_read() {
    let config = Config::from_toml(
        r#"
        [node]
        id = "orchestrator-1"
        data_dir = "data/orchestrator-1"
        [gossip]
        listen = "127.0.0.1:7946"
        peers = ["127.0.0.1:7947", "127.0.0.1:7948"]
        interval = "50ms"
        [storage]
        durability = "relaxed"
        persist_every = "10ms"
        [[limit]]
        name = "booking per session"
        when = { tool = "book_*" }
        per = ["session"]
        max = 3
        window = "session"
        session_ttl = "1h"
        [[limit]]
        name = "calls per minute"
        max = 100
        window = "60s"
        "#,
    )
    .unwrap();
    assert_eq!(config.node_id().as_str(), "orchestrator-1");
    assert_eq!(config.peers.len(), 2);
    assert_eq!(config.gossip.interval, Duration::from_millis(50));
    assert_eq!(config.durability, Durability::Relaxed);
    assert_eq!(config.persist_every, Duration::from_millis(10));
    let ttl = Duration::from_secs(3600);
    assert_eq!(config.limits[0].window(), crate::Window::Session { ttl });
    assert_eq!(config.limits[1].window(), crate::Window::Fixed(Duration::from_secs(60)));
}

#[test]
fn a_refusal_names_the_key_the_value_and_what_is_allowed() {
    for (extra, expected) in [
        ("[gossip]\ninterval = \"0s\"", &["gossip.interval", "0s", "1ms to 1m"][..]),
        ("[gossip]\ninterval = \"soon\"", &["gossip.interval", "\"soon\"", "50ms"]),
        (
            "[gossip]\ninterval = 50",
            &["gossip.interval", "`50`", "a string", "1ms to 1m", "line 5"],
        ),
        ("[gossip]\nfanout = \"many\"", &["gossip.fanout", "\"many\"", "1 to 1024", "line 5"]),
        ("[gossip]\npeers = [1]", &["gossip.peers", "`1`", "a string", "line 5"]),
        ("[gossip]\ninsecure = \"yes\"", &["gossip.insecure", "\"yes\"", "true or false"]),
        ("[gossip]\nurgent_at = \"all\"", &["gossip.urgent_at", "\"all\"", "0 to 1"]),
        (
            "[gossip]\nlisten = \"0.0.0.0:7946\"",
            &["gossip.listen", "0.0.0.0:7946", "insecure = true"],
        ),
        ("[gossip]\ncluster = \"two words\"", &["gossip.cluster", "\"two words\"", "1 to 64"]),
        ("[gossip]\ncluster = \"\"", &["gossip.cluster", "1 to 64"]),
        (
            "[gossip]\nlisten = \"127.0.0.1:1\"\nadvertise = \"0.0.0.0:1\"",
            &["gossip.advertise", "0.0.0.0:1", "that others can dial"],
        ),
        (
            "[gossip]\nlisten = \"127.0.0.1:1\"\nadvertise = \"10.0.0.7:0\"",
            &["gossip.advertise", "10.0.0.7:0", "port of at least 1"],
        ),
        (
            "[gossip]\nlisten = \"127.0.0.1:1\"\nadvertise = \"host:1\"",
            &["gossip.advertise", "host:1", "an IP address and a port"],
        ),
        ("[gossip]\nadvertise = \"10.0.0.7:1\"", &["gossip.advertise", "gossip.listen"]),
        ("[gossip]\nlisten = \"7946\"", &["gossip.listen", "\"7946\"", "IP address and a port"]),
        ("[gossip]\npeers = [\"10.0.0.7\"]", &["gossip.peers", "\"10.0.0.7\"", "host:port"]),
        ("[gossip]\nintervall = \"1s\"", &["intervall", "in [gossip]", "expected one of"]),
        (
            "[storage]\ndurability = \"none\"",
            &["storage.durability", "\"none\"", "\"relaxed\" or \"sync\""],
        ),
        (
            "[storage]\ndurability = \"sync\"\npersist_every = \"1s\"",
            &["storage.persist_every", "relaxed"],
        ),
        ("[storage]\nin_memory = true", &["node.data_dir", "in_memory"]),
        (
            "[counters]\nunmatched = \"maybe\"",
            &["counters.unmatched", "\"maybe\"", "\"allow\" or \"deny\""],
        ),
        (
            "[[limit]]\nname = \"l\"\nmax = 1\nwindow = \"1s\"\nwhen_label_missing = \"ignore\"",
            &["limit \"l\"", "when_label_missing", "\"ignore\"", "\"deny\" or \"skip\""],
        ),
        (
            "[counters]\nwhen_full = \"maybe\"",
            &["counters.when_full", "\"maybe\"", "\"deny\" or \"allow\""],
        ),
        ("[counters]\nmax_counters = 0", &["counters.max_counters", "0", "1 to"]),
        (
            "[[limit]]\nname = \"l\"\nmax = 1\nwindow = \"daily\"",
            &["limit \"l\"", "window", "\"daily\"", "\"session\" or"],
        ),
        ("[[limit]]\nname = \"l\"\nmax = -1\nwindow = \"1s\"", &["max", "-1"]),
        ("[[limit]]\nname = \"l\"\nmax = 1", &["missing field `window`"]),
        (
            "[[limit]]\nname = \"l\"\nmax = 1\nwindow = \"1s\"\nsession_ttl = \"1h\"",
            &["session_ttl", "window = \"session\""],
        ),
        (
            "[[limit]]\nname = \"l\"\nmax = 1\nwindow = \"0s\"",
            &["limit \"l\"", "window = 0s", "1ms to 366 days"],
        ),
        (
            "[[limit]]\nname = \"l\"\nmax = 1\nwindow = \"1s\"\n[[limit]]\nname = \"l\"\nmax = 1\nwindow = \"1s\"",
            &["each name once"],
        ),
    ] {
        let message = refused(extra);
        for part in expected {
            assert!(message.contains(part), "{extra:?}: {message:?}, without {part:?}");
        }
    }
    let message =
        Config::from_toml("[node]\nid = \"a b\"\ndata_dir = \"d\"").unwrap_err().to_string();
    assert!(message.contains("node.id") && message.contains("\"a b\""), "{message}");
    let message = Config::from_toml("[node]\nid = \"a\"").unwrap_err().to_string();
    assert!(message.contains("node.data_dir"), "{message}");
    // A value that is wrong by itself comes before what is missing.
    let text = "[node]\nid = \"a\"\n[storage]\ndurability = \"some\"";
    let message = Config::from_toml(text).unwrap_err().to_string();
    assert!(message.contains("storage.durability"), "{message}");
    let message = Config::from_file("no/such/file.toml").unwrap_err().to_string();
    assert!(message.contains("no/such/file.toml"), "{message}");
}

#[test]
fn addresses_are_learned_only_on_loopback_or_where_that_is_spelled_out() {
    let learns = |gossip: &str| {
        let config = Config::from_toml(&format!("{MINIMAL}[gossip]\n{gossip}\n")).unwrap();
        let again = config.to_builder().build().unwrap();
        assert_eq!(config.gossip.peer_exchange, again.gossip.peer_exchange, "{gossip}");
        config.gossip.peer_exchange
    };
    assert!(learns("listen = \"127.0.0.1:0\"") && learns("listen = \"[::1]:0\""));
    assert!(learns("listen = \"0.0.0.0:1\"\ninsecure = true") && learns("insecure = true"));
    assert!(!learns("") && !learns("listen = \"127.0.0.1:0\"\npeer_exchange = false"));
}

#[test]
fn insecure_opens_the_network_only_when_spelled_out() {
    let open = "[gossip]\nlisten = \"0.0.0.0:7946\"\ninsecure = true";
    assert!(Config::from_toml(&format!("{MINIMAL}{open}")).is_ok());
}
