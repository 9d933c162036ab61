//! What is taken and what cannot be counted, through the library as its users see it.

use std::time::Duration;

use tallymesh::{
    Config, ConfigBuilder, CountError, CounterKey, CounterStore, Decision, Denial, DenialReason,
    Limit, Limiter, Peek, Request, Unmatched, WhenLabelMissing, Window,
};
use tallymesh_test_support::until;

const HOUR: Duration = Duration::from_secs(3600);
/// 2^53 - 1: the most that one instance counts in one counter.
const COUNT_MAX: u64 = (1 << 53) - 1;

fn config() -> ConfigBuilder {
    Config::builder("a").in_memory()
}

async fn limiter(config: ConfigBuilder) -> Limiter {
    Limiter::open(config.build().unwrap()).await.unwrap()
}

fn denial(decision: Decision) -> Denial {
    decision.into_denied().expect("denied")
}

#[tokio::test]
async fn what_is_subtracted_is_at_most_what_is_there() {
    let store = CounterStore::open(config().build().unwrap()).await.unwrap();
    let key = CounterKey::new("plain", &[]).unwrap();
    store.add(&key, 5).unwrap();
    let subtracted = store.subtract(&key, 10).unwrap();
    assert_eq!((subtracted.taken, subtracted.value), (5, 0));
    assert_eq!(store.add(&key, 3).unwrap(), 3);
    let handle = store.handle(&key);
    assert_eq!([handle.subtract(2).unwrap().taken, handle.subtract(2).unwrap().taken], [2, 1]);
    assert_eq!(store.iter().map(|counter| counter.credit()).sum::<u64>(), 0);
    store.close().await.unwrap();
}

#[tokio::test]
async fn after_a_session_s_end_nothing_can_be_taken_from_the_next_one() {
    let window = Window::Session { ttl: Duration::from_millis(200) };
    let limiter = limiter(config().limit(Limit::new("l", 100, window).per("session"))).await;
    let request = |cost| Request::tool_call("s", "t").cost(cost);
    assert!(limiter.acquire(&request(100)).is_allowed());
    let keys = limiter.keys(&request(1));
    let [key] = &keys[..] else { panic!("one limit matches") };
    let is_over = || limiter.counters().value(key) == 0;
    until("the session ends", Duration::from_secs(20), is_over).await;
    assert_eq!(limiter.counters().subtract(key, 95).unwrap().taken, 0);
    let admitted = (0..100).filter(|_| limiter.acquire(&request(10)).is_allowed()).count();
    assert_eq!(admitted, 10);
    limiter.close().await.unwrap();
}

#[tokio::test]
async fn a_full_cell_admits_nothing_that_it_cannot_count() {
    let limiter =
        limiter(config().limit(Limit::new("l", COUNT_MAX, Window::Session { ttl: HOUR }))).await;
    let request = Request::new().cost(COUNT_MAX);
    let receipt = limiter.acquire(&request).into_allowed().unwrap();
    limiter.refund(receipt).unwrap();
    let meter = limiter.meter(&request);
    for decision in [limiter.acquire(&request), meter.acquire(COUNT_MAX), meter.acquire(1)] {
        let denial = denial(decision);
        assert_eq!(denial.reason(), DenialReason::CounterExhausted);
        assert!(denial.retry_after().is_some());
        assert!(denial.to_string().contains("has counted 2^53 - 1 here"), "{denial}");
    }
    let key = &limiter.keys(&request)[0];
    let refused = limiter.counters().add(key, 1).unwrap_err();
    assert!(matches!(refused, CountError::CounterExhausted { .. }), "{refused}");
    limiter.close().await.unwrap();
}

#[tokio::test]
async fn a_request_without_a_label_of_a_limit_is_denied_unless_the_limit_says_otherwise() {
    let hour = Window::Fixed(HOUR);
    let per_user =
        || Limit::new("per user", 9, hour).when("tool", "book_*").per("tool").per("user");
    let strict = limiter(config().limit(Limit::new("all", 9, hour)).limit(per_user())).await;
    let request = Request::tool_call("s", "book_a");
    let Peek::Denied(peek) = strict.peek(&request) else { panic!("no user") };
    for denial in [
        denial(strict.acquire(&request)),
        denial(strict.meter(&request).acquire(1)),
        denial(strict.session("s").meter("book_a").acquire(1)),
        peek,
    ] {
        assert_eq!(
            (denial.reason(), denial.missing_label()),
            (DenialReason::MissingLabel, Some("user"))
        );
        assert_eq!((denial.limit_name(), denial.retry_after()), (Some("per user"), None));
        assert!(denial.to_string().contains("lacks the label \"user\""), "{denial}");
    }
    assert!(strict.counters().is_empty(), "a denied request is charged nothing");
    // Its own counters can still be reset, and what the limit is not for goes ahead.
    assert_eq!(strict.reset(&request), Ok(0));
    assert!(strict.acquire(&Request::tool_call("s", "search")).is_allowed());
    assert!(strict.acquire(&request.clone().with("user", "u")).is_allowed());
    strict.close().await.unwrap();

    let lenient = per_user().when_label_missing(WhenLabelMissing::Skip);
    let lenient = limiter(config().limit(Limit::new("all", 9, hour)).limit(lenient)).await;
    assert!(lenient.acquire(&request).is_allowed());
    assert_eq!(lenient.counters().len(), 1);
    lenient.close().await.unwrap();
}

#[tokio::test]
async fn requests_that_no_limit_applies_to_are_noted_or_denied() {
    let limit = || Limit::new("l", 9, Window::Fixed(HOUR)).when("tool", "book_*");
    let skips = || limit().when("tool", "*").per("user").when_label_missing(WhenLabelMissing::Skip);
    let request = Request::tool_call("s", "search");
    for (limits, request) in [
        (vec![], &request),
        (vec![limit()], &request),
        (vec![skips()], &Request::tool_call("s", "book_a")),
    ] {
        for action in [Unmatched::Allow, Unmatched::Deny] {
            let config = limits.iter().cloned().fold(config(), ConfigBuilder::limit);
            let limiter = limiter(config.unmatched(action)).await;
            let meter = limiter.meter(request);
            for decision in [limiter.acquire(request), meter.acquire(3)] {
                match (action, decision) {
                    (Unmatched::Allow, Decision::Allowed(receipt)) => {
                        assert_eq!(receipt.remaining(), None);
                        limiter.refund(receipt).unwrap();
                    }
                    (Unmatched::Deny, Decision::Denied(denial)) => {
                        assert_eq!(denial.reason(), DenialReason::Unmatched);
                        assert_eq!((denial.limit_name(), denial.retry_after()), (None, None));
                    }
                    (action, decision) => panic!("{action}: {decision:?}"),
                }
            }
            // A look is answered the same, and not counted.
            for peek in [limiter.peek(request), meter.peek(1)] {
                assert_eq!(peek.is_allowed(), action == Unmatched::Allow);
            }
            assert_eq!(limiter.status().requests_unmatched, 2);
            limiter.close().await.unwrap();
        }
    }
}

#[test]
fn what_the_settings_leave_no_room_for_is_refused_with_them() {
    let hour = Window::Fixed(HOUR);
    let refused =
        |builder: ConfigBuilder, limit| builder.limit(limit).build().unwrap_err().to_string();
    let labels =
        Limit::new("l", 1, hour).when("tool", "a*").when("user", "b").per("tool").per("team");
    assert!(config().max_labels(3).limit(labels.clone()).build().is_ok());
    let message = refused(config().max_labels(2), labels);
    assert!(message.contains("3 labels") && message.contains("counters.max_labels"), "{message}");
    let long = Limit::new("a name of twenty-odd bytes", 1, hour).per("user");
    let message = refused(config().max_key_bytes(30), long.clone());
    assert!(message.contains("counters.max_key_bytes"), "{message}");
    assert!(config().max_key_bytes(60).limit(long).build().is_ok());
}
