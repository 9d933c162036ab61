//! What kinds of counters there are.

use super::Ends;

/// What kind of counter a key names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum CounterKind {
    /// A counter that belongs to no limit. It ends when it was not changed for its time to live.
    Plain,
    /// A session's: it ends when it was not used for its time to live.
    Session,
    /// One fixed window's: it ends with the window.
    FixedWindow,
    /// A kind that this version does not know, by its number. It is kept and told on, and nothing here counts in it.
    Other(u8),
}

impl CounterKind {
    pub(crate) const fn of(number: u8) -> CounterKind {
        match number {
            0 => CounterKind::Plain,
            1 => CounterKind::Session,
            2 => CounterKind::FixedWindow,
            other => CounterKind::Other(other),
        }
    }

    pub(super) const fn number(self) -> u8 {
        match self {
            CounterKind::Plain => 0,
            CounterKind::Session => 1,
            CounterKind::FixedWindow => 2,
            CounterKind::Other(number) => number,
        }
    }

    /// The rule by which counters of the kind end; `None` if the kind is not known.
    pub(super) const fn rule(self) -> Option<u8> {
        match self {
            CounterKind::Plain | CounterKind::Session => Some(Ends::AFTER_USE),
            CounterKind::FixedWindow => Some(Ends::WITH_WINDOW),
            CounterKind::Other(_) => None,
        }
    }
}

/// The kind has the lower bits of a key's first byte, the rule the others.
pub(super) const KIND_BITS: u32 = 5;
pub(super) const KIND_MASK: u8 = (1 << KIND_BITS) - 1;
