//! Every setting of a node, from code; most programs need four of them. A file says the same: see docs/settings.md.

use std::time::Duration;

use tallymesh::{Config, ConfigBuilder, Durability, Limit, Unmatched, WhenFull, Window};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let ms = Duration::from_millis;
    let config = Config::builder("orchestrator-1")
        .data_dir("data/orchestrator-1")
        .listen("127.0.0.1:7946")
        .peers(["127.0.0.1:7947"])
        .insecure(false)
        .cluster("agents")
        .advertise("127.0.0.1:7946")
        .peer_exchange(true)
        .ready_timeout(ms(10_000))
        .leave_timeout(ms(1_000))
        .gossip_interval(ms(50))
        .urgent_at(0.7)
        .digest_interval(ms(1_000))
        .sync_timeout(ms(1_000))
        .direct_up_to(32)
        .fanout(4)
        .handshake_timeout(ms(5_000))
        .silence_timeout(ms(5_000))
        .clock_offset_max(ms(500))
        .max_connections(2_048)
        .max_frame_bytes(65_536)
        .max_frames_queued(8)
        .durability(Durability::Relaxed)
        .persist_every(ms(10))
        .max_counters(1_000_000)
        .when_full(WhenFull::Deny)
        .unmatched(Unmatched::Allow)
        .max_key_bytes(512)
        .max_labels(16)
        .max_replicas(262_144)
        .max_replicas_per_counter(131_072)
        .counters_grace(ms(60_000))
        .future_max(ms(600_000))
        .counters_ttl(Duration::from_secs(24 * 3600))
        .limit(Limit::new("calls", 100, Window::Fixed(Duration::from_secs(60))).per("session"))
        .build()?;
    assert_eq!(config.node_id().as_str(), "orchestrator-1");
    let names: Vec<&str> = config.limits().iter().map(Limit::name).collect();
    assert_eq!(names, ["calls"]);

    // A config goes back into a builder; one may also begin with a file.
    let other = config.to_builder().fanout(8).build()?;
    assert_eq!(other.limits().len(), 1);
    assert!(ConfigBuilder::from_file("no/such/file.toml").is_err());
    assert!(Config::from_file("no/such/file.toml").is_err());
    let error = Config::from_toml("[node]\nid = \"two words\"\ndata_dir = \"d\"").unwrap_err();
    assert!(error.to_string().contains("node.id"));
    Ok(())
}
