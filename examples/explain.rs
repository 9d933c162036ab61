//! What an operator asks a limiter: which counters are fullest, whose counts those are and who brought them; and a reset by pattern.

use std::time::Duration;

use tallymesh::{
    Bringers, Brought, Config, Counted, CounterOrder, CounterPage, Crossing, ExplainedCell,
    ExplainedCounter, Explanation, InvalidCounterOrder, Limit, Limiter, Request, Selection, Window,
};

/// A line for a counter, and one for each of its cells.
fn lines(ExplainedCounter { counted, cells, .. }: &ExplainedCounter) -> Vec<String> {
    let Counted { value, max, labels, .. } = counted;
    let mut lines = vec![format!("{} {labels:?}: {value} of {max:?}", counted.key.limit())];
    for ExplainedCell { replica, cell, bringers, .. } in cells {
        lines.push(format!("{replica}: +{} -{} {}", cell.p, cell.n, told(bringers)));
    }
    lines
}

/// By whom a replica's updates came.
fn told(Bringers { links, by_others, .. }: &Bringers) -> String {
    let told = |Brought { link, updates, last, .. }: &Brought| {
        format!("{updates} updates by {link}, last at {last}")
    };
    let told: Vec<String> = links.iter().map(told).collect();
    format!("[{}], and {by_others} by others", told.join(", "))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let limit = Limit::new("calls", 10, Window::Session { ttl: Duration::from_secs(3600) });
    let limit = limit.per("session");
    let config = || Config::builder("a").in_memory().limit(limit.clone());
    assert!(!config().build()?.has_control(), "a library has a control socket if it is asked for");
    let b = Limiter::open(Config::builder("b").in_memory().listen("127.0.0.1:0").build()?).await?;
    let address = b.counters().address().ok_or("it listens")?;
    let a = Limiter::open(config().peers([address.to_string()]).build()?).await?;
    // What the other node counts takes this one's counter to its limit.
    let request = Request::new().with("session", "s1").cost(10);
    let key = a.keys(&request).remove(0);
    b.counters().add(&key, 10)?;
    while a.counters().value(&key) < 10 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    let sessions = Selection::all().limit("calls").label("session", "s*");
    let page: CounterPage = a.counters().page(&sessions, CounterOrder::Used, 10, None);
    assert_eq!((page.found, page.counters[0].value, page.counters[0].max), (1, 10, Some(10)));
    let explanation: Explanation = a.counters().explain(&sessions, 10, None);
    explanation.counters.iter().flat_map(lines).for_each(|line| println!("{line}"));
    let crossing: &Crossing = &explanation.crossings[0];
    assert_eq!((crossing.before, crossing.after, crossing.link.node.as_str()), (0, 10, "b"));

    assert_eq!(a.reset(sessions)?, 1);
    let unknown: Result<CounterOrder, InvalidCounterOrder> = "size".parse();
    assert!(unknown.is_err());
    a.close().await?;
    b.close().await?;
    Ok(())
}
