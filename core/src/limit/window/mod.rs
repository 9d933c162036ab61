//! Over what time a limit counts: one file for each kind of window.
//!
//! From the time of a request, a kind computes what the key of the charged counter begins with, and that counter's [`Life`].
//! A new kind is one more file and one more variant.

mod fixed;
mod session;
mod text;

use alloc::vec::Vec;
use core::time::Duration;

use fixed::FixedWindow;
pub use session::Lifetime;
pub use text::InvalidWindow;

use crate::key::{CounterKind, Ends, WindowSpan, end_after_use, write_head};
use crate::time::Timestamp;

/// Over what time a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Window {
    /// Fixed windows of this length, aligned to UTC: at least 1 ms, at most 366 days.
    Fixed(Duration),
    /// For as long as the counter is used: it ends when no request, allowed or denied, has touched it for `ttl`.
    ///
    /// The end is up to a sixteenth of the ttl later, so that the calls of a busy session need not each be sent to every
    /// peer. Where nodes have different ttls, the lesser counts on each.
    Session {
        /// Time to live after the last use: at least 1 ms, at most 366 days.
        ttl: Duration,
    },
}

/// How long a session lives after its last use where nothing else is said: 1 hour.
pub(super) const SESSION_TTL: Duration = Duration::from_secs(3600);

/// The longest window and the longest time to live: 366 days.
pub const WINDOW_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// How long what is charged now lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// To the end of this window, for certain.
    Window(WindowSpan),
    /// For a while after its last use.
    Use {
        /// When it is used, rounded down to a sixteenth of the time to live.
        at: u64,
        /// The time to live.
        ttl_ms: u64,
    },
}

impl Life {
    /// When a counter ends that is used now, unless it is used again.
    #[inline(always)]
    pub fn end(self) -> Timestamp {
        match self {
            Life::Window(window) => window.end(),
            Life::Use { at, ttl_ms } => end_after_use(at, ttl_ms),
        }
    }
}

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

    /// Appends the window's part of a counter's key.
    #[inline]
    pub(super) fn write(&self, key: &mut Vec<u8>, now: Timestamp) {
        match self {
            Kind::Fixed(window) => {
                write_head(key, CounterKind::FixedWindow, Ends::WithWindow(window.span(now)));
            }
            Kind::Session(_) => write_head(key, CounterKind::Session, Ends::AfterUse),
        }
    }

    /// How long a counter lives that is charged now.
    #[inline]
    pub(super) fn life(&self, now: Timestamp) -> Life {
        match self {
            Kind::Fixed(window) => Life::Window(window.span(now)),
            Kind::Session(lifetime) => lifetime.used(now),
        }
    }
}
