//! How long a replica is told of and remembered, and what becomes of one that returns.

use alloc::format;
use alloc::vec::Vec;
use core::time::Duration;

use super::tests::{all_told, replica, sync, table, ttl};
use super::*;
use crate::crdt::DigestEntry;
use crate::id::Version;
use crate::key::CounterKey;
use crate::limit::WINDOW_MAX;
use crate::time::Timestamp;

const NOW: u64 = 1_790_000_000_000;
const MINUTE: u64 = 60_000;

fn key(name: &str) -> CounterKey {
    CounterKey::new(name, &[]).unwrap()
}

/// Counts 1 in a counter that lives for so long without use.
fn count(table: &Table, name: &str, now: u64, ttl_ms: u64) {
    table.execute(Timestamp(now), &key(name), Op::Add(1), ttl(ttl_ms)).unwrap();
}

/// What time does to a table: expired counters go, and replicas are looked at.
fn age(table: &Table, now: u64) {
    let mut next = None;
    loop {
        next = table.sweep(Timestamp(now), next);
        if next.is_none() {
            break;
        }
    }
    table.forget_ended(Timestamp(now), |_| false);
}

fn is_told(table: &Table, replica: &ReplicaId, now: u64) -> bool {
    all_told(table, now).iter().any(|entry| entry.replica == *replica)
}

#[test]
fn it_is_told_half_a_grace_beyond_its_end_and_remembered_a_whole_one() {
    let (a, b) = (table("a"), table("b"));
    count(&a, "x", NOW, 10 * MINUTE);
    sync(&a, &b, NOW);
    let (own, end) = (a.own_replica(), b.digest_entry(&a.own_replica()).end.0);
    let counter_ends = b.counter(key("x").as_bytes()).unwrap().expires_at.0;
    assert!(end >= counter_ends && end < counter_ends + MINUTE && end % MINUTE == 0);
    for (now, told, known) in [
        (end - 1, true, true),
        (end + MINUTE / 2 - 1, true, true),
        (end + MINUTE / 2, false, true),
        (end + MINUTE - 1, false, true),
        (end + MINUTE, false, false),
    ] {
        age(&b, now);
        let found = (is_told(&b, &own, now), b.knows(&own));
        assert_eq!(found, (told, known), "{} after its end", now as i64 - end as i64);
    }
    assert_eq!((b.take_forgotten(), b.replicas_known()), (Vec::from([own]), 1));
}

#[test]
fn who_is_connected_is_remembered_and_is_forgotten_soon_after_that() {
    let (a, b) = (table("a"), table("b"));
    count(&a, "x", NOW, MINUTE);
    sync(&a, &b, NOW);
    let own = a.own_replica();
    let late = NOW + 100 * MINUTE;
    age(&b, NOW + 5);
    let mut next = None;
    while let Some(slot) = b.sweep(Timestamp(late), next) {
        next = Some(slot);
    }
    b.forget_ended(Timestamp(late), |replica| *replica == own);
    assert!(b.knows(&own));
    age(&b, late + MINUTE / 4);
    assert!(!b.knows(&own));
}

#[test]
fn a_session_that_others_keep_alive_keeps_the_replica_and_is_told_to_who_is_new() {
    let (a, b, c) = (table("a"), table("b"), table("c"));
    count(&a, "x", NOW, 2 * MINUTE);
    sync(&a, &b, NOW);
    let own = a.own_replica();
    let mut now = NOW;
    for _ in 0..40 {
        now += MINUTE;
        count(&b, "x", now, 2 * MINUTE);
        b.harvest(DirtySet::All);
        age(&b, now);
        assert!(is_told(&b, &own, now));
    }
    sync(&b, &c, now);
    assert_eq!(c.value(Timestamp(now), key("x").as_bytes()), 41);
    age(&b, now + 6 * MINUTE);
    assert!(!b.knows(&own));
}

#[test]
fn who_never_saw_the_cells_forgets_with_the_others() {
    let (a, b, c) = (table("a"), table("b"), table("c"));
    count(&a, "x", NOW, MINUTE);
    sync(&a, &b, NOW);
    // The counter has ended, and its replica is still told.
    let now = NOW + MINUTE + 10_000;
    let own = a.own_replica();
    let entry = b.digest_entry(&own);
    assert!(!c.hear_end(Timestamp(now), &entry));
    assert!(c.complete(&own, Version::ZERO, entry.watermark));
    assert_eq!((c.digest_entry(&own), c.len()), (entry.clone(), 0));
    let end = entry.end.0;
    for table in [&b, &c] {
        age(table, end + MINUTE - 1);
        assert!(table.knows(&own));
        age(table, end + MINUTE);
        assert!(!table.knows(&own));
    }
    // What is over is not remembered again on anyone's word.
    assert!(c.hear_end(Timestamp(end + MINUTE), &entry) && !c.knows(&own));
}

#[test]
fn an_end_that_no_counter_can_have_is_cut() {
    let b = table("b");
    let boast = DigestEntry {
        replica: replica("a", 1),
        watermark: Version(5),
        ahead: 0,
        end: Timestamp(u64::MAX),
    };
    b.hear_end(Timestamp(NOW), &boast);
    let latest = NOW + (Bounds::default().future_max + WINDOW_MAX * 17 / 16).as_millis() as u64;
    assert!(b.digest_entry(&boast.replica).end.0 <= latest + MINUTE);
}

#[test]
fn the_longest_grace_of_the_cluster_counts_for_replicas() {
    let (a, b) = (table("a"), table("b"));
    b.heed_grace(Duration::from_secs(600));
    b.heed_grace(Duration::from_secs(1));
    count(&a, "x", NOW, MINUTE);
    sync(&a, &b, NOW);
    let end = b.digest_entry(&a.own_replica()).end.0;
    assert_eq!(end % (10 * MINUTE), 0);
    age(&b, end + 9 * MINUTE);
    assert!(b.knows(&a.own_replica()));
    age(&b, end + 10 * MINUTE);
    assert!(!b.knows(&a.own_replica()));
}

#[test]
fn one_that_returns_is_new_here_and_loses_nothing() {
    let (a, b) = (table("a"), table("b"));
    let own = a.own_replica();
    count(&a, "brief", NOW, MINUTE);
    sync(&a, &b, NOW);
    let late = NOW + 100 * MINUTE;
    age(&b, late);
    assert!(!b.knows(&own));
    // It comes with nothing new, with something new, and with something new again.
    sync(&a, &b, late);
    count(&a, "x", late, 10 * MINUTE);
    sync(&a, &b, late);
    age(&b, late + 1);
    count(&a, "x", late + 2, 10 * MINUTE);
    sync(&a, &b, late + 2);
    assert_eq!(b.value(Timestamp(late + 2), key("x").as_bytes()), 2);
    assert_eq!(b.watermark(&own), a.own_watermark());
}

#[test]
fn pods_without_end_leave_nothing_behind() {
    let b = table("b");
    for pod in 0..500 {
        let now = NOW + pod * MINUTE;
        let a = Table::new(replica(&format!("pod-{pod}"), now), Bounds::default(), [1, 2, 3, 4]);
        count(&a, &format!("x{pod}"), now, MINUTE);
        sync(&a, &b, now);
        age(&b, now);
        assert!(b.replicas_known() <= 8, "{} after {pod} pods", b.replicas_known());
    }
    assert!(b.take_replica_marks().len() <= 8 && b.take_forgotten().len() > 490);
}

#[test]
fn checksums_tell_which_buckets_differ_and_leave_out_who_is_named() {
    let (b, c) = (table("b"), table("c"));
    let pods: Vec<Table> = (0..200).map(|pod| table(&format!("pod-{pod}"))).collect();
    for a in &pods {
        count(a, "x", NOW, 10 * MINUTE);
        sync(a, &b, NOW);
        sync(a, &c, NOW);
    }
    let (now, own) = (Timestamp(NOW), [b.own_replica(), c.own_replica()]);
    let sums = |table: &Table| table.bucket_sums(now, &own);
    assert_eq!(sums(&b), sums(&c));
    let Some(newer) = pods.first() else { return };
    count(newer, "x", NOW, 10 * MINUTE);
    sync(newer, &b, NOW);
    assert_ne!(sums(&b).total(), sums(&c).total());
    let halves = sums(&c).halves();
    let differing: Vec<usize> =
        (0..256).filter(|bucket| !sums(&b).is_equal(*bucket, &halves)).collect();
    assert_eq!(differing.len(), 1);
    let entries = b.digest_of_bucket(now, differing[0]);
    assert!(entries.len() < 10);
    assert!(entries.iter().any(|entry| entry.replica == newer.own_replica()));
    let except = [&own[..], &[newer.own_replica()]].concat();
    assert_eq!(b.bucket_sums(now, &except), c.bucket_sums(now, &except));
}
