//! References to slots must answer as keys do, whatever has become of the counters meanwhile.

use alloc::{format, sync::Arc, vec, vec::Vec};
use core::time::Duration;

use proptest::prelude::*;

use super::{Admission, DirtySet, Op, SlotRef, Table};
use crate::key::CounterKey;
use crate::limit::{Demands, Limit, Matched, Policy, Request, Window};
use crate::table::tests::{table, ttl};
use crate::time::Timestamp;

const MINUTE_MS: u64 = 60_000;

fn policy() -> Policy {
    Policy::new([
        Limit::new("calls", 5, Window::Session { ttl: Duration::from_millis(MINUTE_MS) })
            .per("session"),
        Limit::new("rate", 3, Window::Fixed(Duration::from_secs(10))).per("session"),
    ])
    .unwrap()
}

/// What a meter does, and when it last saw its counters.
struct Handle<'a> {
    policy: &'a Policy,
    matched: Vec<Matched>,
    seen: Vec<SlotRef>,
}

impl<'a> Handle<'a> {
    fn new(policy: &'a Policy, session: &str) -> Handle<'a> {
        let request = Request::tool_call(session, "t");
        let mut demands = Demands::default();
        policy.find_demands(&request, Timestamp(0), 512, &mut demands).unwrap();
        let matched = policy.matched(&demands, Timestamp(0));
        let seen = vec![SlotRef::NONE; matched.len()];
        Handle { policy, matched, seen }
    }

    fn acquire(&mut self, table: &Table, now: u64, cost: u64) -> Admission {
        let demands = self.policy.demands_under(&self.matched, Timestamp(now), cost);
        let seen = self.seen.iter().copied();
        table.acquire_by_ref(Timestamp(now), &demands.list, seen).unwrap_or_else(|| {
            let outcome = table.acquire(Timestamp(now), &demands);
            self.seen =
                demands.list.iter().map(|demand| table.resolve(demands.key(demand))).collect();
            outcome
        })
    }
}

fn by_key(policy: &Policy, table: &Table, session: &str, now: u64, cost: u64) -> Admission {
    let mut demands = Demands::default();
    let request = Request::tool_call(session, "t").cost(cost);
    policy.find_demands(&request, Timestamp(now), 512, &mut demands).unwrap();
    table.acquire(Timestamp(now), &demands)
}

fn sweep(table: &Table, now: u64) {
    let mut from = table.sweep(Timestamp(now), None);
    while from.is_some() {
        from = table.sweep(Timestamp(now), from);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Acquire { session: usize, cost: u64 },
    Wait { ms: u64 },
    Reset { session: usize },
    Sweep,
    Harvest,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0_usize..3, 0_u64..3).prop_map(|(session, cost)| Step::Acquire { session, cost }),
        3 => prop_oneof![0_u64..5_000, 0_u64..200_000].prop_map(|ms| Step::Wait { ms }),
        1 => (0_usize..3).prop_map(|session| Step::Reset { session }),
        1 => Just(Step::Sweep),
        1 => Just(Step::Harvest),
    ]
}

proptest! {
    /// Two tables live through the same; one is asked by keys and one by handles.
    #[test]
    fn a_handle_answers_as_a_key_does(steps in prop::collection::vec(step(), 0..120)) {
        let policy = policy();
        let (one, other) = (table("a"), table("a"));
        let sessions = ["s0", "s1", "s2"];
        let mut handles = sessions.map(|session| Handle::new(&policy, session));
        let mut now = 1_000_000;
        for step in steps {
            match step {
                Step::Acquire { session, cost } => {
                    let expected = by_key(&policy, &one, sessions[session], now, cost);
                    let found = handles[session].acquire(&other, now, cost);
                    prop_assert_eq!(summary(&expected), summary(&found));
                }
                Step::Wait { ms } => now += ms,
                Step::Reset { session } => for table in [&one, &other] {
                    let key = policy.key_under(0, [sessions[session]], Timestamp(now));
                    let key = CounterKey::from_bytes(&key).unwrap();
                    table.execute(Timestamp(now), &key, Op::Reset, ttl(1)).unwrap();
                },
                Step::Sweep => [&one, &other].iter().for_each(|table| sweep(table, now)),
                Step::Harvest => [&one, &other].iter().for_each(|table| drop(table.harvest(DirtySet::All))),
            }
            prop_assert_eq!(one.state_checksum(Timestamp(now)), other.state_checksum(Timestamp(now)));
        }
    }
}

fn summary(outcome: &Admission) -> (bool, u64, Option<Duration>) {
    match outcome {
        Admission::Allowed { remaining, .. } => (true, *remaining, None),
        Admission::Denied { remaining, retry_after, .. } => (false, *remaining, *retry_after),
    }
}

#[test]
fn threads_with_handles_and_keys_together_never_pass_a_limit() {
    let policy = Arc::new(
        Policy::new([Limit::new("calls", 1_000, Window::Session { ttl: Duration::from_secs(60) })])
            .unwrap(),
    );
    let table = Arc::new(table("a"));
    let threads: Vec<_> = (0..4)
        .map(|number| {
            let (policy, table) = (policy.clone(), table.clone());
            std::thread::spawn(move || {
                let mut handle = Handle::new(&policy, "s");
                let ask = |_: &usize| match number % 2 {
                    0 => matches!(handle.acquire(&table, 0, 1), Admission::Allowed { .. }),
                    _ => matches!(by_key(&policy, &table, "s", 0, 1), Admission::Allowed { .. }),
                };
                (0..500).filter(ask).count()
            })
        })
        .collect();
    let admitted: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert_eq!(admitted, 1_000);
}

#[test]
fn a_counter_in_a_slot_used_before_is_not_taken_for_the_one_that_was_there() {
    let policy = policy();
    let table = table("a");
    let mut handle = Handle::new(&policy, "first");
    assert!(matches!(handle.acquire(&table, 0, 2), Admission::Allowed { .. }));
    sweep(&table, 10 * MINUTE_MS);
    assert!(table.is_empty());
    // Others take the slots.
    for session in 0..2_000 {
        let _ = by_key(&policy, &table, &format!("s{session}"), 10 * MINUTE_MS, 3);
    }
    let Admission::Allowed { remaining, .. } = handle.acquire(&table, 10 * MINUTE_MS, 1) else {
        panic!("a new session has room");
    };
    assert_eq!(remaining, 2);
}

#[test]
fn try_add_counts_all_or_nothing_and_makes_no_counter_in_vain() {
    let (table, key) = (table("a"), CounterKey::new("tool per session", &["s", "t"]).unwrap());
    let (now, ends) = (Timestamp(0), ttl(MINUTE_MS));
    let add = |amount, max| {
        let result = table.execute(now, &key, Op::TryAdd { amount, max }, ends).unwrap();
        (result.applied, result.value)
    };
    assert_eq!(add(4, 3), (false, 0));
    assert!(table.is_empty());
    assert_eq!(
        [add(2, 3), add(2, 3), add(1, 3), add(1, 3)],
        [(true, 2), (false, 2), (true, 3), (false, 3)]
    );
    let slot_ref = table.resolve(key.as_bytes());
    let op = Op::TryAdd { amount: 1, max: 4 };
    let result = table.execute_by_ref(now, slot_ref, &key, op, ends).unwrap().unwrap();
    assert_eq!((result.applied, result.value), (true, 4));
    assert!(table.execute_by_ref(now, SlotRef::NONE, &key, op, ends).unwrap().is_none());
}
