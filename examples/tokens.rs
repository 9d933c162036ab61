//! Tokens instead of calls: a request has a cost, under a limit for the user and one for all users together.

use std::time::Duration;

use tallymesh::{Config, Decision, Limit, Limiter, Request, Window};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let ttl = Duration::from_secs(3600);
    let per_user = Limit::new("tokens per user", 10_000, Window::Session { ttl }).per("user");
    let in_total = Limit::new("tokens in total", 15_000, Window::Session { ttl });
    let config = Config::builder("a").in_memory().limit(per_user).limit(in_total);
    let limiter = Limiter::open(config.build()?).await?;

    let prompt = |user, tokens| Request::new().with("user", user).cost(tokens);
    for (user, tokens, expected) in [
        ("u7", 9_000, true),
        ("u7", 2_000, false), // 1,000 are left for this user; nothing was charged.
        ("u7", 1_000, true),
        ("u8", 6_000, false), // 5,000 are left in total.
        ("u8", 5_000, true),
    ] {
        let decision = limiter.acquire(&prompt(user, tokens));
        assert_eq!(decision.is_allowed(), expected);
        match decision {
            Decision::Allowed(_) => println!("{user} {tokens}: allowed"),
            Decision::Denied(denial) => println!("{user} {tokens}: denied: {denial}"),
        }
    }
    limiter.close().await?;
    Ok(())
}
