//! Over what time a limit counts: one file for each kind of window.
//!
//! From the time of a request, a kind computes three things: the index of its window (if the kind has numbered windows), when
//! the charged counter expires, and whether that end is certain. A new kind is one more file and one more variant.

mod fixed;
mod session;
mod text;

use core::time::Duration;

use fixed::FixedWindow;
pub use session::Lifetime;
pub use text::InvalidWindow;

use crate::key::WindowIndex;
use crate::time::Timestamp;

/// Over what time a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Window {
    /// Fixed windows of this length, aligned to UTC: at least 1 ms, at most 366 days.
    Fixed(Duration),
    /// For as long as the counter is used: it ends when no request, allowed or denied, has touched it for `ttl`.
    ///
    /// The end is rounded up to a sixteenth of the ttl, so that the calls of a busy session need not each be sent to every
    /// peer.
    Session {
        /// Time to live after the last use: at least 1 ms, at most 366 days.
        ttl: Duration,
    },
}

/// How long a session lives after its last use where nothing else is said: 1 hour.
pub(super) const SESSION_TTL: Duration = Duration::from_secs(3600);

/// The longest window and the longest time to live: 366 days.
pub const WINDOW_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// The latest end that a session used now can have, from now: its time to live, and the rounding up by a sixteenth of that.
pub(crate) const SESSION_END_MAX: Duration =
    Duration::from_secs(WINDOW_MAX.as_secs() + WINDOW_MAX.as_secs() / 16);

/// A window as decisions use it: what can be computed from the configured one is.
#[derive(Debug)]
pub(super) enum Kind {
    Fixed(FixedWindow),
    Session(Lifetime),
}

impl Kind {
    pub(super) fn of(window: Window) -> Kind {
        match window {
            Window::Fixed(length) => Kind::Fixed(FixedWindow::new(length)),
            Window::Session { ttl } => Kind::Session(Lifetime::new(ttl)),
        }
    }

    /// The window that a request made now counts in.
    #[inline(always)]
    pub(super) fn current(&self, now: Timestamp) -> CurrentWindow {
        match self {
            Kind::Fixed(window) => {
                let index = window.index(now);
                CurrentWindow { index: Some(index), end: index.end() }
            }
            Kind::Session(lifetime) => CurrentWindow { index: None, end: lifetime.end(now) },
        }
    }
}

/// What a key and a demand say of the window that is current; computed once for both.
#[derive(Debug, Clone, Copy)]
pub(super) struct CurrentWindow {
    /// Which window it is. A counter that has one expires at its end, however it is used.
    pub index: Option<WindowIndex>,
    /// When a counter that is used now expires, unless it is used again.
    pub end: Timestamp,
}
