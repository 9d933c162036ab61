//! A caller that makes up sessions without end at one of two nodes: all others go on.

use std::time::Duration;

use tallymesh::{Config, DenialReason, Limit, Limiter, Request, Window};
use tallymesh_test_support::until;

const PATIENCE: Duration = Duration::from_secs(30);

async fn open(name: &str, peer: Option<&Limiter>) -> Limiter {
    let window = || Window::Session { ttl: Duration::from_secs(3600) };
    let peers = peer.into_iter().map(|peer| peer.status().address.unwrap().to_string());
    let config = Config::builder(name)
        .in_memory()
        .listen("127.0.0.1:0")
        .gossip_interval(Duration::from_millis(10))
        .digest_interval(Duration::from_millis(100))
        .sync_timeout(Duration::ZERO)
        .peers(peers)
        .max_counters(1000)
        .limit(Limit::new("calls", 5, window()).per("session").when("session", "*"))
        .limit(Limit::new("orders", 5, window()).per("account").when("account", "*"));
    Limiter::open(config.build().unwrap()).await.unwrap()
}

fn call(limiter: &Limiter, session: &str) -> bool {
    limiter.acquire(&Request::new().with("session", session)).is_allowed()
}

fn order(limiter: &Limiter, account: &str) -> bool {
    limiter.acquire(&Request::new().with("account", account)).is_allowed()
}

#[tokio::test]
async fn made_up_sessions_leave_room_for_all_others() {
    let a = open("a", None).await;
    let b = open("b", Some(&a)).await;
    let knows_both = |limiter: &Limiter| limiter.status().cluster_size == 2;
    until("both know it", PATIENCE, || knows_both(&a) && knows_both(&b)).await;
    assert!(call(&a, "real") && order(&a, "real"));
    let mut let_in = 0;
    let mut last = None;
    for n in 0..3000 {
        let answer = a.acquire(&Request::new().with("session", &format!("made up {n}")));
        let_in += u32::from(answer.is_allowed());
        last = answer.into_denied().map(|denial| (denial.reason(), denial.to_string()));
    }
    let (reason, text) = last.unwrap();
    assert_eq!(reason, DenialReason::TooManyCounters);
    assert!(text.contains("leaves no room"), "{text}");
    // All but what is kept for the other limit and for the other node.
    assert!((400..=551).contains(&let_in), "{let_in}");
    assert!(call(&a, "real") && order(&a, "real"), "sessions that exist go on");
    assert!((0..40).all(|n| order(&a, &format!("new account {n}"))));
    let reasons = a.status().health.reasons.concat();
    assert!(reasons.contains("limit \"calls\": ") && !reasons.contains("\"orders\""), "{reasons}");
    // Sessions of the other node are heard of here.
    let before = a.status().counters;
    assert!((0..200).all(|n| call(&b, &format!("of b {n}"))));
    until("they are", PATIENCE, || a.status().counters == before + 200).await;
    for limiter in [a, b] {
        limiter.close().await.unwrap();
    }
}
