//! How long counters live: by whose time to live, by which rule, and what cannot make them live longer.

use alloc::{vec, vec::Vec};
use core::time::Duration;

use super::tests::{replica, sync, table, ttl};
use super::{Admission, DirtySet, Op, Restore, Table};
use crate::crdt::{Marks, Update};
use crate::id::Version;
use crate::key::{CounterKey, CounterKind, Ends};
use crate::limit::{Demands, Limit, Policy, Request, Window};
use crate::time::Timestamp;

const DAY: u64 = 86_400_000;

/// One session of at most so many calls.
fn policy(max: u64, ttl_ms: u64) -> Policy {
    let ttl = Duration::from_millis(ttl_ms);
    Policy::new([Limit::new("calls", max, Window::Session { ttl }).per("session")]).unwrap()
}

fn ask(table: &Table, policy: &Policy, now: u64) -> Admission {
    let mut demands = Demands::default();
    let request = Request::new().with("session", "s");
    policy.find_demands(&request, Timestamp(now), 512, &mut demands).unwrap();
    table.acquire(Timestamp(now), &demands)
}

fn admits(table: &Table, policy: &Policy, now: u64) -> bool {
    matches!(ask(table, policy, now), Admission::Allowed { .. })
}

fn key(policy: &Policy) -> CounterKey {
    CounterKey::from_bytes(&policy.key_under(0, ["s"], Timestamp(0))).unwrap()
}

fn sweep(table: &Table, now: u64) {
    let mut next = table.sweep(Timestamp(now), None);
    while next.is_some() {
        next = table.sweep(Timestamp(now), next);
    }
}

fn agree(one: &Table, other: &Table, now: u64) {
    sync(one, other, now);
    sync(other, one, now);
    sync(one, other, now);
    assert_eq!(one.state_checksum(Timestamp(now)), other.state_checksum(Timestamp(now)));
}

#[test]
fn a_session_ends_after_the_lesser_of_two_times_to_live() {
    let (long, short) = (policy(1, 366 * DAY), policy(1, 1_000));
    let (a, b) = (table("a"), table("b"));
    let start = 1_000 * DAY;
    assert!(admits(&a, &long, start));
    sync(&a, &b, start);
    // What is told of the use is rounded down to a sixteenth of the longer time, so it may be over at once, and is by then.
    assert!(admits(&b, &short, start + 2_500));
    assert_eq!(b.counter(key(&short).as_bytes()).unwrap().generation, 1);
    agree(&a, &b, start + 2_500);
    // The other way round: the node with the longer time follows the one that used it last.
    assert!(!admits(&a, &long, start + 2_600));
    agree(&a, &b, start + 2_600);
    assert!(admits(&b, &short, start + 2_600 + 1_063));
    agree(&a, &b, start + 4_000);
}

#[test]
fn a_session_that_ended_here_is_no_new_counter_while_others_may_hold_it() {
    let (long, short) = (policy(1, DAY), policy(1, 1_000));
    let a = table("a");
    assert!(admits(&a, &long, 10 * DAY));
    let grace = 60_000;
    // Over here for longer than the grace, but not as all nodes reckon: it must win over what they hold.
    assert!(admits(&a, &short, 10 * DAY + 2 * grace));
    let held = a.counter(key(&short).as_bytes()).unwrap();
    assert_eq!((held.generation, held.value, held.marks.p0), (1, 1, 1_000));
    sweep(&a, 10 * DAY + 3 * grace + 1_100);
    assert!(a.is_empty());
    // Long over for all: it is as new.
    assert!(admits(&a, &long, 10 * DAY));
    assert!(admits(&a, &long, 12 * DAY));
    assert_eq!(a.counter(key(&short).as_bytes()).unwrap().generation, 0);
}

#[test]
fn a_sweep_waits_for_the_end_that_all_nodes_reckon_with() {
    let a = table("a");
    assert!(admits(&a, &policy(1, DAY), 16 * DAY));
    let end = 17 * DAY + DAY / 16;
    sweep(&a, end + 59_999);
    assert_eq!(a.len(), 1);
    sweep(&a, end + 60_000);
    assert_eq!(a.len(), 0);
}

#[test]
fn a_clock_ahead_cannot_lengthen_a_session_beyond_what_is_believed() {
    let (honest, limit) = (table("b"), policy(1, 3_600_000));
    let now = 100 * DAY;
    for (ahead, held) in [(599_000, 1), (700_000, 0)] {
        let wrong = table("a");
        assert!(admits(&wrong, &limit, now + ahead));
        wrong.harvest(DirtySet::All);
        let own = replica("a", 1);
        let updates = wrong.updates_after(&own, Version::ZERO, 60_000).unwrap().updates;
        let receiver = table("c");
        let applied = receiver.apply(Timestamp(now), &own, &updates);
        assert_eq!((receiver.len(), applied.implausible), (held, 1 - held));
    }
    assert!(honest.is_empty());
}

#[test]
fn an_operation_on_a_limits_counter_keeps_its_time_to_live() {
    let (a, limit) = (table("a"), policy(9, 2_000));
    let start = 16 * DAY;
    let mut now = start;
    assert!(admits(&a, &limit, now));
    for op in [Op::Subtract(1), Op::Add(1), Op::TryAdd { amount: 1, max: 9 }, Op::Reset, Op::Add(1)]
    {
        now += 500;
        a.execute(Timestamp(now), &key(&limit), op, ttl(DAY)).unwrap();
        let held = a.counter(key(&limit).as_bytes()).unwrap();
        assert_eq!(held.marks.p0, 2_000, "{op:?}");
        assert!(held.expires_at <= Timestamp(now + 2_125), "{op:?}");
        assert!(held.expires_at >= Timestamp(now + 2_000), "an operation is use: {op:?}");
    }
    // A counter of the same name that is no limit's is another one.
    let plain = CounterKey::new("calls", &["s"]).unwrap();
    a.execute(Timestamp(now), &plain, Op::Add(5), ttl(DAY)).unwrap();
    assert_eq!((a.len(), a.value(Timestamp(now), key(&limit).as_bytes())), (2, 1));
}

#[test]
fn a_plain_counter_lives_as_long_as_it_was_ever_given() {
    let a = table("a");
    let block = CounterKey::new("block", &["k"]).unwrap();
    a.execute(Timestamp(16_000), &block, Op::Add(1), ttl(12_000)).unwrap();
    a.execute(Timestamp(16_500), &block, Op::Add(1), ttl(2_000)).unwrap();
    assert_eq!(a.value(Timestamp(28_000), block.as_bytes()), 2);
    assert_eq!(a.value(Timestamp(16_500 + 12_750), block.as_bytes()), 0);
}

#[test]
fn a_denied_use_that_only_moves_the_marks_reaches_the_peers() {
    let (a, b, limit) = (table("a"), table("b"), policy(1, 16_000));
    assert!(admits(&a, &limit, 160_000));
    agree(&a, &b, 160_000);
    let before = a.own_watermark();
    assert!(!admits(&a, &limit, 160_999), "within a sixteenth, nothing is told");
    a.harvest(DirtySet::All);
    assert_eq!(a.own_watermark(), before);
    assert!(!admits(&a, &limit, 161_000));
    a.harvest(DirtySet::All);
    assert!(a.own_watermark() > before);
    agree(&a, &b, 161_000);
    assert_eq!(b.counter(key(&limit).as_bytes()).unwrap().marks.at, 161_000);
}

/// An update of a counter of a kind to come, by each rule for its end, with the moment at which it ends.
fn foreign() -> Vec<(Update, u64)> {
    let now = 100 * DAY;
    let window = crate::key::WindowSpan::at(5_000, Timestamp(now)).unwrap();
    let rules = [
        (Ends::WithWindow(window), 0, 0, window.end().0),
        (Ends::AfterUse, now, 1_600, now + 1_700),
        (Ends::AtNanos, (now + 1_000) * 1_000_000, 5, now + 1_000),
        (Ends::Earliest, i64::MAX as u64 - (now + 2_000), 6, now + 2_000),
        (Ends::After(3_000), now, 7, now + 3_000),
    ];
    let update = |(number, (ends, at, p0, end)): (usize, (Ends, u64, u64, u64))| {
        let kind = CounterKind::of(9 + number as u8);
        let key = CounterKey::spell(kind, ends, "later", 3, &["s"], &[8, 9]).unwrap();
        let update = Update {
            key: key.as_bytes().into(),
            version: Version(number as u64 + 1),
            generation: 4,
            p: 3,
            n: 1,
            marks: Marks { at, p0, n0: 11 },
        };
        (update, end)
    };
    rules.into_iter().enumerate().map(update).collect()
}

#[test]
fn a_counter_of_an_unknown_kind_is_carried_told_on_and_stored() {
    let (b, c) = (table("b"), table("c"));
    let (now, writer) = (100 * DAY, replica("a", 1));
    let (updates, ends): (Vec<Update>, Vec<u64>) = foreign().into_iter().unzip();
    let applied = b.apply(Timestamp(now), &writer, &updates);
    assert_eq!((applied.new.len(), applied.implausible), (5, 0));
    assert!(b.complete(&writer, Version::ZERO, Version(5)));
    sync(&b, &c, now);
    assert_eq!(b.state_checksum(Timestamp(now)), c.state_checksum(Timestamp(now)));
    let told = c.updates_after(&writer, Version::ZERO, 60_000).unwrap().updates;
    assert_eq!(told, updates, "with its marks, to the last of them");

    let mut disk = Vec::new();
    let mut keep = |part: super::Unpersisted| {
        disk.extend(part.changed);
        Ok::<(), ()>(())
    };
    b.take_unpersisted(&mut keep).unwrap();
    let again = Table::new(replica("b", 2), super::Bounds::default(), [1, 2, 3, 4]);
    let mut restore = Restore::into(&again);
    disk.iter().for_each(|stored| restore.add(stored));
    restore.finish(b.take_replica_marks());
    assert_eq!(b.state_checksum(Timestamp(now)), again.state_checksum(Timestamp(now)));

    // It cannot be counted in here.
    let key = CounterKey::from_bytes(&updates[0].key).unwrap();
    let refused = b.execute(Timestamp(now), &key, Op::Add(1), ttl(1_000)).unwrap_err();
    assert!(matches!(refused, super::CountError::OtherKind { .. }), "{refused}");

    // And each is dropped at its own time.
    let grace = 60_000;
    let mut by_end: Vec<(u64, &Update)> = ends.into_iter().zip(&updates).collect();
    by_end.sort_by_key(|(end, _)| *end);
    for (end, update) in by_end {
        sweep(&b, end + grace - 1);
        assert!(b.counter(&update.key).is_some(), "{:?}", update.key);
        let fresh = table("d");
        let late = vec![update.clone()];
        fresh.apply(Timestamp(end + grace), &writer, &late);
        assert_eq!((fresh.len(), fresh.rejections().cells_late), (0, 1));
        sweep(&b, end + grace);
        assert!(b.counter(&update.key).is_none(), "{:?}", update.key);
    }
}

#[test]
fn what_would_last_for_ever_is_refused_by_every_rule() {
    let (now, writer) = (100 * DAY, replica("a", 1));
    let far = |update: &Update| {
        let mut update = update.clone();
        match crate::key::ends_of(&update.key).unwrap() {
            Ends::WithWindow(_) => {
                let window = crate::key::WindowSpan::at(2_000 * DAY, Timestamp(now)).unwrap();
                let ends = Ends::WithWindow(window);
                let key = CounterKey::spell(CounterKind::of(9), ends, "l", 0, &[], &[]).unwrap();
                update.key = key.as_bytes().into();
            }
            Ends::AfterUse => update.marks.p0 = 367 * DAY,
            Ends::AtNanos => update.marks.at = Marks::AT_MAX,
            Ends::Earliest => update.marks.at = 0,
            Ends::After(_) => update.marks.at = 1_000 * DAY,
        }
        update
    };
    for (update, _) in foreign() {
        let b = table("b");
        let applied = b.apply(Timestamp(now), &writer, &[far(&update)]);
        assert_eq!((b.len(), applied.implausible), (0, 1), "{update:?}");
    }
}
