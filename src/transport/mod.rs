//! How frames get from one node to another: a small trait, and TCP.

mod tcp;

use std::future::Future;

use tallymesh_core::gossip::LinkId;

pub(crate) use tcp::Tcp;

/// Carries frames. Every call returns at once; what comes of it is an event.
pub(crate) trait Transport {
    /// Tries to connect to an address.
    fn dial(&mut self, address: String);

    /// Sends a frame, after those sent before.
    fn send(&mut self, link: LinkId, frame: Vec<u8>);

    /// Closes a connection, after what was sent.
    fn close(&mut self, link: LinkId);

    /// What happens next. Cancelling the future loses nothing.
    fn next_event(&mut self) -> impl Future<Output = TransportEvent>;
}

/// What happens to connections.
#[derive(Debug)]
pub(crate) enum TransportEvent {
    /// A connection stands: one that was dialed, or one that came in.
    Up {
        link: LinkId,
        dialed: Option<String>,
    },
    DialFailed {
        address: String,
        error: std::io::Error,
    },
    Frame {
        link: LinkId,
        bytes: Vec<u8>,
    },
    /// A frame has been handed to the network.
    Sent {
        link: LinkId,
    },
    /// The other end has closed the connection, or it broke.
    Down {
        link: LinkId,
    },
}
