//! What a denial tells: the state that the call leaves behind, a wait that is enough, and none where waiting does not help.

use alloc::vec::Vec;
use core::time::Duration;

use proptest::prelude::*;

use super::tests::{replica, table};
use super::{Admission, Bounds, SlotRef, Table};
use crate::limit::{Demands, DenialReason, Limit, Policy, Request, Window};
use crate::time::Timestamp;

fn session(ms: u64) -> Window {
    Window::Session { ttl: Duration::from_millis(ms) }
}

fn demands(policy: &Policy, request: &Request<'_>, now: u64) -> Demands {
    let mut demands = Demands::default();
    policy.find_demands(request, Timestamp(now), 512, &mut demands).unwrap();
    demands
}

/// All that an answer says: whether it is yes, which limit denied and why, what is left, and how long to wait in ms.
type Said = (bool, Option<(usize, DenialReason)>, u64, Option<u64>);

fn said(admission: &Admission) -> Said {
    match admission {
        Admission::Allowed { remaining, .. } => (true, None, *remaining, None),
        Admission::Denied { limit_index, reason, remaining, retry_after } => {
            let wait = retry_after.map(|wait| wait.as_millis() as u64);
            (false, Some((*limit_index, *reason)), *remaining, wait)
        }
    }
}

/// Asks as a look and then for good; both must say the same, and so must a clock that may be late, where it answers at all.
fn ask(table: &Table, policy: &Policy, request: &Request<'_>, now: u64) -> Said {
    let demands = demands(policy, request, now);
    let peeked = said(&table.peek(Timestamp(now), &demands));
    if let Some(early) = table.peek_early(Timestamp(now), &demands) {
        assert_eq!(said(&early), peeked, "an early look at {now}");
    } else {
        assert!(table.acquire_early(Timestamp(now), &demands).is_none());
        assert!(!peeked.0, "what there is room for is told early");
    }
    let acquired = said(&table.acquire(Timestamp(now), &demands));
    assert_eq!(peeked, acquired, "a look and a call at {now}");
    if !acquired.0 {
        let peeked = said(&table.peek(Timestamp(now), &demands));
        assert_eq!(peeked, acquired, "a look after a denial at {now}");
    }
    acquired
}

#[test]
fn a_denial_tells_the_end_that_its_own_use_makes() {
    let policy = Policy::new([Limit::new("once", 1, session(3_200)).per("session")]).unwrap();
    let (table, request) = (table("a"), Request::tool_call("s", "t"));
    assert!(ask(&table, &policy, &request, 10_070).0);
    // Two seconds later there are 1,330 ms of the session left, and this call makes them 3,330 again.
    let (allowed, _, _, wait) = ask(&table, &policy, &request, 12_070);
    assert_eq!((allowed, wait), (false, Some(3_330)));
    let obeyed = 12_070 + 3_330;
    assert!(!ask(&table, &policy, &request, obeyed - 1).0, "who comes too early waits again");
    let (_, _, _, again) = ask(&table, &policy, &request, obeyed - 1);
    assert!(ask(&table, &policy, &request, obeyed - 1 + again.unwrap()).0);
}

#[test]
fn by_a_clock_that_may_be_late_none_is_denied_whose_wait_may_be_over() {
    let policy = Policy::new([
        Limit::new("session", 1, session(16_000)).per("session"),
        Limit::new("minute", 2, Window::Fixed(Duration::from_secs(60))),
    ])
    .unwrap();
    let (table, request) = (table("a"), Request::tool_call("s", "t"));
    assert!(ask(&table, &policy, &request, 0).0);
    let by_ref = |now, found: &[SlotRef]| {
        let demands = demands(&policy, &request, now);
        table.acquire_by_ref(Timestamp(now), &demands.list, found.iter().copied())
    };
    let found: Vec<_> = {
        let demands = demands(&policy, &request, 0);
        demands.list.iter().map(|demand| table.resolve(demands.key(demand))).collect()
    };
    // The session ends at 17 s. A clock that says 16,750 and is late may say so after that.
    assert!(by_ref(16_750, &found).is_none());
    let early = demands(&policy, &request, 16_750);
    assert!(table.acquire_early(Timestamp(16_750), &early).is_none());
    // None of that was use of the session: by an exact clock it has ended.
    assert!(ask(&table, &policy, &request, 17_000).0);
    // Both are full, and neither ends soon; then one of them does.
    assert!(by_ref(31_000, &found).is_some_and(|denied| !said(&denied).0));
    assert!(by_ref(59_800, &found).is_none());
    let (allowed, _, _, wait) = ask(&table, &policy, &request, 59_800);
    assert_eq!((allowed, wait), (false, Some(200)));
}

#[test]
fn of_several_limits_the_longest_wait_is_told_also_if_the_call_made_it_so() {
    let minute = Window::Fixed(Duration::from_secs(60));
    let policy = Policy::new([
        Limit::new("brief", 1, session(16_000)),
        Limit::new("minute", 1, minute),
        Limit::new("roomy", 100, session(3_600_000)),
    ])
    .unwrap();
    let (table, request) = (table("a"), Request::new());
    assert!(ask(&table, &policy, &request, 45_000).0);
    // The window has 10 s left, and the session, by this call, a whole lifetime and up to a sixteenth.
    let (_, why, _, wait) = ask(&table, &policy, &request, 50_000);
    assert_eq!(why, Some((0, DenialReason::LimitReached)));
    assert!((16_000..=17_000).contains(&wait.unwrap()), "{wait:?}");
    assert!(ask(&table, &policy, &request, 50_000 + wait.unwrap()).0);
}

#[test]
fn where_waiting_does_not_help_no_wait_is_told() {
    let policy = Policy::new([
        Limit::new("user", 1, session(1_000)).per("user"),
        Limit::new("call", 5, session(1_000)).per("call"),
    ])
    .unwrap();
    let bounds = Bounds { counters_max: 2, ..Bounds::default() };
    let table = Table::new(replica("a", 1), bounds, [1, 2, 3, 4]);
    let request = |call, cost| Request::new().with("user", "u").with("call", call).cost(cost);
    assert!(ask(&table, &policy, &request("first", 1), 0).0);
    let (_, why, _, wait) = ask(&table, &policy, &request("first", 6), 0);
    assert_eq!((why, wait), (Some((1, DenialReason::CostOverMax)), None));
    // The user's limit is reached, and a counter for the other call would not be made either, however long one waits.
    let (_, why, _, wait) = ask(&table, &policy, &request("second", 1), 0);
    assert_eq!((why, wait), (Some((1, DenialReason::TooManyCounters)), None));
    assert_eq!(table.rejections().counters_refused, 1);
}

#[derive(Debug, Clone)]
enum Step {
    Ask { user: usize, tool: usize, cost: u64 },
    Obey { user: usize, tool: usize, cost: u64 },
    Pass { ms: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let request = || (0_usize..2, 0_usize..2, 0_u64..4);
    prop_oneof![
        6 => request().prop_map(|(user, tool, cost)| Step::Ask { user, tool, cost }),
        2 => request().prop_map(|(user, tool, cost)| Step::Obey { user, tool, cost }),
        2 => prop_oneof![0_u64..50, 0_u64..5_000].prop_map(|ms| Step::Pass { ms }),
    ]
}

fn limits() -> impl Strategy<Value = Vec<Limit>> {
    let window = prop_oneof![
        (1_u64..3_000).prop_map(|ms| Window::Fixed(Duration::from_millis(ms))),
        (1_u64..3_000).prop_map(session),
    ];
    let limit = (window, 0_u64..5, any::<[bool; 3]>());
    prop::collection::vec(limit, 1..4).prop_map(|limits| {
        let named = ["l0", "l1", "l2"].into_iter().zip(limits);
        let of = |(name, (window, max, [per_user, per_tool, one_tool])): (
            &str,
            (Window, u64, [bool; 3]),
        )| {
            let limit = Limit::new(name, max, window);
            let limit = if per_user { limit.per("user") } else { limit };
            let limit = if per_tool { limit.per("tool") } else { limit };
            if one_tool { limit.when("tool", "t0") } else { limit }
        };
        named.map(of).collect()
    })
}

proptest! {
    /// Alone on one node, whatever the limits and the history: who waits as told is admitted, and no wait is told only where
    /// the cost can never fit. On the way, each look is compared with the call after it.
    #[test]
    fn who_waits_as_told_is_admitted(
        limits in limits(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let (policy, table) = (Policy::new(limits).unwrap(), table("a"));
        let mut now = 1_000_000;
        for step in steps {
            let (user, tool, cost, obeys) = match step {
                Step::Ask { user, tool, cost } => (user, tool, cost, false),
                Step::Obey { user, tool, cost } => (user, tool, cost, true),
                Step::Pass { ms } => {
                    now += ms;
                    continue;
                }
            };
            let (user, tool) = (["u0", "u1"][user], ["t0", "t1"][tool]);
            let request = Request::new().with("user", user).with("tool", tool).cost(cost);
            match ask(&table, &policy, &request, now) {
                (true, ..) => {}
                (false, Some((limit_index, reason)), _, None) => {
                    prop_assert_eq!(reason, DenialReason::CostOverMax);
                    prop_assert!(cost > policy.limits()[limit_index].max());
                }
                (false, _, _, Some(wait)) if obeys => {
                    now += wait;
                    let answer = ask(&table, &policy, &request, now);
                    prop_assert!(answer.0, "told to wait {wait} ms, and then {answer:?}");
                }
                _ => {}
            }
        }
    }
}
