//! What an answer tells, and what becomes of it: denials are errors, receipts are refunded once.

use std::time::Duration;

use tallymesh::{
    Config, Denial, DenialReason, DurabilityState, Health, Limit, Limiter, Peek, Receipt, Request,
    Reset, ResetError, RunState, Window,
};

/// A denial is an error like any other.
fn admit(limiter: &Limiter, cost: u64) -> Result<Receipt, Denial> {
    limiter.acquire(&Request::tool_call("s1", "search").cost(cost)).into_result()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let limit = Limit::new("tokens", 10, Window::Session { ttl: Duration::from_secs(3600) });
    let config = Config::builder("a").in_memory().limit(limit.per("session")).build()?;
    let limiter = Limiter::open(config).await?;
    let limit = limiter.limits().next().ok_or("a limit")?;
    assert_eq!((limit.name(), limit.per_labels().collect::<Vec<_>>()), ("tokens", vec!["session"]));

    let receipt = admit(&limiter, 7)?;
    assert_eq!(receipt.remaining(), Some(3));
    let denial = admit(&limiter, 7).unwrap_err();
    assert_eq!(denial.reason(), DenialReason::LimitReached);
    assert_eq!((denial.limit_name(), denial.limit_max()), (Some("tokens"), Some(10)));
    assert!(denial.remaining() == 3 && denial.retry_after().is_some());
    limiter.refund(receipt)?;

    let request = Request::tool_call("s1", "search").cost(10);
    assert!(matches!(limiter.peek(&request), Peek::Allowed { remaining: Some(0), .. }));
    assert!(limiter.acquire(&request).into_allowed().is_some());
    assert!(limiter.acquire(&request).into_denied().is_some());
    assert_eq!(limiter.reset(Reset::limit("tokens").label("session", "s1"))?, 1);
    let unknown: ResetError = limiter.reset(Reset::limit("no such limit")).unwrap_err();
    println!("{unknown}");

    let health: Health = limiter.counters().health();
    assert_eq!((health.state, health.durability), (RunState::Running, DurabilityState::InMemory));
    assert!(!health.is_durable() && !health.is_failed() && health.reasons.is_empty());
    assert_eq!(limiter.counters().rejections().counters_refused, 0);
    assert!(!limiter.counters().version_vector().is_empty());
    limiter.close().await?;
    Ok(())
}
