//! Why a request was denied: a value, not an error.

use std::fmt;
use std::time::Duration;

use super::Limit;

/// A denied request: which limit said no, what is left under it, and when to try again.
///
/// It borrows from the limiter; what is to outlive that is a number, a [`DenialReason`] or a string made of it.
#[derive(Debug, Clone)]
pub struct Denial<'a> {
    pub reason: DenialReason,
    pub limit: Option<&'a Limit>,
    pub remaining: u64,
    pub retry_after: Option<Duration>,
}

/// Why a request was denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DenialReason {
    /// The limit has no room left for this cost.
    LimitReached,
    /// The cost is over the limit's `max`: it can never be admitted.
    CostOverMax,
    /// A new counter was needed and `max_counters` are held already.
    TooManyCounters,
    /// The limit's name and label values are longer than `max_key_bytes`.
    KeyTooLong,
    /// The request carries more labels than `max_labels`.
    TooManyLabels,
}

impl<'a> Denial<'a> {
    /// Why.
    pub fn reason(&self) -> DenialReason {
        self.reason
    }

    /// The name of the limit that denied; of several, the one with the longest wait. Empty when the request was refused
    /// before any limit was looked at ([`DenialReason::TooManyLabels`]).
    pub fn limit(&self) -> &'a str {
        self.limit.map_or("", Limit::name)
    }

    /// What is left under that limit: less than the request's cost.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// How long until the counter that denied ends: the window's end, or the end of the session if it stays unused for so
    /// long. `None` where waiting does not help.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Display for Denial<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let max = self.limit.map_or(0, Limit::max);
        let name = self.limit();
        match self.reason {
            DenialReason::LimitReached => {
                write!(f, "limit {name:?} of {max} reached ({} left)", self.remaining)?
            }
            DenialReason::CostOverMax => write!(f, "cost is over limit {name:?} of {max}")?,
            DenialReason::TooManyCounters => {
                write!(f, "limit {name:?} needs a new counter and max_counters are in use")?
            }
            DenialReason::KeyTooLong => {
                write!(f, "label values for limit {name:?} are longer than max_key_bytes")?
            }
            DenialReason::TooManyLabels => write!(f, "more labels than max_labels")?,
        }
        match self.retry_after {
            Some(wait) => write!(f, "; retry in {}", humantime::format_duration(wait)),
            None => Ok(()),
        }
    }
}
