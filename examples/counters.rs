//! Counters without limits: what every node may add to, kept on disk; and a look into the closed data directory.

use tallymesh::{Config, CounterKey, CounterState, CounterStore, check, inspect};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let store = CounterStore::open(Config::builder("a").data_dir(dir.path()).build()?).await?;
    assert!(store.is_empty() && store.set_aside().is_none());

    let tokens = CounterKey::new("tokens", &["session-42"])?;
    let calls = store.handle(&CounterKey::new("calls", &["session-42"])?);
    assert_eq!(store.add(&tokens, 700)?, 700);
    assert_eq!(calls.add(2)?, 2);
    calls.reset()?;
    assert_eq!((calls.key().limit(), calls.value()), ("calls", 0));
    store.flush().await?;

    let now = store.now();
    for CounterState { key, value, expires_at, .. } in store.iter() {
        let (name, values) = (key.limit(), key.values().collect::<Vec<_>>());
        println!("{name} {values:?}: {value}, for another {:?}", expires_at.since(now));
    }
    println!("{}: {} counters, {:x}", store.replica(), store.len(), store.state_checksum());
    store.close().await?;
    assert!(store.is_closed());

    let contents = inspect(dir.path())?;
    assert_eq!((contents.node.as_str(), contents.counters.len()), ("a", 2));
    let report = check(dir.path())?;
    assert!(report.damage.is_empty());
    println!("on disk: {} records of {}, all sound", report.records, contents.node);
    Ok(())
}
