//! What limits that heed cuts allow while members are silent.

use alloc::vec::Vec;
use core::time::Duration;

use super::tests::{replica, table};
use super::{Admission, Debit, Names, Table};
use crate::crdt::{Marks, Update};
use crate::id::Version;
use crate::limit::{Demands, DenialReason, Limit, Policy, Request, WhenCutOff, Window};
use crate::time::Timestamp;

const MINUTE: Duration = Duration::from_secs(60);
const NOW: Timestamp = Timestamp(1_000);

/// A table of a node that has met all members.
fn whole() -> Table {
    let table = table("a");
    table.set_sides(&names("a b c d"), &Names::new());
    table
}

fn names(of: &str) -> Names {
    of.split_whitespace().map(Into::into).collect()
}

fn policy(max: u64, when: WhenCutOff) -> Policy {
    Policy::new([Limit::new("l", max, Window::Fixed(MINUTE)).when_cut_off(when)]).unwrap()
}

fn demands(policy: &Policy, now: Timestamp, cost: u64) -> Demands {
    let mut demands = Demands::default();
    let request = Request::new().cost(cost);
    policy.find_demands(&request, now, 512, &mut demands).unwrap();
    demands
}

fn admitted(table: &Table, policy: &Policy, now: Timestamp, calls: usize) -> usize {
    let calls = 0..calls;
    calls
        .filter(|_| {
            let admission = table.acquire(now, &demands(policy, now, 1));
            matches!(admission, Admission::Allowed { .. })
        })
        .count()
}

fn denial(table: &Table, policy: &Policy, now: Timestamp) -> (DenialReason, u64, Option<Duration>) {
    match table.acquire(now, &demands(policy, now, 1)) {
        Admission::Denied { reason, remaining, retry_after, .. } => {
            (reason, remaining, retry_after)
        }
        admission => panic!("{admission:?}"),
    }
}

fn hear(table: &Table, policy: &Policy, of: &str, p: u64) {
    let key = demands(policy, NOW, 1);
    let key = key.key(&key.list[0]).to_vec();
    let (version, marks) = (Version(p), Marks::default());
    let update = Update { key, version, generation: 0, p, n: 0, marks };
    assert_eq!(table.apply(NOW, &replica(of, 1), &[update]).new.len(), 1);
}

#[test]
fn a_side_admits_its_share_of_what_was_left_and_says_why_no_more() {
    let (table, policy) = (whole(), policy(100, WhenCutOff::Share));
    assert_eq!(admitted(&table, &policy, NOW, 20), 20);
    assert!(table.set_sides(&names("a"), &names("b")));
    assert_eq!(table.cap(NOW, &demands(&policy, NOW, 1)), Some(60));
    assert_eq!(admitted(&table, &policy, NOW, 100), 40);
    assert_eq!(
        denial(&table, &policy, NOW),
        (DenialReason::CutOff, 0, Some(Duration::from_secs(1)))
    );
    assert!(table.set_sides(&names("a b"), &Names::new()));
    assert_eq!(table.cap(NOW, &demands(&policy, NOW, 1)), None);
    assert_eq!(admitted(&table, &policy, NOW, 100), 40);
    assert_eq!(denial(&table, &policy, NOW).0, DenialReason::LimitReached);
}

#[test]
fn what_is_merged_after_the_cut_is_used_of_the_sides_share() {
    let (table, policy) = (whole(), policy(90, WhenCutOff::Share));
    hear(&table, &policy, "b", 30);
    table.set_sides(&names("a b"), &names("c"));
    hear(&table, &policy, "b", 50);
    assert_eq!(table.cap(NOW, &demands(&policy, NOW, 1)), Some(70), "30, and 40 of 60");
    assert_eq!(admitted(&table, &policy, NOW, 100), 20);
}

#[test]
fn a_window_that_begins_during_the_cut_is_divided_whole() {
    let (table, policy) = (whole(), policy(9, WhenCutOff::Share));
    table.set_sides(&names("a"), &names("b c"));
    for window in 0..3 {
        let now = NOW.plus(MINUTE * window);
        assert_eq!(admitted(&table, &policy, now, 20), 3);
    }
}

#[test]
fn at_most_half_refuses_and_more_goes_on() {
    let (table, policy) = (whole(), policy(10, WhenCutOff::Deny));
    assert_eq!(admitted(&table, &policy, NOW, 1), 1);
    table.set_sides(&names("a b"), &names("c d"));
    let (reason, remaining, _) = denial(&table, &policy, NOW);
    assert_eq!((reason, remaining), (DenialReason::CutOff, 0));
    table.set_sides(&names("a b c"), &names("d"));
    assert_eq!(admitted(&table, &policy, NOW, 20), 9);
}

#[test]
fn a_limit_that_allows_and_what_no_cut_denies_are_as_ever() {
    let table = whole();
    table.set_sides(&names("a"), &names("b"));
    assert_eq!(admitted(&table, &policy(10, WhenCutOff::Allow), NOW, 20), 10);
    let share = policy(10, WhenCutOff::Share);
    assert_eq!(denial(&table, &share, NOW).0, DenialReason::LimitReached, "it is the same counter");
}

#[test]
fn a_refund_makes_room_under_the_cap() {
    let (table, policy) = (whole(), policy(10, WhenCutOff::Share));
    table.set_sides(&names("a"), &names("b"));
    let Admission::Allowed { debits, remaining, .. } =
        table.acquire(NOW, &demands(&policy, NOW, 5))
    else {
        panic!("half is ours")
    };
    assert_eq!(remaining, 0);
    assert_eq!(denial(&table, &policy, NOW).0, DenialReason::CutOff);
    let debits: Vec<Debit> = debits.into_iter().collect();
    assert!(table.refund(&debits, 5));
    assert_eq!(admitted(&table, &policy, NOW, 20), 5);
}

#[test]
fn by_handle_and_with_several_limits_it_is_the_same() {
    let both = || {
        let limit = |name, max| Limit::new(name, max, Window::Fixed(MINUTE));
        let shared = limit("shared", 10).when_cut_off(WhenCutOff::Share);
        Policy::new([limit("all", 100), shared]).unwrap()
    };
    let (table, policy) = (whole(), both());
    table.set_sides(&names("a"), &names("b"));
    assert_eq!(admitted(&table, &policy, NOW, 3), 3);
    let asked = demands(&policy, NOW, 1);
    let by_ref = || {
        let slots: Vec<_> = asked.list.iter().map(|one| table.resolve(asked.key(one))).collect();
        table.acquire_by_ref(NOW, &asked.list, slots)
    };
    assert!(matches!(by_ref(), Some(Admission::Allowed { remaining: 1, .. })));
    assert!(matches!(table.peek(NOW, &asked), Admission::Allowed { remaining: 0, .. }));
    assert!(matches!(by_ref(), Some(Admission::Allowed { remaining: 0, .. })));
    let denied = by_ref();
    let cut_off = DenialReason::CutOff;
    assert!(
        matches!(denied, Some(Admission::Denied { limit_index: 1, reason, .. }) if reason == cut_off)
    );
}
