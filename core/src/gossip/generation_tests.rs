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

/// One member has heard that another (or it) reset a counter, and of all that both know, a new one hears all but the reset.
fn hear_all_but_the_reset(direct_up_to: usize, resets: usize) {
    let settings = GossipSettings { direct_up_to, ..GossipSettings::default() };
    let mut net = Net::new(&["a", "b", "c"], &settings);
    net.add_to(0, "x", 5);
    net.add_to(0, "y", 1);
    net.converge(SECOND * 20);
    let owns: Vec<_> = net.members.iter().map(|member| member.table.own_replica()).collect();
    net.members[0].up = false;
    net.partition(1);
    let lifetime = Lifetime::new(SECOND * 90_000);
    let reset = net.members[resets].table.execute(net.time().wall, &key("x"), Op::Reset, lifetime);
    assert!(reset.unwrap().applied);
    net.converge(SECOND * 20);
    net.members[2].up = false;
    net.partition(2);
    net.cut.push((0, 1));

    // Were `b` lost now, and `c` with it, only who still has the 5 of `a` would count it, and would never be asked for it.
    let new = net.join("d", &settings, &[1]);
    run_without_updates_of(&mut net, &owns[resets], SECOND * 5);
    assert_eq!(net.members[new].table.value(net.time().wall, key("y").as_bytes()), 1);
    assert_eq!(net.members[new].table.watermark(&owns[0]), Version::ZERO);

    net.converge(SECOND * 20);
    assert_eq!(net.values("x"), [0, 0]);
    assert!(net.members[new].table.watermark(&owns[0]) > Version::ZERO);
}

#[test]
fn a_peer_is_believed_about_others_once_its_own_newer_generations_are_here() {
    hear_all_but_the_reset(32, 1);
    hear_all_but_the_reset(0, 1);
}

#[test]
fn a_peer_is_believed_about_others_once_the_generations_that_it_heard_of_are_here() {
    hear_all_but_the_reset(32, 2);
    hear_all_but_the_reset(0, 2);
}

#[test]
fn what_never_comes_is_not_waited_for_without_end() {
    let settings = GossipSettings::default();
    let mut net = Net::new(&["a", "b"], &settings);
    net.add_to(0, "x", 5);
    net.add_to(0, "y", 1);
    net.converge(SECOND * 20);
    let (a, b) = (net.members[0].table.own_replica(), net.members[1].table.own_replica());
    net.members[0].up = false;
    net.partition(1);
    let lifetime = Lifetime::new(SECOND * 90_000);
    net.members[1].table.execute(net.time().wall, &key("x"), Op::Reset, lifetime).unwrap();
    let new = net.join("c", &settings, &[1]);
    run_without_updates_of(&mut net, &b, SECOND * 15);
    assert!(net.members[new].table.watermark(&a) > Version::ZERO);
}
