//! What is written by serde is read again as the same, and looks as documented.

use std::fmt::Debug;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tallymesh::{
    ClusterKey, Config, CounterKey, CounterState, CounterStore, DenialReason, Durability, Limit,
    PeerStatus, Status, Window,
};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn written<T: Serialize>(value: &T) -> serde_json::Value {
    serde_json::to_value(value).unwrap()
}

fn round_trip<T: Serialize + DeserializeOwned + Debug + PartialEq>(value: &T) {
    let text = serde_json::to_string(value).unwrap();
    assert_eq!(&serde_json::from_str::<T>(&text).expect(&text), value);
}

const EVERY_SETTING: &str = include_str!("fixtures/every_setting.toml");

#[test]
fn a_node_key_is_written_nowhere_and_its_members_are() {
    let key = tallymesh::NodeKey::parse(&"3d".repeat(32)).unwrap();
    let member = format!("a={}", key.public_key());
    let config = Config::builder("a").in_memory().node_key(key.clone()).members([member.clone()]);
    let written = written(&config.build().unwrap());
    assert_eq!(written["gossip"]["members"], json!([member]));
    assert!(!written.to_string().contains(&key.reveal()), "{written}");
    // What was written lacks the key, and is not taken for a node that needs none.
    let read = serde_json::from_value::<Config>(written).unwrap_err().to_string();
    assert!(read.contains("only with gossip.node_key"), "{read}");
}

/// Every setting but the key, which is not written.
fn config() -> Config {
    let lines = EVERY_SETTING.lines().filter(|line| !line.starts_with("key = "));
    Config::from_toml(&lines.collect::<Vec<_>>().join("\n")).unwrap()
}

fn shown(config: &Config) -> String {
    format!("{config:?}")
}

#[tokio::test]
async fn a_key_is_written_nowhere() {
    let with_key = Config::from_toml(EVERY_SETTING).unwrap();
    assert_eq!(written(&with_key), written(&config()));
    let key = ClusterKey::parse(&"3c".repeat(32)).unwrap();
    let in_memory = Config::builder("a").in_memory().gossip_key([key.clone()]);
    let store = CounterStore::open(in_memory.build().unwrap()).await.unwrap();
    let status = serde_json::to_string(&store.status()).unwrap();
    assert!(status.contains(&key.fingerprint()) && !status.contains(&key.reveal()), "{status}");
    store.close().await.unwrap();
}

#[test]
fn a_config_is_written_in_the_shape_of_the_file() {
    for config in [
        config(),
        Config::builder("a").in_memory().durability(Durability::Sync).build().unwrap(),
        Config::builder("a").data_dir("d").listen("127.0.0.1:1").build().unwrap(),
    ] {
        let text = toml::to_string(&config).unwrap();
        assert_eq!(shown(&Config::from_toml(&text).expect(&text)), shown(&config), "{text}");
        let json = serde_json::to_string(&config).unwrap();
        let read: Config = serde_json::from_str(&json).expect(&json);
        assert_eq!(shown(&read), shown(&config));
    }
    let long = Limit::new("long", 1, Window::Fixed(HOUR * 24 * 60));
    let long = Config::builder("a").in_memory().limit(long).counters_ttl(HOUR * 24 * 366);
    let long = long.build().unwrap();
    let text = toml::to_string(&long).unwrap();
    assert!(text.contains("\"60days\"") && text.contains("\"366days\""), "{text}");
    assert_eq!(shown(&Config::from_toml(&text).expect(&text)), shown(&long));
    let written = written(&config());
    assert_eq!(written["gossip"]["interval"], "51ms");
    assert_eq!(written["counters"]["when_full"], "allow");
    assert_eq!(written["counters"]["unmatched"], "deny");
    let missing = serde_json::from_value::<Config>(json!({})).unwrap_err().to_string();
    assert!(missing.contains("missing field `node`"), "{missing}");
    let bad = json!({ "node": { "id": "a b" }, "storage": { "in_memory": true } });
    let bad = serde_json::from_value::<Config>(bad).unwrap_err().to_string();
    assert!(bad.contains("node.id") && bad.contains("\"a b\""), "{bad}");
}

#[test]
fn a_limit_is_written_as_in_the_file() {
    let limits = config().limits().to_vec();
    assert_eq!(
        written(&limits),
        json!([
            {
                "name": "booking", "max": 3, "window": "session", "session_ttl": "1h",
                "per": ["session", "user"], "when": { "tool": "book_*", "session": "s?" },
            },
            {
                "name": "all", "max": 100, "window": "1m", "when_label_missing": "skip",
                "when_cut_off": "share",
            },
        ])
    );
    let read: Vec<Limit> = serde_json::from_value(written(&limits)).unwrap();
    assert_eq!(written(&read), written(&limits));
    // A file has one pattern for each label.
    let twice = Limit::new("l", 1, Window::Fixed(MINUTE)).when("tool", "a*").when("tool", "*b");
    let message = serde_json::to_string(&twice).unwrap_err().to_string();
    assert!(message.contains("limit \"l\": when") && message.contains("\"tool\""), "{message}");
    let bad = json!({ "name": "l", "max": 1, "window": "daily" });
    let bad = serde_json::from_value::<Limit>(bad).unwrap_err().to_string();
    assert!(bad.contains("limit \"l\": window = \"daily\" is not allowed"), "{bad}");
}

#[test]
fn windows_and_reasons_are_text() {
    for (window, text) in [
        (Window::Fixed(MINUTE), "1m"),
        (Window::Session { ttl: HOUR }, "session 1h"),
        // Months and years are not read, so they are not written.
        (Window::Fixed(HOUR * 24 * 60), "60days"),
        (Window::Session { ttl: HOUR * (24 * 366 - 1) }, "session 365days 23h"),
    ] {
        assert_eq!(written(&window), text);
        round_trip(&window);
    }
    assert_eq!(written(&DenialReason::LimitReached), "limit_reached");
    round_trip(&DenialReason::TooManyLabels);
    round_trip(&DenialReason::MissingLabel);
}

#[tokio::test]
async fn status_and_counters_are_written_with_names_in_snake_case() {
    let config = Config::builder("a").in_memory().listen("127.0.0.1:0");
    let config = config.peers(["127.0.0.1:1"]).sync_timeout(Duration::ZERO).max_counters(1);
    let store = CounterStore::open(config.build().unwrap()).await.unwrap();
    store.add(&CounterKey::new("x", &["s", "t"]).unwrap(), 2).unwrap();
    let status = store.status();
    round_trip(&status);
    let health = written(&status)["health"].clone();
    assert_eq!((&health["state"], &health["durability"]), (&json!("running"), &json!("in_memory")));
    assert_eq!(health["reasons"].as_array().map(Vec::len), Some(1));
    assert_eq!(serde_json::from_value::<Status>(written(&status)).unwrap(), status);
    let counters: Vec<CounterState> = store.iter().collect();
    round_trip(&counters);
    let counter = &written(&counters)[0];
    assert_eq!(counter["key"], json!({ "limit": "x", "values": ["s", "t"] }));
    assert_eq!(counter["value"], 2);
    assert_eq!(counter["cells"][0]["replica"], store.replica().to_string());
    let too_many = vec!["v"; 33];
    let too_many = json!({ "limit": "x", "values": too_many });
    let too_many = serde_json::from_value::<CounterKey>(too_many).unwrap_err().to_string();
    assert!(too_many.contains("33 values is not allowed: at most 32"), "{too_many}");
    store.close().await.unwrap();
}

#[test]
fn a_peer_is_written_with_lengths_of_time_as_text() {
    let peer = json!({
        "address": "h:1", "replica": "a#1.00000000000000ff", "connected": true, "lag": 3,
        "clock_offset_ms": -2, "round_trip": "1ms 20us", "last_heard": "5s",
    });
    let read: PeerStatus = serde_json::from_value(peer.clone()).unwrap();
    assert_eq!(read.round_trip, Some(Duration::from_micros(1020)));
    assert_eq!(written(&read), peer);
    let least = json!({ "connected": false, "lag": 0 });
    let read: PeerStatus = serde_json::from_value(least.clone()).unwrap();
    assert_eq!(written(&read), least);
}

#[test]
fn a_config_is_a_builder_again() {
    let config = config();
    assert_eq!(shown(&config.to_builder().build().unwrap()), shown(&config));
    // What the builder is given excludes what the config has.
    let changed = config.to_builder().in_memory().durability(Durability::Sync).build().unwrap();
    let text = toml::to_string(&changed).unwrap();
    assert!(text.contains("in_memory = true") && text.contains("durability = \"sync\""), "{text}");
    assert!(!text.contains("data_dir") && !text.contains("persist_every"), "{text}");
    assert_eq!(changed.limits().len(), config.limits().len());
}
