//! How frames get from one node to another: a small trait, and TCP, in the clear or under a key of the cluster.

mod crypto;
mod frames;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod noise;
mod records;
mod strangers;
mod stream;
mod tcp;

use std::future::Future;

use tallymesh_core::link::{LinkEvent, LinkId};

use crate::cluster_key::Keys;
pub(crate) use noise::Handshake;
pub(crate) use tcp::{Security, Tcp};

/// Carries frames. Every call returns at once; its outcome is a [`LinkEvent`].
pub(crate) trait Transport {
    /// Tries to connect to an address. Brings one `Up`, after any handshake of the transport's own, or one `DialFailed` or `Unproven`.
    fn dial(&mut self, address: String);

    /// Sends a frame, after those sent before. Brings one `Sent`, unless the link goes down.
    fn send(&mut self, link: LinkId, frame: Vec<u8>);

    /// Closes a connection, after what was sent. Brings no event.
    fn close(&mut self, link: LinkId);

    /// Dials with the first of these keys from now on, and accepts all of them. Links that were made under another one go down.
    /// Those that were dialed under another than the first are replaced: another `Up` comes for their address.
    fn set_keys(&mut self, keys: Keys);

    /// What happens next. Cancelling the future loses nothing.
    fn next_event(&mut self) -> impl Future<Output = LinkEvent>;
}
