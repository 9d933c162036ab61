//! What a member vouches for where a newer generation took the place of what it would have to send.

use alloc::vec::Vec;
use core::time::Duration;

use super::test_net::{Net, key};
use super::*;
use crate::id::Version;
use crate::limit::Lifetime;
use crate::table::Op;
use crate::wire::{Message, Outbox, read_frame};

const SECOND: Duration = Duration::from_secs(1);

/// Runs for a while in which nothing arrives of what this replica tells of its own updates.
fn run_without_updates_of(net: &mut Net, own: &ReplicaId, time: Duration) {
    let (end, bytes_max) = (net.now + time, GossipSettings::default().frame_bytes_max);
    while net.now < end {
        net.step();
        for (_, _, bytes) in &mut net.frames {
            let mut messages = read_frame(bytes, bytes_max).unwrap().messages;
            messages.retain(|message| match message {
                Message::Delta(delta) => delta.replica != *own,
                Message::Push { replica, .. } => replica != own,
                _ => true,
            });
            let mut outbox = Outbox::default();
            let full: Vec<_> =
                messages.iter().filter_map(|message| outbox.push(message, bytes_max)).collect();
            assert!(full.is_empty(), "less than a frame");
            *bytes = outbox.finish().unwrap_or_default();
        }
        net.frames.retain(|(_, _, bytes)| !bytes.is_empty());
    }
}

#[test]
fn a_peer_is_believed_about_others_once_its_own_newer_generations_are_here() {
    for direct_up_to in [32, 0] {
        let settings = GossipSettings { direct_up_to, ..GossipSettings::default() };
        let mut net = Net::new(&["a", "b"], &settings);
        net.add_to(0, "x", 5);
        net.add_to(0, "y", 1);
        net.converge(SECOND * 20);
        let (a, b) = (net.members[0].table.own_replica(), net.members[1].table.own_replica());
        net.partition(1);
        net.members[0].up = false;
        let reset = net.members[1].table.execute(
            net.time().wall,
            &key("x"),
            Op::Reset,
            Lifetime::new(SECOND * 90_000),
        );
        assert!(reset.unwrap().applied);

        // Were `b` lost now, only who still has the 5 of `a` would count it, and would never be asked for it.
        let c = net.join("c", &settings, &[1]);
        run_without_updates_of(&mut net, &b, SECOND * 5);
        assert_eq!(net.members[c].table.value(net.time().wall, key("y").as_bytes()), 1);
        assert_eq!(net.members[c].table.watermark(&a), Version::ZERO);

        net.converge(SECOND * 20);
        assert_eq!(net.values("x"), [0, 0]);
        assert!(net.members[c].table.watermark(&a) > Version::ZERO);
    }
}
