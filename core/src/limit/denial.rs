//! Why a request was denied: a value, not an error.

use core::fmt;
use core::time::Duration;

use super::Limit;

/// A denied request: which limit denied it, what is left under it, and when to try again.
///
/// It borrows from the limiter; to outlive that, keep its numbers, its [`DenialReason`], or a string made of it.
#[derive(Debug, Clone)]
pub struct Denial<'a> {
    /// Why.
    pub reason: DenialReason,
    /// The limit that denied; `None` when the request was refused before any limit was looked at.
    pub limit: Option<&'a Limit>,
    /// What is left under that limit.
    pub remaining: u64,
    /// How long to wait before the request can be admitted; `None` where waiting does not help.
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
    /// A new counter was needed, and there are `max_counters` already.
    TooManyCounters,
    /// The limit's name and label values are longer than `max_key_bytes`.
    KeyTooLong,
    /// The request carries more labels than `max_labels`.
    TooManyLabels,
}

impl<'a> Denial<'a> {
    /// Why.
    #[inline]
    pub fn reason(&self) -> DenialReason {
        self.reason
    }

    /// The name of the limit that denied; of several, the one with the longest wait. Empty when the request was refused
    /// before any limit was looked at ([`DenialReason::TooManyLabels`]).
    #[inline]
    pub fn limit_name(&self) -> &'a str {
        self.limit.map_or("", Limit::name)
    }

    /// What is left under that limit: less than the request's cost.
    #[inline]
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// How long until the counter that denied expires: the window's end, or the session's if it stays unused for so long.
    /// `None` where waiting does not help.
    #[inline]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Display for Denial<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let max = self.limit.map_or(0, Limit::max);
        let name = self.limit_name();
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
