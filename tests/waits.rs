//! Waits that are obeyed: who waits exactly as a denial tells, by a clock that is exact, is admitted.

use std::time::{Duration, Instant};

use tallymesh::{Config, Decision, Limit, Limiter, Meter, Request, Window};

const KEYS: usize = 100;
const ROUNDS: usize = 10;
const WINDOW: Duration = Duration::from_millis(97);

#[expect(clippy::disallowed_methods, reason = "waits by a real clock")]
fn now() -> Instant {
    Instant::now()
}

/// Waits until this very moment: a sleep alone ends late.
fn wait_until(due: Instant) {
    std::thread::sleep((due - now()).saturating_sub(Duration::from_millis(1)));
    while now() < due {
        std::hint::spin_loop();
    }
}

/// Asks until it is denied, and returns when the wait that it was told is over.
fn use_up(ask: impl Fn() -> Decision) -> Instant {
    loop {
        if let Some(denial) = ask().into_denied() {
            let wait = denial.retry_after().expect("a wait");
            assert!(wait.subsec_nanos().is_multiple_of(1_000_000), "{wait:?}");
            return now() + wait;
        }
    }
}

/// So many rounds, in each of which all keys are used up, waited for and asked once; returns how many were denied then.
fn denied_again(keys: &[Box<dyn Fn() -> Decision>]) -> usize {
    let mut denied = 0;
    for _ in 0..ROUNDS {
        let mut due: Vec<(Instant, usize)> =
            keys.iter().enumerate().map(|(key, ask)| (use_up(ask), key)).collect();
        due.sort_unstable();
        for (moment, key) in due {
            wait_until(moment);
            denied += usize::from(!keys[key]().is_allowed());
        }
    }
    denied
}

async fn open(window: Window) -> Limiter {
    let limit = Limit::new("once", 1, window).per("key");
    Limiter::open(Config::builder("a").in_memory().limit(limit).build().unwrap()).await.unwrap()
}

#[tokio::test]
async fn of_a_thousand_waits_in_fixed_windows_none_is_denied_again() {
    let limiter = open(Window::Fixed(WINDOW)).await;
    let key = |key: usize| -> Box<dyn Fn() -> Decision> {
        let (limiter, key) = (limiter.clone(), key.to_string());
        Box::new(move || limiter.acquire(&Request::new().with("key", &key)))
    };
    let keys: Vec<_> = (0..KEYS).map(key).collect();
    assert_eq!(denied_again(&keys), 0);
}

#[tokio::test]
async fn of_a_thousand_waits_for_a_session_by_a_handle_none_is_denied_again() {
    let limiter = open(Window::Session { ttl: WINDOW }).await;
    let meter =
        |key: usize| -> Meter { limiter.meter(&Request::new().with("key", &key.to_string())) };
    let ask = |meter: Meter| -> Box<dyn Fn() -> Decision> { Box::new(move || meter.acquire(1)) };
    let keys: Vec<_> = (0..KEYS).map(meter).map(ask).collect();
    assert_eq!(denied_again(&keys), 0);
}
