//! What a decision costs on a warm counter, beside governor's keyed limiter in the same run.
//!
//! Both decide for all keys in one shuffled order, so that neither profits from neighbours in memory. governor neither
//! replicates nor persists; tallymesh gossips and writes its checkpoints meanwhile, in memory.

use std::num::NonZeroU32;
use std::time::Duration;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use governor::{Quota, RateLimiter};
use tallymesh::{Config, ConfigBuilder, Limit, Limiter, Meter, Request, WhenCutOff, Window};

/// Keys in use, after one another.
const KEYS: &[usize] = &[1_000, 10_000, 100_000];

fn main() {
    divan::main();
}

/// The sessions in the order in which they come up first.
fn sessions(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("session-{n:08}")).collect()
}

/// The same in another order, or a map that keeps them one after the other would find them by prefetching.
fn shuffled(mut sessions: Vec<String>) -> Vec<String> {
    let length = sessions.len() as u64;
    let mut state = 1_u64;
    for place in (1..sessions.len()).rev() {
        // The generator of Knuth's MMIX: good enough to shuffle with, and the same in every run.
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        sessions.swap(place, ((state >> 33) % length.min(place as u64 + 1)) as usize);
    }
    sessions
}

/// A limiter with one limit per session and tool, and a counter for each session.
fn tallymesh(sessions: &[String], max: u64) -> (tokio::runtime::Runtime, Limiter) {
    tallymesh_with(sessions, [per_session_and_tool(max)])
}

fn per_session_and_tool(max: u64) -> Limit {
    let window = Window::Session { ttl: Duration::from_secs(3600) };
    Limit::new("calls", max, window).per("session").per("tool")
}

fn tallymesh_with(
    sessions: &[String],
    limits: impl IntoIterator<Item = Limit>,
) -> (tokio::runtime::Runtime, Limiter) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the system gives us an event loop");
    let config =
        limits.into_iter().fold(Config::builder("bench").in_memory(), ConfigBuilder::limit);
    let config = config.build();
    let limiter = runtime
        .block_on(Limiter::open(config.expect("the settings are valid")))
        .expect("nothing is in the way of a store in memory");
    for session in sessions {
        let _ = black_box(limiter.acquire(&Request::tool_call(session, "book_service")));
    }
    (runtime, limiter)
}

#[divan::bench(args = KEYS)]
fn tallymesh_allowed(bencher: Bencher<'_, '_>, keys: usize) {
    decide_for_all(bencher, keys, 1 << 40);
}

#[divan::bench(args = KEYS)]
fn tallymesh_denied(bencher: Bencher<'_, '_>, keys: usize) {
    decide_for_all(bencher, keys, 1);
}

/// A limit that heeds cuts, while no member is silent.
#[divan::bench(args = KEYS)]
fn share_allowed(bencher: Bencher<'_, '_>, keys: usize) {
    let limit = per_session_and_tool(1 << 40).when_cut_off(WhenCutOff::Share);
    decide_under(bencher, keys, [limit]);
}

fn decide_for_all(bencher: Bencher<'_, '_>, keys: usize, max: u64) {
    decide_under(bencher, keys, [per_session_and_tool(max)]);
}

#[divan::bench(args = KEYS)]
fn meter_allowed(bencher: Bencher<'_, '_>, keys: usize) {
    decide_by_handle_for_all(bencher, keys, 1 << 40);
}

#[divan::bench(args = KEYS)]
fn meter_denied(bencher: Bencher<'_, '_>, keys: usize) {
    decide_by_handle_for_all(bencher, keys, 1);
}

/// The same through handles, each made before the clock starts.
fn decide_by_handle_for_all(bencher: Bencher<'_, '_>, keys: usize, max: u64) {
    let sessions = sessions(keys);
    let (_runtime, limiter) = tallymesh(&sessions, max);
    let meters: Vec<Meter> = shuffled(sessions)
        .iter()
        .map(|session| limiter.meter(&Request::tool_call(session, "book_service")))
        .collect();
    bencher
        .counter(ItemsCount::new(keys))
        .bench_local(|| meters.iter().filter(|meter| meter.acquire(1).is_allowed()).count());
}

/// Three limits match each request: its session and tool, its session, and its tool.
#[divan::bench(args = KEYS)]
fn three_limits_allowed(bencher: Bencher<'_, '_>, keys: usize) {
    let session = Window::Session { ttl: Duration::from_secs(3600) };
    let limits = [
        Limit::new("calls", 1 << 40, session).per("session").per("tool"),
        Limit::new("calls per session", 1 << 40, session).per("session"),
        Limit::new("calls per tool", 1 << 40, session).per("tool"),
    ];
    decide_under(bencher, keys, limits);
}

/// One limit that counts in fixed windows, a day long, so that none ends meanwhile.
#[divan::bench(args = KEYS)]
fn window_allowed(bencher: Bencher<'_, '_>, keys: usize) {
    let day = Window::Fixed(Duration::from_secs(24 * 3600));
    decide_under(bencher, keys, [Limit::new("calls", 1 << 40, day).per("session").per("tool")]);
}

/// One iteration is a decision for every key.
fn decide_under<const N: usize>(bencher: Bencher<'_, '_>, keys: usize, limits: [Limit; N]) {
    let sessions = sessions(keys);
    let (_runtime, limiter) = tallymesh_with(&sessions, limits);
    let sessions = shuffled(sessions);
    bencher.counter(ItemsCount::new(keys)).bench_local(|| {
        let allowed = |session: &&String| {
            limiter.acquire(&Request::tool_call(session, "book_service")).is_allowed()
        };
        sessions.iter().filter(allowed).count()
    });
}

/// What would be decided, with nothing charged.
#[divan::bench(args = KEYS)]
fn peek(bencher: Bencher<'_, '_>, keys: usize) {
    let sessions = sessions(keys);
    let (_runtime, limiter) = tallymesh(&sessions, 1 << 40);
    let sessions = shuffled(sessions);
    bencher.counter(ItemsCount::new(keys)).bench_local(|| {
        let allowed = |session: &&String| {
            limiter.peek(&Request::tool_call(session, "book_service")).is_allowed()
        };
        sessions.iter().filter(allowed).count()
    });
}

#[divan::bench(args = KEYS)]
fn governor_allowed(bencher: Bencher<'_, '_>, keys: usize) {
    check_all(bencher, keys, Quota::per_second(NonZeroU32::MAX));
}

#[divan::bench(args = KEYS)]
fn governor_denied(bencher: Bencher<'_, '_>, keys: usize) {
    let quota = Quota::with_period(Duration::from_secs(3600));
    check_all(bencher, keys, quota.expect("an hour is not zero"));
}

/// The same with governor. Its key is the session and the tool in one string, made before the clock starts; tallymesh is
/// given the two and makes its key each time.
fn check_all(bencher: Bencher<'_, '_>, keys: usize, quota: Quota) {
    let sessions: Vec<String> =
        sessions(keys).iter().map(|session| format!("{session}/book_service")).collect();
    let limiter = RateLimiter::keyed(quota);
    for session in &sessions {
        let _ = black_box(limiter.check_key(session));
    }
    let sessions = shuffled(sessions);
    bencher.counter(ItemsCount::new(keys)).bench_local(|| {
        sessions.iter().filter(|session| limiter.check_key(session).is_ok()).count()
    });
}
