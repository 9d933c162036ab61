//! Nodes in this process, and what they need.

use std::time::Duration;

use tallymesh::{Config, ConfigBuilder, CounterStore, Limit, Limiter, Window};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// An empty directory on a disk: where temporary files go that survive a restart of the machine.
pub fn directory() -> TempDir {
    TempDir::with_prefix_in("tallymesh-compare-", "/var/tmp").expect("the directory is writable")
}

/// An event loop for calls that have to wait.
pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the system gives us an event loop")
}

/// A limit per session.
pub fn limit(name: &str, max: u64) -> Limit {
    let window = Window::Session { ttl: Duration::from_secs(3600) };
    Limit::new(name, max, window).when("limit", name).per("session")
}

/// A node at this address or another, with a data directory or in memory.
pub fn node(name: &str, directory: Option<&TempDir>) -> ConfigBuilder {
    let settings = Config::builder(name).listen("127.0.0.1:0").max_counters(4_000_000);
    match directory {
        Some(directory) => settings.data_dir(directory.path().join(name)),
        None => settings.in_memory(),
    }
}

/// Opens a node.
pub fn open(runtime: &Runtime, settings: ConfigBuilder) -> Limiter {
    let opening = Limiter::open(settings.build().expect("the settings are valid"));
    runtime.block_on(opening).expect("the directory and a port are ours")
}

/// Where a node listens.
pub fn address(store: &CounterStore) -> String {
    store.address().expect("every node here listens").to_string()
}

/// Waits for a condition, and looks again every half a millisecond.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..240_000 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    panic!("never within two minutes: {what}");
}
