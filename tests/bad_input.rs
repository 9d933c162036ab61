//! Every refusal of a constructor names the value and what is allowed.

use std::time::Duration;

use tallymesh::{
    Config, CounterKey, DenialReason, Durability, Limit, NodeId, ReplicaId, Timestamp, WhenFull,
    Window, WindowSpan,
};

fn limit(limit: Limit) -> String {
    Config::builder("a").in_memory().limit(limit).build().unwrap_err().to_string()
}

fn parsed<T: std::str::FromStr<Err: ToString> + std::fmt::Debug>(text: &str) -> String {
    text.parse::<T>().unwrap_err().to_string()
}

#[test]
fn a_refusal_names_the_value_and_what_is_allowed() {
    let hour = Window::Fixed(Duration::from_secs(3600));
    let (long, many) = ("x".repeat(8193), ["v"; 33]);
    let no_time = Window::Session { ttl: Duration::ZERO };
    let cases: [(String, &[&str]); 15] = [
        (parsed::<NodeId>("a b"), &["\"a b\"", "1 to 64 ASCII letters"]),
        (parsed::<ReplicaId>("a"), &["\"a\"", "node#boot.nonce"]),
        (parsed::<Window>("daily"), &["\"daily\"", "\"60s\"", "\"session\""]),
        (parsed::<Timestamp>("soon"), &["\"soon\"", "RFC 3339"]),
        (parsed::<DenialReason>("full"), &["\"full\"", "limit_reached"]),
        (
            parsed::<Durability>("none"),
            &["storage.durability", "\"none\"", "\"relaxed\" or \"sync\""],
        ),
        (
            parsed::<WhenFull>("maybe"),
            &["counters.when_full", "\"maybe\"", "\"deny\" or \"allow\""],
        ),
        (CounterKey::new("l", &many).unwrap_err().to_string(), &["33 values", "at most 32"]),
        (CounterKey::new(&long, &[]).unwrap_err().to_string(), &["8193 bytes", "at most 8192"]),
        (
            WindowSpan::at(0, Timestamp(1)).unwrap_err().to_string(),
            &["length_ms = 0", "at least 1"],
        ),
        (limit(Limit::new("", 1, hour)), &["name = \"\"", "1 to 128 bytes"]),
        (limit(Limit::new("l", u64::MAX, hour)), &["\"l\": max = 184467440737", "0 to 2^53 - 1"]),
        (limit(Limit::new("l", 1, no_time)), &["\"l\": session_ttl = 0s", "1ms to 366 days"]),
        (
            Config::builder("a").in_memory().fanout(0).build().unwrap_err().to_string(),
            &["gossip.fanout = 0", "1 to 1024"],
        ),
        (
            Config::builder("").in_memory().build().unwrap_err().to_string(),
            &["node.id = \"\"", "1 to 64 ASCII letters"],
        ),
    ];
    for (message, parts) in cases {
        for part in parts {
            assert!(message.contains(part), "{message:?}, without {part:?}");
        }
    }
}
