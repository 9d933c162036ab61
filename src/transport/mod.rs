//! How frames get from one node to another: a small trait, and TCP.

mod tcp;

use std::future::Future;

use tallymesh_core::link::{LinkEvent, LinkId};

pub(crate) use tcp::Tcp;

/// Carries frames. Every call returns at once; its outcome is a [`LinkEvent`].
pub(crate) trait Transport {
    /// Tries to connect to an address. Brings one `Up`, after any handshake of the transport's own, or one `DialFailed`.
    fn dial(&mut self, address: String);

    /// Sends a frame, after those sent before. Brings one `Sent`, unless the link goes down.
    fn send(&mut self, link: LinkId, frame: Vec<u8>);

    /// Closes a connection, after what was sent. Brings no event.
    fn close(&mut self, link: LinkId);

    /// What happens next. Cancelling the future loses nothing.
    fn next_event(&mut self) -> impl Future<Output = LinkEvent>;
}
