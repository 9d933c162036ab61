//! What it costs to note who brought an update: merging 100,000 cells of a peer into counters of three limits, with and without the link
//! that they came by.
//!
//! ```text
//! cargo bench -p tallymesh --bench merge
//! ```

#![allow(clippy::disallowed_methods, reason = "a benchmark reads the time")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tallymesh_core::crdt::{Marks, Update};
use tallymesh_core::id::{Incarnation, ReplicaId, Version};
use tallymesh_core::limit::{Limit, Policy, Window};
use tallymesh_core::link::LinkName;
use tallymesh_core::table::{Bounds, Table};
use tallymesh_core::time::Timestamp;

const NOW: Timestamp = Timestamp(1_790_000_000_000);
const COUNTERS: u64 = 100_000;
const ROUNDS: usize = 9;
/// As many as fit in a frame of the default length.
const BATCH: usize = 800;

fn main() {
    let limits = [5, 10, 100].map(|max| {
        let day = Window::Fixed(Duration::from_secs(24 * 3600));
        Limit::new(format!("limit of {max}"), max, day).per("session")
    });
    let policy = Policy::new(limits.clone()).expect("the limits are valid");
    let link = Arc::new(LinkName {
        node: "peer".parse().expect("a plain name"),
        key: Some("0123456789abcdef".to_owned()),
        address: Some("10.0.0.7".to_owned()),
    });
    println!("ns for each update, medians of {ROUNDS} rounds of {COUNTERS} updates");
    for (what, p) in [("no limit reached", 4), ("one counter in three reaches its limit", 6)] {
        let (mut plain, mut noted) = (Vec::new(), Vec::new());
        // In turn, so that what else the machine does meets both alike.
        for round in 0..ROUNDS as u64 {
            plain.push(merged(&limits, &policy, (round, p), None));
            noted.push(merged(&limits, &policy, (round, p), Some(&link)));
        }
        let (plain, noted) = (median(plain), median(noted));
        println!("{what:<40} merged {plain:>6.1}, with who brought it {noted:>6.1}");
    }
}

/// How long an update takes, in ns: the second one of each counter, which takes it from 3 to `p`.
fn merged(
    limits: &[Limit],
    policy: &Policy,
    (seed, p): (u64, u64),
    link: Option<&Arc<LinkName>>,
) -> f64 {
    let own = replica("own");
    let table = Table::new(own, Bounds::default(), [seed, 2, 3, 4]);
    table.watch_limits(limits);
    let peer = replica("peer");
    let updates = |p: u64, from: u64| -> Vec<Update> {
        let update = |number: u64| Update {
            key: policy.key_under(number as usize % limits.len(), [&*number.to_string()], NOW),
            version: Version(from + number + 1),
            generation: 0,
            p,
            n: 0,
            marks: Marks::default(),
        };
        (0..COUNTERS).map(update).collect()
    };
    table.apply(NOW, &peer, &updates(3, 0));
    let second = updates(p, COUNTERS);
    let begun = Instant::now();
    for batch in second.chunks(BATCH) {
        let applied = match link {
            Some(link) => table.apply_from(NOW, link, &peer, batch),
            None => table.apply(NOW, &peer, batch),
        };
        assert_eq!(black_box(applied).new.len(), batch.len());
    }
    begun.elapsed().as_nanos() as f64 / COUNTERS as f64
}

fn replica(name: &str) -> ReplicaId {
    let incarnation = Incarnation { boot: 1, nonce: 7 };
    ReplicaId { node: name.parse().expect("a plain name"), incarnation }
}

fn median(mut rounds: Vec<f64>) -> f64 {
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}
