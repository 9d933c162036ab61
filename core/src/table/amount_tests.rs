//! What is counted is never below zero in secret, never past what a cell holds, and never lost for want of a place.

use alloc::{string::ToString, vec::Vec};
use core::time::Duration;

use proptest::prelude::*;

use super::tests::{replica, table, ttl};
use super::{Admission, Bounds, CountError, CounterState, Debit, DirtySet, Op, OpResult, Table};
use crate::crdt::{COUNT_MAX, Marks, Update};
use crate::id::Version;
use crate::key::CounterKey;
use crate::limit::{Demands, DenialReason, Limit, Policy, Request, Window};
use crate::time::Timestamp;

/// How long the counters of these tests live after a use, in milliseconds.
const TTL_MS: u64 = 1_600;
/// When a counter that was used at 0 has ended, and is kept for its grace.
const ENDED: Timestamp = Timestamp(2_000);

fn key() -> CounterKey {
    CounterKey::new("plain", &["v"]).unwrap()
}

fn run(table: &Table, op: Op) -> Result<OpResult, CountError> {
    table.execute(Timestamp(0), &key(), op, ttl(TTL_MS))
}

fn taken(table: &Table, amount: u64) -> (u64, u64) {
    let result = run(table, Op::Subtract(amount)).unwrap();
    (result.taken, result.value)
}

fn state(table: &Table) -> CounterState {
    table.counter(key().as_bytes()).unwrap()
}

/// Tells `to` what `from` has of itself.
fn tell(from: &Table, to: &Table) {
    from.harvest(DirtySet::All);
    let own = from.own_replica();
    if let Some(part) = from.updates_after(&own, Version::ZERO, usize::MAX) {
        to.apply(Timestamp(0), &own, &part.updates);
    }
}

#[test]
fn a_subtraction_takes_what_is_there_and_says_how_much() {
    let table = table("a");
    assert_eq!(taken(&table, 3), (0, 0));
    assert!(table.is_empty(), "what is not there need not be made to take it away");
    run(&table, Op::Add(5)).unwrap();
    assert_eq!(taken(&table, 10), (5, 0));
    assert_eq!(run(&table, Op::Add(3)).unwrap().value, 3);
    assert_eq!((taken(&table, 1), taken(&table, 9)), ((1, 2), (2, 0)));
    // An expired counter holds nothing, and is not begun again for that.
    run(&table, Op::Add(7)).unwrap();
    let before = state(&table);
    let expired = table.execute(ENDED, &key(), Op::Subtract(2), ttl(TTL_MS)).unwrap();
    assert_eq!((expired.taken, expired.value, expired.applied), (0, 0, false));
    assert_eq!(state(&table), before);
}

#[test]
fn by_reference_a_subtraction_takes_no_more() {
    let table = table("a");
    run(&table, Op::Add(2)).unwrap();
    let slot_ref = table.resolve(key().as_bytes());
    let take =
        || table.execute_by_ref(Timestamp(0), slot_ref, &key(), Op::Subtract(3), ttl(TTL_MS));
    assert_eq!([take().unwrap().unwrap().taken, take().unwrap().unwrap().taken], [2, 0]);
}

#[test]
fn any_node_may_take_what_another_one_added_and_two_at_once_owe_it() {
    let (a, b) = (table("a"), table("b"));
    run(&a, Op::Add(6)).unwrap();
    tell(&a, &b);
    assert_eq!((taken(&b, 4), taken(&a, 5)), ((4, 2), (5, 1)));
    tell(&a, &b);
    tell(&b, &a);
    for table in [&a, &b] {
        assert_eq!((state(table).value, state(table).credit()), (0, 3));
    }
    assert_eq!((taken(&a, 1), run(&a, Op::Add(4)).unwrap().value), ((0, 0), 1));
}

#[test]
fn a_refund_takes_back_no_more_than_is_left_of_what_was_charged() {
    let table = table("a");
    let policy = Policy::new([limit(100)]).unwrap();
    let first = admitted(ask(&table, &policy, 60));
    let second = admitted(ask(&table, &policy, 40));
    let key = CounterKey::from_bytes(&key_of(&policy)).unwrap();
    let low = table.execute(Timestamp(0), &key, Op::Subtract(95), ttl(TTL_MS)).unwrap();
    assert_eq!((low.taken, low.value), (95, 5));
    table.refund(&first, 60);
    table.refund(&second, 40);
    let cell = table.counter(key.as_bytes()).unwrap().cells[0].1;
    assert_eq!((cell.p, cell.n), (100, 100));
    assert!(matches!(ask(&table, &policy, 100), Admission::Allowed { remaining: 0, .. }));
}

#[test]
fn a_limit_is_lowered_where_it_was_charged_and_nowhere_else() {
    let (a, b, policy) = (table("a"), table("b"), Policy::new([limit(100)]).unwrap());
    admitted(ask(&a, &policy, 60));
    tell(&a, &b);
    admitted(ask(&b, &policy, 10));
    let key = CounterKey::from_bytes(&key_of(&policy)).unwrap();
    let low = b.execute(Timestamp(0), &key, Op::Subtract(40), ttl(TTL_MS)).unwrap();
    assert_eq!((low.taken, low.value), (10, 60));
}

#[test]
fn a_cell_of_a_limit_below_zero_is_not_believed_and_one_of_a_plain_counter_is() {
    let policy = Policy::new([limit(100)]).unwrap();
    let apply = |key: &[u8], (p, n): (u64, u64)| {
        let table = table("a");
        let marks = Marks { at: 0, p0: 1_000, n0: 0 };
        let update = Update { key: key.into(), version: Version(1), generation: 0, p, n, marks };
        let applied = table.apply(Timestamp(0), &replica("b", 1), &[update]);
        (applied.implausible, table.rejections().cells_implausible, table.len())
    };
    let window = Limit::new("w", 9, Window::Fixed(Duration::from_secs(60)));
    let windowed = Policy::new([window]).unwrap();
    for of_limit in [key_of(&policy), key_of(&windowed)] {
        assert_eq!(apply(&of_limit, (3, 4)), (1, 1, 0));
        assert_eq!(apply(&of_limit, (3, 3)), (0, 0, 1));
    }
    assert_eq!(apply(key().as_bytes(), (3, 4)), (0, 0, 1));
}

#[test]
fn after_its_end_a_session_has_nothing_that_could_be_taken_from_the_next() {
    let table = table("a");
    let policy = Policy::new([limit(100)]).unwrap();
    admitted(ask(&table, &policy, 100));
    let key = CounterKey::from_bytes(&key_of(&policy)).unwrap();
    // The session is over, and its counter kept for the grace.
    let now = Timestamp(5_000);
    let low = table.execute(now, &key, Op::Subtract(95), ttl(99_000)).unwrap();
    assert_eq!((low.taken, low.value), (0, 0));
    let admits = |_: &u32| {
        let mut demands = Demands::default();
        policy.find_demands(&Request::new().cost(10), now, 512, &mut demands).unwrap();
        matches!(table.acquire(now, &demands), Admission::Allowed { .. })
    };
    assert_eq!((0..30).filter(admits).count(), 10);
}

#[test]
fn a_cell_that_is_full_denies_with_a_reason_of_its_own() {
    let table = table("a");
    let policy = Policy::new([limit(COUNT_MAX)]).unwrap();
    for _ in 0..2 {
        let debits = admitted(ask(&table, &policy, COUNT_MAX / 2));
        table.refund(&debits, COUNT_MAX / 2);
    }
    // All is refunded, and the cell has counted all but one.
    assert!(matches!(ask(&table, &policy, 1), Admission::Allowed { .. }));
    for cost in [1, 1_000, COUNT_MAX / 2] {
        let mut demands = Demands::default();
        policy.find_demands(&Request::new().cost(cost), Timestamp(0), 512, &mut demands).unwrap();
        for answer in [table.acquire(Timestamp(0), &demands), table.peek(Timestamp(0), &demands)] {
            let Admission::Denied { reason, remaining, retry_after, .. } = answer else {
                panic!("{cost} is admitted and not counted");
            };
            assert_eq!((reason, remaining), (DenialReason::CounterExhausted, 0));
            assert!(retry_after.is_some(), "another session counts from 0");
        }
    }
    // The session's next generation does.
    let mut demands = Demands::default();
    policy.find_demands(&Request::new(), Timestamp(60_000), 512, &mut demands).unwrap();
    assert!(matches!(table.acquire(Timestamp(60_000), &demands), Admission::Allowed { .. }));
}

#[test]
fn of_several_counters_none_is_charged_where_one_is_full() {
    let table = table("a");
    let window = Window::Session { ttl: Duration::from_secs(1) };
    let policy = Policy::new([limit(COUNT_MAX), Limit::new("other", 5, window)]).unwrap();
    let full = CounterKey::from_bytes(&key_of(&policy)).unwrap();
    for op in [Op::Add(COUNT_MAX), Op::Subtract(COUNT_MAX)] {
        table.execute(Timestamp(0), &full, op, ttl(1_000)).unwrap();
    }
    let Admission::Denied { reason, limit_index, .. } = ask(&table, &policy, 2) else {
        panic!("2 are admitted and not counted");
    };
    assert_eq!((reason, limit_index, table.len()), (DenialReason::CounterExhausted, 0, 1));
}

#[test]
fn what_a_full_cell_cannot_count_is_an_error() {
    let table = table("a");
    let refused = |op| matches!(run(&table, op), Err(CountError::CounterExhausted { .. }));
    assert!(refused(Op::Add(u64::MAX)) && table.is_empty());
    run(&table, Op::Add(COUNT_MAX - 1)).unwrap();
    assert!(refused(Op::Add(2)));
    assert_eq!(taken(&table, COUNT_MAX), (COUNT_MAX - 1, 0));
    assert!(refused(Op::Add(2)) && refused(Op::TryAdd { amount: 2, max: 9 }));
    assert_eq!(run(&table, Op::TryAdd { amount: 1, max: 9 }).unwrap().value, 1);
    run(&table, Op::Reset).unwrap();
    assert_eq!(run(&table, Op::Add(2)).unwrap().value, 2);
}

#[test]
fn a_place_that_was_made_is_there_for_what_is_added_later() {
    let bounds = Bounds { counters_max: 1, ..Bounds::default() };
    let table = Table::new(replica("a", 1), bounds, [1, 2, 3, 4]);
    let other = CounterKey::new("plain", &["other"]).unwrap();
    assert_eq!(run(&table, Op::Reserve).unwrap().value, 0);
    let full = table.execute(Timestamp(0), &other, Op::Reserve, ttl(TTL_MS)).unwrap_err();
    assert!(full.to_string().contains("waiting does not help"), "{full}");
    assert_eq!(run(&table, Op::Add(2)).unwrap().value, 2);
    assert_eq!(run(&table, Op::Reserve).unwrap().value, 2);
    // Long after its use it is there still, for another while from the last time that it was asked for.
    let run_late = |at, op| table.execute(Timestamp(at), &key(), op, ttl(TTL_MS)).unwrap().value;
    assert_eq!(run_late(ENDED.0, Op::Reserve), 0);
    assert_eq!(run_late(ENDED.0 + TTL_MS, Op::Add(1)), 1);
}

#[test]
fn a_place_is_the_same_on_every_node() {
    let (a, b) = (table("a"), table("b"));
    for _ in 0..3 {
        run(&a, Op::Reserve).unwrap();
    }
    tell(&a, &b);
    assert_eq!(a.own_watermark().0, 1, "asking again sends nothing more");
    assert_eq!(a.state_checksum(Timestamp(0)), b.state_checksum(Timestamp(0)));
    assert_eq!(b.len(), 1);
}

#[derive(Debug, Clone)]
enum Step {
    Add(usize, u64),
    Subtract(usize, u64),
    Tell(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let node = || 0_usize..3;
    prop_oneof![
        (node(), 1_u64..9).prop_map(|(node, amount)| Step::Add(node, amount)),
        (node(), 1_u64..20).prop_map(|(node, amount)| Step::Subtract(node, amount)),
        (node(), node()).prop_map(|(from, to)| Step::Tell(from, to)),
    ]
}

proptest! {
    /// Whatever is heard when: no node takes what it does not see, and what is owed at the end is no more than was taken.
    #[test]
    fn nodes_that_take_from_one_counter(steps in prop::collection::vec(step(), 0..60)) {
        let tables = [table("a"), table("b"), table("c")];
        let (mut added, mut taken) = (0, 0);
        for step in steps {
            match step {
                Step::Add(node, amount) => {
                    run(&tables[node], Op::Add(amount)).unwrap();
                    added += amount;
                }
                Step::Subtract(node, amount) => {
                    let before = tables[node].value(Timestamp(0), key().as_bytes());
                    let result = run(&tables[node], Op::Subtract(amount)).unwrap();
                    prop_assert_eq!(result.taken, amount.min(before));
                    prop_assert_eq!(result.value, before - result.taken);
                    taken += result.taken;
                }
                Step::Tell(from, to) => tell(&tables[from], &tables[to]),
            }
        }
        for from in &tables {
            tables.iter().for_each(|to| tell(from, to));
        }
        for table in tables.iter().filter(|table| !table.is_empty()) {
            let state = state(table);
            prop_assert_eq!(state.value + taken, added + state.credit());
            prop_assert!(state.credit() <= taken);
        }
    }
}

fn limit(max: u64) -> Limit {
    Limit::new("l", max, Window::Session { ttl: Duration::from_secs(1) })
}

fn ask(table: &Table, policy: &Policy, cost: u64) -> Admission {
    let mut demands = Demands::default();
    policy.find_demands(&Request::new().cost(cost), Timestamp(0), 512, &mut demands).unwrap();
    table.acquire(Timestamp(0), &demands)
}

fn admitted(admission: Admission) -> Vec<Debit> {
    match admission {
        Admission::Allowed { debits, .. } => debits.into_iter().collect(),
        Admission::Denied { .. } => panic!("there is room"),
    }
}

/// The key of the first limit's counter.
fn key_of(policy: &Policy) -> Vec<u8> {
    policy.key_under(0, [], Timestamp(0))
}
