//! Waiting for a condition.

use std::time::Duration;

/// Waits until it holds; panics with what never came about if that takes longer than `patience`.
pub async fn until(what: &str, patience: Duration, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(patience, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}
