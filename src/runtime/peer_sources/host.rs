//! A peer by its name or its address.

use std::io;
use std::net::SocketAddr;

use super::{Found, LOOK_AGAIN, LOOK_UP_EVERY, Tell, Trouble};

/// The address that this is, if it is no name.
pub(super) fn address_in(host: &str) -> Option<String> {
    host.parse::<SocketAddr>().ok().map(|address| address.to_string())
}

/// Looks a name up, again and again: it may have several addresses, and they may change.
pub(super) async fn follow(host: String, tell: Tell) {
    loop {
        let (goes_on, again) = match look_up(&host).await {
            Ok(addresses) => (tell.found(Found::Addresses(addresses)).await, LOOK_UP_EVERY),
            Err(error) => {
                let (name, error) = (host.clone(), error.to_string());
                (tell.trouble(Trouble::Unresolved { name, error }).await, LOOK_AGAIN)
            }
        };
        if !goes_on {
            return;
        }
        tokio::time::sleep(again).await;
    }
}

async fn look_up(host: &str) -> io::Result<Vec<String>> {
    let found = tokio::net::lookup_host(host).await?;
    let mut addresses: Vec<String> = found.map(|address| address.to_string()).collect();
    addresses.sort();
    addresses.dedup();
    match addresses.is_empty() {
        true => Err(io::Error::other("the name has no address")),
        false => Ok(addresses),
    }
}
