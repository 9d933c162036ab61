//! The end of an instance: what was admitted is on disk, and what comes later is refused, whatever asks and however it ends.

use std::path::Path;
use std::time::Duration;

use tallymesh::{
    Config, ConfigBuilder, CountError, CounterKey, CounterStore, DenialReason, DurabilityError,
    Limit, Limiter, OpenError, Peek, RefundError, Request, ResetError, RunState, StorageError,
    Window,
};
use tallymesh_test_support::until;

const PATIENCE: Duration = Duration::from_secs(20);
const HOUR: Duration = Duration::from_secs(3600);

fn config(dir: &Path, max: u64) -> ConfigBuilder {
    let limit = Limit::new("calls", max, Window::Session { ttl: HOUR }).per("session");
    // Nothing is written by itself while a test runs.
    Config::builder("a").data_dir(dir).persist_every(Duration::from_secs(60)).limit(limit)
}

async fn open(dir: &Path, max: u64) -> Limiter {
    Limiter::open(config(dir, max).build().unwrap()).await.unwrap()
}

/// Opens it once its former instance, for which nothing waits, has let go of the directory.
async fn open_at_last(dir: &Path, max: u64) -> Limiter {
    let opening = async {
        loop {
            match Limiter::open(config(dir, max).build().unwrap()).await {
                Ok(limiter) => return limiter,
                Err(OpenError::Storage(StorageError::Held { .. })) => {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, opening).await.expect("the directory is held")
}

fn request() -> Request<'static> {
    Request::new().with("session", "s")
}

fn used(limiter: &Limiter) -> u64 {
    limiter.counters().value(&limiter.keys(&request())[0])
}

fn is_closed(decision: tallymesh::Decision) -> bool {
    decision.into_denied().is_some_and(|denial| {
        (denial.reason(), denial.limit_name(), denial.retry_after())
            == (DenialReason::Closed, None, None)
            && denial.to_string() == "the limiter is closed; waiting does not help"
    })
}

#[tokio::test]
async fn a_closing_that_a_caller_stopped_waiting_for_goes_on_and_has_one_outcome() {
    let dir = tempfile::tempdir().unwrap();
    for round in 1..=3 {
        let limiter = open(dir.path(), 1_000_000).await;
        for _ in 0..1_000 {
            assert!(limiter.acquire(&request()).is_allowed());
        }
        let _ = tokio::time::timeout(Duration::from_micros(1), limiter.close()).await;
        let other = limiter.clone();
        let (first, second) = tokio::join!(limiter.close(), other.close());
        assert!(first.is_ok() && first == second);
        // Nothing of it is open any more, although the limiter is not dropped.
        let again = open(dir.path(), 1_000_000).await;
        assert_eq!(used(&again), round * 1_000);
        again.close().await.unwrap();
        assert_eq!(limiter.close().await, first, "the outcome stays");
    }
}

#[tokio::test]
async fn a_closing_that_nobody_waits_for_ends_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let limiter = open(dir.path(), 100).await;
    assert!(limiter.acquire(&request()).is_allowed());
    let _ = tokio::time::timeout(Duration::ZERO, limiter.close()).await;
    until("it is closed", PATIENCE, || limiter.status().health.state == RunState::Closed).await;
    let again = open(dir.path(), 100).await;
    assert_eq!(used(&again), 1);
    again.close().await.unwrap();
}

#[tokio::test]
async fn what_is_closed_says_so_whoever_asks() {
    let dir = tempfile::tempdir().unwrap();
    let limiter = open(dir.path(), 100).await;
    let (clone, store) = (limiter.clone(), limiter.counters().clone());
    let meter = limiter.meter(&request());
    let unmatched = limiter.meter(&Request::new());
    let key = CounterKey::new("plain", &[]).unwrap();
    let handle = store.handle(&key);
    handle.add(2).unwrap();
    assert!(meter.acquire(1).is_allowed());
    let receipts: Vec<_> =
        (0..2).map(|_| limiter.acquire(&request()).into_result().unwrap()).collect();
    let [receipt, for_token] = <[_; 2]>::try_from(receipts).unwrap();
    let token = limiter.token(for_token).unwrap();
    limiter.close().await.unwrap();

    assert_eq!(store.health().state, RunState::Closed);
    assert!(store.is_closed());
    let names = (0..1_000).map(|n| n.to_string()).collect::<Vec<_>>();
    let long = "x".repeat(2_000);
    let too_long = Request::new().with("session", &long);
    let too_many = names.iter().fold(Request::new(), |request, name| request.with(name, "v"));
    let plain = Request::new().with("session", "s");
    for request in [&plain, &Request::new(), &too_long, &too_many] {
        assert!(is_closed(clone.acquire(request)));
        let Peek::Denied(denial) = clone.peek(request) else { panic!("it is closed") };
        assert_eq!(denial.reason(), DenialReason::Closed);
        let new_meter = clone.meter(request);
        assert!(is_closed(new_meter.acquire(1)) && !new_meter.peek(1).is_allowed());
        assert_eq!(clone.acquire_durable(request).await.unwrap_err(), DurabilityError::Closed);
    }
    assert!(is_closed(meter.acquire(1)) && is_closed(unmatched.acquire(1)));
    assert!(!meter.peek(1).is_allowed());
    assert_eq!(handle.add(1), Err(CountError::Closed));
    assert_eq!(handle.try_add(1, 9), Err(CountError::Closed));
    assert_eq!(
        (handle.subtract(1), handle.reset()),
        (Err(CountError::Closed), Err(CountError::Closed))
    );
    assert_eq!(
        (store.add(&key, 1), store.subtract(&key, 1)),
        (Err(CountError::Closed), Err(CountError::Closed))
    );
    assert_eq!(store.reset(&key), Err(CountError::Closed));
    assert_eq!(clone.reset(&request()), Err(ResetError::Counter(CountError::Closed)));
    assert_eq!(clone.refund(receipt), Err(RefundError::Closed));
    assert_eq!(clone.refund_token(&token), Err(RefundError::Closed));
    assert_eq!(store.flush().await, Err(DurabilityError::Closed));
    // To look is still allowed.
    assert_eq!((handle.value(), used(&limiter)), (2, 3));

    let again = open(dir.path(), 100).await;
    assert_eq!((again.counters().value(&key), used(&again)), (2, 3));
    again.close().await.unwrap();
}

#[tokio::test]
async fn durable_calls_on_a_closed_limiter_charge_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let limiter = open(dir.path(), 3).await;
    limiter.close().await.unwrap();
    for _ in 0..3 {
        assert!(limiter.acquire_durable(&request()).await.is_err());
    }
    assert_eq!(used(&limiter), 0);
    let again = open(dir.path(), 3).await;
    for _ in 0..3 {
        assert!(again.acquire_durable(&request()).await.unwrap().is_allowed());
    }
    again.close().await.unwrap();
}

#[tokio::test]
async fn a_durable_call_that_is_given_up_charges_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let limiter = open(dir.path(), 3).await;
    let mut given_up = 0;
    while given_up < 10 {
        let request = request();
        let call = limiter.acquire_durable(&request);
        match tokio::time::timeout(Duration::ZERO, call).await {
            Err(_) => given_up += 1,
            // The disk was quicker.
            Ok(decision) => limiter.refund(decision.unwrap().into_result().unwrap()).unwrap(),
        }
    }
    assert_eq!(used(&limiter), 0);
    limiter.close().await.unwrap();
}

/// Durable calls that a closing overtakes: what they were told is what the next life finds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durable_calls_beside_a_closing_are_on_disk_or_charge_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut admitted = 0;
    for _ in 0..10 {
        let limiter = open(dir.path(), 1_000_000).await;
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let limiter = limiter.clone();
            calls.spawn(async move {
                let mut admitted = 0;
                while limiter.acquire_durable(&request()).await.is_ok() {
                    admitted += 1;
                }
                admitted
            });
        }
        limiter.counters().flush().await.unwrap();
        limiter.close().await.unwrap();
        admitted += calls.join_all().await.iter().sum::<u64>();
        let again = open(dir.path(), 1_000_000).await;
        assert_eq!(used(&again), admitted);
        again.close().await.unwrap();
    }
}

/// Threads count while it is closed: each admission that was told is in the last checkpoint, and nothing else is.
#[tokio::test]
async fn what_was_admitted_beside_a_closing_is_in_the_last_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let mut admitted = 0;
    for round in 0..20 {
        let limiter = open(dir.path(), u64::MAX >> 12).await;
        let threads: Vec<_> = (0..3)
            .map(|thread| {
                let (limiter, meter) = (limiter.clone(), limiter.meter(&request()));
                std::thread::spawn(move || {
                    let mut admitted = 0;
                    loop {
                        let decision = match thread {
                            0 => meter.acquire(1),
                            _ => limiter.acquire(&request()),
                        };
                        match decision.into_result() {
                            Ok(_) => admitted += 1,
                            Err(denial) => {
                                assert_eq!(denial.reason(), DenialReason::Closed);
                                return admitted;
                            }
                        }
                    }
                })
            })
            .collect();
        until("they count", PATIENCE, || used(&limiter) > admitted).await;
        match round % 3 {
            0 => limiter.close().await.map(drop).unwrap(),
            1 => limiter.close_within(PATIENCE).map(drop).unwrap(),
            _ => _ = tokio::time::timeout(Duration::ZERO, limiter.close()).await,
        }
        admitted += threads.into_iter().map(|thread| thread.join().unwrap()).sum::<u64>();
        drop(limiter);
        let again = open_at_last(dir.path(), u64::MAX >> 12).await;
        assert_eq!(used(&again), admitted, "round {round}");
        again.close().await.unwrap();
    }
}

#[tokio::test]
async fn the_last_drop_writes_before_it_returns() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..5 {
        let limiter = open_at_last(dir.path(), 100).await;
        assert_eq!(used(&limiter), round);
        let clone = limiter.clone();
        drop(limiter);
        assert!(clone.acquire(&request()).is_allowed(), "it was not the last");
        drop(clone);
    }
}

#[tokio::test]
async fn a_closing_without_a_runtime_says_when_time_is_up_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let limiter = open(dir.path(), 100).await;
    assert!(limiter.acquire(&request()).is_allowed());
    match limiter.close_within(Duration::ZERO) {
        Err(DurabilityError::Unfinished) | Ok(_) => {}
        other => panic!("{other:?}"),
    }
    assert!(limiter.close_within(PATIENCE).is_ok());
    assert!(limiter.close().await.is_ok());
    let again = open(dir.path(), 100).await;
    assert_eq!(used(&again), 1);
    again.close().await.unwrap();
}

#[tokio::test]
async fn in_memory_it_ends_alike() {
    let store =
        CounterStore::open(Config::builder("a").in_memory().build().unwrap()).await.unwrap();
    let key = CounterKey::new("x", &[]).unwrap();
    store.add(&key, 1).unwrap();
    store.close_within(PATIENCE).unwrap();
    assert_eq!(
        (store.health().state, store.add(&key, 1)),
        (RunState::Closed, Err(CountError::Closed))
    );
}
