//! The table as a whole: admission, replication between tables, expiry and persistence.

use alloc::{
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};
use core::time::Duration;

use super::*;
use crate::crdt::DigestEntry;
use crate::id::{Incarnation, Version};
use crate::key::{CounterKey, WindowSpan};
use crate::limit::{
    Demands, DenialReason, Lifetime, Limit, Policy, Request, WhenLabelMissing, Window,
};
use crate::time::Timestamp;

const HOUR: Duration = Duration::from_secs(3600);
const FRAME: usize = 60_000;

pub(super) fn replica(node: &str, boot: u64) -> ReplicaId {
    ReplicaId { node: node.parse().unwrap(), incarnation: Incarnation { boot, nonce: 7 } }
}

pub(super) fn table(node: &str) -> Table {
    Table::new(replica(node, 1), Bounds::default(), [1, 2, 3, 4])
}

/// A lifetime of so many milliseconds.
pub(super) fn ttl(ms: u64) -> Lifetime {
    Lifetime::new(Duration::from_millis(ms))
}

fn session_limits(max_tool: u64, max_user: u64) -> Policy {
    let window = Window::Session { ttl: HOUR };
    Policy::new([
        Limit::new("tool", max_tool, window).per("session").per("tool"),
        Limit::new("user", max_user, window).per("user").when_label_missing(WhenLabelMissing::Skip),
    ])
    .unwrap()
}

fn ask(table: &Table, policy: &Policy, request: &Request<'_>, now: u64) -> Admission {
    let mut demands = Demands::default();
    policy.find_demands(request, Timestamp(now), 512, &mut demands).unwrap();
    table.acquire(Timestamp(now), &demands)
}

fn admits(table: &Table, policy: &Policy, request: &Request<'_>, now: u64) -> bool {
    matches!(ask(table, policy, request, now), Admission::Allowed { .. })
}

/// What a table tells of all replicas.
pub(super) fn all_told(table: &Table, now: u64) -> Vec<DigestEntry> {
    (0..BUCKETS).flat_map(|bucket| table.digest_of_bucket(Timestamp(now), bucket)).collect()
}

/// Sends everything that `from` has of every replica to `to`.
pub(super) fn sync(from: &Table, to: &Table, now: u64) {
    from.harvest(DirtySet::All);
    for entry in all_told(from, now) {
        let replica = &entry.replica;
        let start = to.watermark(replica);
        let mut at = start;
        while let Some(part) = from.updates_after(replica, at, FRAME) {
            to.apply(Timestamp(now), replica, &part.updates);
            at = part.to;
            if let Some(watermark) = part.watermark {
                assert!(to.complete(replica, start, watermark));
                break;
            }
        }
    }
}

fn all(table: &Table) -> Vec<CounterState> {
    let mut counters = Vec::new();
    let mut next = None;
    loop {
        let (page, following) = table.page(next);
        counters.extend(page);
        next = following;
        if next.is_none() {
            return counters;
        }
    }
}

#[test]
fn a_request_is_charged_to_all_its_limits_or_to_none() {
    let (table, policy) = (table("a"), session_limits(5, 3));
    let request = |session| Request::tool_call(session, "book").with("user", "u");
    assert!((0..3).all(|_| admits(&table, &policy, &request("s1"), 0)));
    // The user's limit is used up; the session's has room, and keeps it.
    assert!(!admits(&table, &policy, &request("s1"), 0));
    assert!(!admits(&table, &policy, &request("s2"), 0));
    let values: Vec<(String, u64)> =
        all(&table).into_iter().map(|c| (c.key.to_string(), c.value)).collect();
    assert_eq!(values.len(), 2, "a denied request makes no counter: {values:?}");
    assert!(values.iter().all(|(_, value)| *value == 3), "{values:?}");
}

#[test]
fn costs_count_and_a_cost_over_the_max_never_fits() {
    let (table, policy) = (table("a"), session_limits(5, 100));
    let request = |cost| Request::tool_call("s", "t").cost(cost);
    assert!(admits(&table, &policy, &request(4), 0));
    let Admission::Denied { reason, remaining, retry_after, .. } =
        ask(&table, &policy, &request(2), 0)
    else {
        panic!("2 do not fit in 1");
    };
    assert_eq!((reason, remaining), (DenialReason::LimitReached, 1));
    assert!(retry_after.unwrap() >= HOUR);
    let Admission::Denied { reason, retry_after, .. } = ask(&table, &policy, &request(6), 0) else {
        panic!("6 do not fit in 5");
    };
    assert_eq!((reason, retry_after), (DenialReason::CostOverMax, None));
    assert!(admits(&table, &policy, &request(1), 0));
    assert!(admits(&table, &policy, &request(0), 0), "nothing is asked for");
}

#[test]
fn a_refund_comes_back_once_and_only_to_the_counter_that_was_charged() {
    let (table, policy) = (table("a"), session_limits(2, 9));
    let request = Request::tool_call("s", "t");
    let charged = |now| match ask(&table, &policy, &request, now) {
        Admission::Allowed { debits, .. } => debits,
        Admission::Denied { .. } => panic!("there is room"),
    };
    let (first, _second) = (charged(0), charged(0));
    table.refund(&first, 1);
    let third = charged(0);
    assert!(!admits(&table, &policy, &request, 0));
    // The session expires and begins again: what was charged before is not returned to it.
    let later = 2 * 3_600_000;
    let _ = charged(later);
    table.refund(&third, 1);
    assert_eq!(all(&table)[0].value, 1);
}

#[test]
fn full_tables_deny_with_their_own_reason_or_admit_uncounted() {
    let policy = session_limits(5, 5);
    let bounds = |admit_when_full| Bounds { counters_max: 1, admit_when_full, ..Bounds::default() };
    let strict = Table::new(replica("a", 1), bounds(false), [1, 2, 3, 4]);
    assert!(admits(&strict, &policy, &Request::tool_call("s1", "t"), 0));
    let Admission::Denied { reason, .. } = ask(&strict, &policy, &Request::tool_call("s2", "t"), 0)
    else {
        panic!("there is no room");
    };
    assert_eq!(reason, DenialReason::TooManyCounters);
    assert!(
        admits(&strict, &policy, &Request::tool_call("s1", "t"), 0),
        "counters that are there go on"
    );
    assert_eq!(strict.rejections().counters_refused, 1);

    let lenient = Table::new(replica("a", 1), bounds(true), [1, 2, 3, 4]);
    assert!(admits(&lenient, &policy, &Request::tool_call("s1", "t"), 0));
    assert!(admits(&lenient, &policy, &Request::tool_call("s2", "t"), 0));
    assert_eq!(lenient.len(), 1);
}

#[test]
fn a_limit_applies_to_what_peers_counted_too() {
    let (a, b, policy) = (table("a"), table("b"), session_limits(3, 9));
    let request = Request::tool_call("s", "t");
    assert!(admits(&a, &policy, &request, 0) && admits(&b, &policy, &request, 0));
    sync(&a, &b, 0);
    assert!(admits(&b, &policy, &request, 0));
    assert!(!admits(&b, &policy, &request, 0));
    sync(&b, &a, 0);
    assert!(!admits(&a, &policy, &request, 0));
    sync(&a, &b, 0);
    assert_eq!(a.state_checksum(Timestamp(0)), b.state_checksum(Timestamp(0)));
}

#[test]
fn windows_roll_over_while_peers_cells_are_there() {
    let (a, b) = (table("a"), table("b"));
    let policy = Policy::new([Limit::new("l", 3, Window::Fixed(Duration::from_secs(60)))]).unwrap();
    let request = Request::new();
    assert!(admits(&a, &policy, &request, 59_000) && admits(&a, &policy, &request, 59_000));
    sync(&a, &b, 59_500);
    assert!(admits(&b, &policy, &request, 59_900) && !admits(&b, &policy, &request, 59_900));
    // The new window reads 1 after one call, whatever the peers had in the old one, and however late that arrives.
    assert!(admits(&b, &policy, &request, 60_000));
    sync(&b, &a, 60_100);
    sync(&a, &b, 60_200);
    let key = policy.key_under(0, [], Timestamp(60_000));
    for table in [&a, &b] {
        assert_eq!(table.value(Timestamp(60_300), &key), 1);
    }
    let old = policy.key_under(0, [], Timestamp(0));
    assert_eq!(a.value(Timestamp(60_300), &old), 0, "a closed window is not read again");
    assert!(admits(&a, &policy, &request, 60_400) && admits(&a, &policy, &request, 60_400));
    assert!(!admits(&a, &policy, &request, 60_400));
}

#[test]
fn denied_requests_keep_a_session_used_up_and_a_pause_ends_it() {
    let (table, policy) = (table("a"), session_limits(1, 9));
    let request = Request::tool_call("s", "t");
    let minute = 60_000;
    assert!(admits(&table, &policy, &request, 0));
    for attempt in 1..300 {
        assert!(!admits(&table, &policy, &request, attempt * minute), "after {attempt} minutes");
    }
    let ends = 299 * minute + 3_600_000 * 17 / 16 + 1;
    let Admission::Denied { retry_after: Some(wait), .. } =
        ask(&table, &policy, &request, 299 * minute)
    else {
        panic!("it is used up");
    };
    assert!(wait >= HOUR && wait <= HOUR * 17 / 16);
    assert!(admits(&table, &policy, &request, ends));
    assert!(!admits(&table, &policy, &request, ends));
}

#[test]
fn a_flood_of_denials_is_not_a_flood_of_updates() {
    let (table, policy) = (table("a"), session_limits(1, 9));
    let request = Request::tool_call("s", "t");
    assert!(admits(&table, &policy, &request, 0));
    for ms in 0..3_600_000 / 4 {
        if ms % 100 == 0 {
            assert!(!admits(&table, &policy, &request, ms));
            table.harvest(DirtySet::All);
        }
    }
    assert!(table.watermark(&replica("a", 1)) <= Version(6));
}

#[test]
fn a_counter_that_changes_for_ever_takes_no_more_memory() {
    let (a, b, policy) = (table("a"), table("b"), session_limits(1_000_000, 9));
    let (own, requests) = (replica("a", 1), ["s", "t"].map(|s| Request::tool_call(s, "tool")));
    for round in 0..20_000 {
        assert!(admits(&a, &policy, &requests[round % 2], 0));
        a.harvest(DirtySet::All);
        sync(&a, &b, 0);
    }
    for table in [&a, &b] {
        let replicas = table.lock_replicas();
        let index = replicas.index(&own).unwrap();
        assert!(replicas.updates_after(index, Version::ZERO).count() < 2_000);
    }
}

#[test]
fn a_session_that_comes_back_replaces_the_expired_one_everywhere() {
    let (a, b, policy) = (table("a"), table("b"), session_limits(2, 9));
    let request = Request::tool_call("s", "t");
    assert!(admits(&a, &policy, &request, 0) && admits(&b, &policy, &request, 0));
    sync(&a, &b, 0);
    sync(&b, &a, 0);
    // Both still hold the cells of the first session when the second begins.
    let back = 3_600_000 * 17 / 16 + 1;
    assert!(admits(&a, &policy, &request, back));
    sync(&a, &b, back);
    assert!(admits(&b, &policy, &request, back));
    assert!(!admits(&b, &policy, &request, back));
    sync(&b, &a, back);
    assert!(!admits(&a, &policy, &request, back));
    assert_eq!(a.state_checksum(Timestamp(back)), b.state_checksum(Timestamp(back)));
}

#[test]
fn expired_counters_leave_after_their_grace_and_do_not_come_back() {
    let (a, b, policy) = (table("a"), table("b"), session_limits(2, 9));
    assert!(admits(&a, &policy, &Request::tool_call("s", "t"), 0));
    a.harvest(DirtySet::All);
    let own = replica("a", 1);
    let late = a.updates_after(&own, Version::ZERO, FRAME).unwrap();
    let after_grace = 3_600_000 * 17 / 16 + 60_001;
    let mut next = None;
    while {
        next = a.sweep(Timestamp(after_grace), next);
        next.is_some()
    } {}
    assert_eq!((a.len(), all(&a).len()), (0, 0));
    b.apply(Timestamp(after_grace), &own, &late.updates);
    assert!(b.complete(&own, Version::ZERO, late.watermark.unwrap()));
    assert_eq!(b.len(), 0);
    assert_eq!(b.watermark(&own), Version(1), "it is not asked for again");
    assert_eq!(b.rejections().cells_late, 1);
}

#[test]
fn a_long_log_is_read_in_parts_of_bounded_size() {
    let (a, b) = (table("a"), table("b"));
    for n in 0..2_000 {
        let key = CounterKey::new("l", &[&n.to_string()]).unwrap();
        a.execute(Timestamp(0), &key, Op::Add(n), ttl(9_000_000)).unwrap();
    }
    a.harvest(DirtySet::All);
    let own = replica("a", 1);
    let (mut at, mut parts) = (Version::ZERO, 0);
    loop {
        let part = a.updates_after(&own, at, 4_000).unwrap();
        let bytes: usize = part
            .updates
            .iter()
            .map(|update| update.key.len() + crate::crdt::UPDATE_BYTES_ESTIMATE)
            .sum();
        assert!(bytes <= 4_000);
        b.apply(Timestamp(0), &own, &part.updates);
        parts += 1;
        at = part.to;
        if let Some(watermark) = part.watermark {
            assert!(b.complete(&own, Version::ZERO, watermark));
            break;
        }
    }
    assert!(parts > 10);
    assert_eq!(b.watermark(&own), Version(2_000));
    assert_eq!(a.state_checksum(Timestamp(0)), b.state_checksum(Timestamp(0)));
}

#[test]
fn what_comes_after_a_hole_counts_but_does_not_move_the_watermark() {
    let (a, b) = (table("a"), table("b"));
    let own = replica("a", 1);
    for n in 0..300 {
        let key = CounterKey::new("l", &[&n.to_string()]).unwrap();
        a.execute(Timestamp(0), &key, Op::Add(1), ttl(9_000_000)).unwrap();
    }
    a.harvest(DirtySet::All);
    let first = a.updates_after(&own, Version::ZERO, 4_000).unwrap();
    let rest = a.updates_after(&own, first.to, FRAME).unwrap();
    b.apply(Timestamp(0), &own, &rest.updates);
    assert!(!b.complete(&own, first.to, rest.watermark.unwrap()));
    assert_eq!(b.watermark(&own), Version::ZERO);
    assert_eq!(b.len(), rest.updates.len());
    sync(&a, &b, 0);
    assert_eq!(b.watermark(&own), Version(300));
    assert_eq!(a.state_checksum(Timestamp(0)), b.state_checksum(Timestamp(0)));
}

#[test]
fn what_is_pushed_out_of_order_reaches_third_parties_after_its_writer_is_gone() {
    let (a, b, c) = (table("a"), table("b"), table("c"));
    let own = replica("a", 1);
    let key = CounterKey::new("l", &[]).unwrap();
    a.execute(Timestamp(0), &key, Op::Add(5), ttl(9_000_000)).unwrap();
    let slots = a.harvest(DirtySet::All);
    b.apply(Timestamp(0), &own, &a.updates(&own, &slots));
    assert_eq!(b.watermark(&own), Version::ZERO);
    let (ours, theirs) = (c.digest_entry(&own), b.digest_entry(&own));
    assert_eq!(ours.watermark, theirs.watermark);
    assert_ne!(ours.ahead, theirs.ahead, "the digests tell that b has more");
    sync(&b, &c, 0);
    assert_eq!(c.value(Timestamp(0), key.as_bytes()), 5);
    assert_eq!(b.digest_entry(&own), c.digest_entry(&own));
}

#[test]
fn a_cell_is_never_sent_with_values_that_its_version_did_not_have() {
    let (a, b) = (table("a"), table("b"));
    let own = replica("a", 1);
    let key = CounterKey::new("l", &[]).unwrap();
    let add = || a.execute(Timestamp(0), &key, Op::Add(1), ttl(9_000_000)).unwrap();
    add();
    a.harvest(DirtySet::All);
    let before = a.updates_after(&own, Version::ZERO, FRAME).unwrap();
    add();
    let after = a.updates_after(&own, Version::ZERO, FRAME).unwrap();
    assert_eq!((before.updates[0].p, before.updates[0].version), (1, Version(1)));
    assert_eq!((after.updates[0].p, after.updates[0].version), (2, Version(2)));
    b.apply(Timestamp(0), &own, &after.updates);
    b.apply(Timestamp(0), &own, &before.updates);
    assert_eq!(b.value(Timestamp(0), key.as_bytes()), 2);
    assert_eq!(after.watermark, Some(Version(2)));
}

#[test]
fn implausible_updates_are_dropped_and_counted() {
    let (a, b) = (table("a"), table("b"));
    let key = CounterKey::new("l", &[]).unwrap();
    a.execute(Timestamp(0), &key, Op::Add(1), ttl(9_000_000)).unwrap();
    a.harvest(DirtySet::All);
    let own = replica("a", 1);
    let honest = a.updates_after(&own, Version::ZERO, FRAME).unwrap().updates.remove(0);
    let forge = |change: &dyn Fn(&mut crate::crdt::Update)| {
        let mut forged = honest.clone();
        change(&mut forged);
        b.apply(Timestamp(0), &own, &[forged]).implausible
    };
    assert_eq!(forge(&|update| update.p = u64::MAX), 1);
    assert_eq!(forge(&|update| update.n = 1 << 53), 1);
    assert_eq!(forge(&|update| update.key = vec![0xff; 30]), 1);
    assert_eq!(forge(&|update| update.key = vec![0; 3000]), 1);
    assert_eq!(forge(&|update| update.version = Version::ZERO), 1);
    assert_eq!(forge(&|update| update.marks.at = u64::MAX), 1);
    assert_eq!(forge(&|update| update.marks.at = 600_001), 1, "a use in the future");
    assert_eq!(forge(&|update| update.marks.p0 = 366 * 86_400_000 + 1), 1);
    let far = WindowSpan::at(60_000, Timestamp(86_400_000)).unwrap();
    assert_eq!(
        forge(&|update| update.key = CounterKey::windowed("l", &[], far).unwrap().as_bytes().into()),
        1
    );
    assert_eq!(b.len(), 0);
    // Only we write our own cells: what a peer sends of them changes nothing.
    assert_eq!(b.apply(Timestamp(0), &replica("b", 1), &[honest]).implausible, 1);
    assert_eq!((b.len(), b.watermark(&replica("b", 1))), (0, Version::ZERO));
    assert_eq!(b.rejections().cells_implausible, 10);
}

#[test]
fn a_restart_relearns_what_its_disk_had_lost() {
    // Term 1 of a counts 5, of which the disk has 3 and the peer has all.
    let (a1, b) = (table("a"), table("b"));
    let key = CounterKey::new("l", &[]).unwrap();
    let add = |table: &Table, amount| {
        table.execute(Timestamp(0), &key, Op::Add(amount), ttl(9_000_000)).unwrap()
    };
    add(&a1, 3);
    let mut disk = Vec::new();
    a1.harvest(DirtySet::All);
    let marks = a1.take_replica_marks();
    a1.take_unpersisted(|part| {
        disk.extend(part.changed.into_iter().map(|changed| changed.counter));
        Ok::<(), ()>(())
    })
    .unwrap();
    add(&a1, 2);
    sync(&a1, &b, 0);
    assert_eq!(b.value(Timestamp(0), key.as_bytes()), 5);

    let a2 = Table::new(replica("a", 2), Bounds::default(), [1, 2, 3, 4]);
    let mut restore = Restore::into(&a2);
    disk.iter().for_each(|stored| restore.add(stored));
    restore.finish(marks);
    assert_eq!(a2.value(Timestamp(0), key.as_bytes()), 3);
    // It counts at once, before anything arrives: the peer's newer old cell must not hide that.
    add(&a2, 1);
    sync(&a2, &b, 0);
    assert_eq!(b.value(Timestamp(0), key.as_bytes()), 6);
    sync(&b, &a2, 0);
    assert_eq!(a2.value(Timestamp(0), key.as_bytes()), 6);
    assert_eq!(a2.state_checksum(Timestamp(0)), b.state_checksum(Timestamp(0)));
}

#[test]
fn a_reset_wins_over_what_it_replaces_in_any_order() {
    let (a, b) = (table("a"), table("b"));
    let key = CounterKey::new("l", &[]).unwrap();
    let end = ttl(9_000_000);
    a.execute(Timestamp(0), &key, Op::Add(5), end).unwrap();
    sync(&a, &b, 0);
    b.execute(Timestamp(0), &key, Op::Reset, end).unwrap();
    b.execute(Timestamp(0), &key, Op::Add(1), end).unwrap();
    a.execute(Timestamp(0), &key, Op::Add(1), end).unwrap();
    sync(&a, &b, 0);
    assert_eq!(b.value(Timestamp(0), key.as_bytes()), 1);
    sync(&b, &a, 0);
    assert_eq!(a.value(Timestamp(0), key.as_bytes()), 1);
    a.execute(Timestamp(0), &key, Op::Add(2), end).unwrap();
    sync(&a, &b, 0);
    assert_eq!(b.value(Timestamp(0), key.as_bytes()), 3);
    assert_eq!(a.state_checksum(Timestamp(0)), b.state_checksum(Timestamp(0)));
}

#[test]
fn threads_admit_exactly_the_limit_and_do_not_deadlock() {
    let (table, policy) = (table("a"), session_limits(1_000_000, 500));
    let admitted: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let (table, policy) = (&table, &policy);
                scope.spawn(move || {
                    let sessions: Vec<String> =
                        (0..16).map(|n| format!("s{}", n * (thread + 1))).collect();
                    (0..1_000)
                        .filter(|n| {
                            let session = &sessions[n % sessions.len()];
                            let request = Request::tool_call(session, "t").with("user", "u");
                            if n % 50 == 0 {
                                table.harvest(DirtySet::All);
                            }
                            admits(table, policy, &request, 0)
                        })
                        .count()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(admitted, 500);
}

#[test]
fn a_replica_can_be_read_to_its_end_however_many_updates_fill_a_part() {
    let a = table("a");
    let own = a.own_replica();
    let key = CounterKey::new("x", &[]).unwrap();
    for count in 1..40_u64 {
        a.execute(Timestamp(0), &key, Op::Add(1), ttl(9_000_000)).unwrap();
        a.harvest(DirtySet::All);
        // All but the last are superseded, so that parts are filled by how many are looked at, not by their bytes.
        let (mut at, mut parts) = (Version::ZERO, 0);
        let watermark = loop {
            let part = a.updates_after(&own, at, 400).unwrap();
            (at, parts) = (part.to, parts + 1);
            assert!(parts <= count, "{count} updates in {parts} parts");
            if let Some(watermark) = part.watermark {
                break watermark;
            }
        };
        assert_eq!(watermark, Version(count));
    }
}

#[test]
fn an_expired_counter_is_not_merged_with_its_successor() {
    let (a, b) = (table("a"), table("b"));
    let key = CounterKey::new("x", &[]).unwrap();
    a.execute(Timestamp(0), &key, Op::Add(3), ttl(1_000)).unwrap();
    sync(&a, &b, 10);
    // Long after its end, and before it was swept anywhere but on b.
    let now = 100_000;
    let mut next = b.sweep(Timestamp(now), None);
    while next.is_some() {
        next = b.sweep(Timestamp(now), next);
    }
    b.execute(Timestamp(now), &key, Op::Add(1), ttl(1_000)).unwrap();
    sync(&b, &a, now);
    assert_eq!(a.value(Timestamp(now), key.as_bytes()), 1);
    sync(&a, &b, now);
    assert_eq!(a.state_checksum(Timestamp(now)), b.state_checksum(Timestamp(now)));
}
