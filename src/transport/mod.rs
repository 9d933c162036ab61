//! How frames get from one node to another: a small trait, and TCP, in the clear, under keys, or in TLS.

mod cluster_key;
mod crypto;
mod frames;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod handshake;
mod node_key;
mod noise;
mod records;
mod strangers;
mod stream;
mod tcp;
#[cfg(feature = "tls")]
mod tls;

use std::future::Future;

use tallymesh_core::link::{LinkEvent, LinkId};

use crate::credentials::Credentials;
pub(crate) use handshake::Handshake;
pub(crate) use tcp::{Security, Tcp};

/// Carries frames. Every call returns at once; its outcome is a [`LinkEvent`].
pub(crate) trait Transport {
    /// Tries to connect to an address. Brings one `Up`, after any handshake of the transport's own, or one `DialFailed` or `Unproven`.
    fn dial(&mut self, address: String);

    /// Sends a frame, after those sent before. Brings one `Sent`, unless the link goes down.
    fn send(&mut self, link: LinkId, frame: Vec<u8>);

    /// Closes a connection, after what was sent. Brings no event.
    fn close(&mut self, link: LinkId);

    /// Proves itself by these from now on, and has peers do so. Links whose peers have proven what is not accepted any more go down.
    /// Those that were dialed under other keys than are used now are replaced: another `Up` comes for their address.
    fn set_credentials(&mut self, credentials: Credentials);

    /// What happens next. Cancelling the future loses nothing.
    fn next_event(&mut self) -> impl Future<Output = LinkEvent>;
}
