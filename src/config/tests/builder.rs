//! The rows against the builder.

use std::collections::BTreeMap;

use super::super::settings::SETTINGS;
use super::super::tls::PATHS;
use super::*;
use crate::{ClusterKey, WhenCutOff, WhenLabelMissing, Window};

/// The builder's methods that set something: path to name.
pub(super) fn methods() -> BTreeMap<String, String> {
    let sources = [include_str!("../builder.rs"), include_str!("../builder/security.rs")].concat();
    let functions = sources.split("pub fn ").skip(1).filter_map(|function| {
        let name = function.split(['(', '<']).next()?;
        let body = function.split("\n    }\n").next()?;
        let path = body.split("self.set(\"").nth(1)?.split('"').next()?;
        Some((path.to_owned(), name.to_owned()))
    });
    functions.collect()
}

#[test]
fn every_setting_has_a_method_of_its_name() {
    let methods = methods();
    for setting in SETTINGS.iter().filter(|setting| setting.path != "node.id") {
        let method = methods.get(setting.path).unwrap_or_else(|| panic!("{}", setting.path));
        let with_table = setting.path.replace('.', "_");
        assert!([setting.name(), &with_table].contains(&method.as_str()), "{method}");
    }
    assert_eq!(methods.len() + 1, SETTINGS.len(), "{methods:?}");
}

/// Sets everything to something else than its default.
#[test]
fn the_builder_and_the_file_make_the_same_config() {
    let ms = Duration::from_millis;
    let booking = Limit::new("booking", 3, Window::Session { ttl: ms(3_600_000) });
    let booking = booking.when("session", "s?").when("tool", "book_*");
    let built = Config::builder("a")
        .data_dir("d")
        .slots(3)
        .slot(2)
        .control("c.sock")
        .listen("0.0.0.0:1")
        .peers(["h:1", "i:2"])
        .insecure(true)
        .gossip_key(
            [1, 2].map(|byte| ClusterKey::parse(&format!("{byte:02x}").repeat(32)).unwrap()),
        )
        .cluster("blue")
        .advertise("10.0.0.7:7946")
        .peer_exchange(false)
        .ready_timeout(ms(10_001))
        .leave_timeout(ms(1_001))
        .gossip_interval(ms(51))
        .urgent_at(0.5)
        .digest_interval(ms(1001))
        .sync_timeout(ms(0))
        .direct_up_to(33)
        .fanout(5)
        .handshake_timeout(ms(5001))
        .silence_timeout(ms(5002))
        .presumed_dead_after(ms(60_001))
        .clock_offset_max(ms(501))
        .max_connections(2049)
        .max_frame_bytes(65537)
        .max_frames_queued(9)
        .operator_public_key("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
        .durability(Durability::Relaxed)
        .persist_every(ms(11))
        .max_counters(1_000_001)
        .when_full(WhenFull::Allow)
        .unmatched(Unmatched::Deny)
        .max_key_bytes(513)
        .max_labels(17)
        .max_replicas(65537)
        .max_replicas_per_counter(1025)
        .counters_grace(ms(60_001))
        .future_max(ms(600_001))
        .counters_ttl(ms(86_400_001))
        .limit(booking.per("session").per("user"))
        .limit(
            Limit::new("all", 100, Window::Fixed(ms(60_000)))
                .when_label_missing(WhenLabelMissing::Skip)
                .when_cut_off(WhenCutOff::Share),
        );
    let file = include_str!("../../../tests/fixtures/every_setting.toml");
    // Each excludes one that is there.
    let absent =
        ["storage.in_memory", "gossip.key_file", "gossip.node_key", "gossip.node_key_file"];
    let absent = [&absent[..], &["gossip.members"]].concat();
    let absent = [&absent[..], &PATHS].concat();
    for setting in SETTINGS.iter().filter(|setting| !absent.contains(&setting.path)) {
        assert!(file.contains(&format!("\n{} = ", setting.name())), "{}", setting.path);
    }
    let read = Config::from_toml(file);
    let text = |config: Config| format!("{config:?}");
    assert_eq!(text(built.build().unwrap()), text(read.unwrap()));

    let built = Config::builder("a").in_memory().durability(Durability::Sync).build();
    let read = Config::from_toml(
        "[node]\nid = \"a\"\n[storage]\ndurability = \"sync\"\nin_memory = true\n",
    );
    assert_eq!(text(built.unwrap()), text(read.unwrap()));
}
