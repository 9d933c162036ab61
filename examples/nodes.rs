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
    let a = Limiter::open(node("a").build()?).await?;
    let address = a.counters().address().ok_or("a does not listen")?;
    let b = Limiter::open(node("b").peers([address.to_string()]).build()?).await?;

    let booking = Request::tool_call("s42", "book_service").with("user", "u7");
    for _ in 1..=3 {
        assert!(a.acquire(&booking).is_allowed());
    }
    println!("a allowed three calls");

    // Each decides by itself, at once; what a counted is on its way to b for some milliseconds.
    while b.peek(&booking).is_allowed() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(!b.acquire(&booking).is_allowed());
    println!("b heard of them and denied the fourth");

    a.close().await?;
    b.close().await?;
    Ok(())
}
