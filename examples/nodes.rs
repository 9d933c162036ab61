//! Two nodes under one limit. Here they are in one process; usually each is in an instance of your server.

use std::time::Duration;

use tallymesh::{Config, ConfigBuilder, Limit, Limiter, Request, Window};

fn node(id: &str) -> ConfigBuilder {
    let window = Window::Session { ttl: Duration::from_secs(3600) };
    let bookings = Limit::new("bookings per user", 3, window).per("user");
    // Port 0 is any free port; in production each node names its own, and the others in `peers`.
    Config::builder(id).in_memory().listen("127.0.0.1:0").limit(bookings)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let booking = Request::tool_call("s42", "book_service").with("user", "u7");
    let a = Limiter::open(node("a").build()?).await?;
    assert!(a.acquire(&booking).is_allowed());
    assert!(a.acquire(&booking).is_allowed());

    // A node that starts hears what the others know before its first decision.
    let address = a.counters().address().ok_or("a does not listen")?;
    let b = Limiter::open(node("b").peers([address.to_string()]).build()?).await?;
    assert!(b.acquire(&booking).is_allowed());
    assert!(!b.acquire(&booking).is_allowed());
    println!("b allowed the third call and denied the fourth");

    while a.peek(&booking).is_allowed() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(!a.acquire(&booking).is_allowed());
    println!("a heard of it and denies too");

    a.close().await?;
    b.close().await?;
    Ok(())
}
