//! A session's meter: finds the counters of a session and a tool once, then decides in a third of the time.

use std::time::Duration;

use tallymesh::{Config, Decision, Limit, Limiter, Window};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let window = Window::Session { ttl: Duration::from_secs(3600) };
    let calls = Limit::new("calls of a tool", 100, window).per("session").per("tool");
    let limiter = Limiter::open(Config::builder("a").in_memory().limit(calls).build()?).await?;

    let session = limiter.session("s42").with("user", "u7");
    let (search, booking) = (session.meter("search"), session.meter("book_service"));
    let mut allowed = 0;
    let denial = loop {
        match search.acquire(1) {
            Decision::Allowed(_) => allowed += 1,
            Decision::Denied(denial) => break denial,
        }
    };
    println!("search: {allowed} allowed, then denied: {denial}");
    assert_eq!(allowed, 100);
    assert!(booking.peek(100).is_allowed());

    limiter.close().await?;
    Ok(())
}
