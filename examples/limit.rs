//! One limit: three bookings for each user, and the fourth is denied. `cargo run -p tallymesh --example limit`

use std::time::Duration;

use tallymesh::{Config, Decision, Limit, Limiter, Request, Window};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let window = Window::Session { ttl: Duration::from_secs(3600) };
    let bookings = Limit::new("bookings per user", 3, window).when("tool", "book_*").per("user");
    let limiter = Limiter::open(Config::builder("a").in_memory().limit(bookings).build()?).await?;

    let booking = Request::tool_call("s42", "book_service").with("user", "u7");
    for call in 1..=4 {
        match limiter.acquire(&booking) {
            Decision::Allowed(_) => println!("{call} allowed"),
            Decision::Denied(denial) => println!("{call} denied: {denial}"),
        }
    }
    assert!(!limiter.acquire(&booking).is_allowed());

    // Another user has a count of their own, and the limit does not apply to another tool.
    let other_user = Request::tool_call("s43", "book_service").with("user", "u8");
    assert!(limiter.acquire(&other_user).is_allowed());
    let other_tool = Request::tool_call("s42", "get_services").with("user", "u7");
    assert!(limiter.acquire(&other_tool).is_allowed());

    limiter.close().await?;
    Ok(())
}
