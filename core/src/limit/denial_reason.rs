//! Why a request was denied: a value, not an error. As text it is in snake case, such as `limit_reached`.

use alloc::string::{String, ToString};
use core::fmt;
use core::str::FromStr;

/// Why a request was denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DenialReason {
    /// The limit has no room left for this cost.
    LimitReached,
    /// The cost is over the limit's `max`: it can never be admitted.
    CostOverMax,
    /// A new counter was needed, and there are `max_counters` already. Waiting does not help.
    TooManyCounters,
    /// The limit's name and label values are longer than `max_key_bytes`.
    KeyTooLong,
    /// The request carries more labels than `max_labels`.
    TooManyLabels,
    /// The request carries a label named `""` or `"cost"`, which no limit can count by: what it costs is set by
    /// [`Request::cost`](super::Request::cost).
    ReservedLabel,
    /// The request lacks a label of the limit's `per`, so that there is no telling which counter to charge.
    MissingLabel,
    /// No limit applies to the request, and `counters.unmatched` is `deny`.
    Unmatched,
    /// This instance has counted 2^53 - 1 in the limit's counter, refunds apart, or would pass that: a cell counts no
    /// further. A new window, a new session or a reset begins a new one.
    CounterExhausted,
    /// Some member of the cluster is silent, and this node's side has admitted its share of what was left, or, where the limit says
    /// `when_cut_off = "deny"`, is no more than half of the members. Without the cut there would be room.
    CutOff,
    /// The limiter is closed: nothing that it counted would be written or sent.
    Closed,
}

const REASONS: &[(DenialReason, &str)] = &[
    (DenialReason::LimitReached, "limit_reached"),
    (DenialReason::CostOverMax, "cost_over_max"),
    (DenialReason::TooManyCounters, "too_many_counters"),
    (DenialReason::KeyTooLong, "key_too_long"),
    (DenialReason::TooManyLabels, "too_many_labels"),
    (DenialReason::ReservedLabel, "reserved_label"),
    (DenialReason::MissingLabel, "missing_label"),
    (DenialReason::Unmatched, "unmatched"),
    (DenialReason::CounterExhausted, "counter_exhausted"),
    (DenialReason::CutOff, "cut_off"),
    (DenialReason::Closed, "closed"),
];

impl fmt::Display for DenialReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DenialReason::LimitReached => "limit_reached",
            DenialReason::CostOverMax => "cost_over_max",
            DenialReason::TooManyCounters => "too_many_counters",
            DenialReason::KeyTooLong => "key_too_long",
            DenialReason::TooManyLabels => "too_many_labels",
            DenialReason::ReservedLabel => "reserved_label",
            DenialReason::MissingLabel => "missing_label",
            DenialReason::Unmatched => "unmatched",
            DenialReason::CounterExhausted => "counter_exhausted",
            DenialReason::CutOff => "cut_off",
            DenialReason::Closed => "closed",
        })
    }
}

/// A text that is no reason of denial.
///
/// ```
/// use tallymesh::{DenialReason, InvalidDenialReason};
///
/// // A log's column, read again:
/// let reason: DenialReason = "limit_reached".parse()?;
/// assert_eq!(reason, DenialReason::LimitReached);
/// let refused: InvalidDenialReason = "full".parse::<DenialReason>().unwrap_err();
/// assert!(refused.to_string().starts_with("\"full\" is no reason of denial: use limit_reached"));
/// # Ok::<(), InvalidDenialReason>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no reason of denial: use limit_reached, cost_over_max, too_many_counters, key_too_long, too_many_labels, \
     missing_label, unmatched, counter_exhausted, cut_off or closed"
)]
pub struct InvalidDenialReason(String);

impl FromStr for DenialReason {
    type Err = InvalidDenialReason;

    fn from_str(text: &str) -> Result<DenialReason, InvalidDenialReason> {
        let found = REASONS.iter().find(|(_, word)| *word == text);
        found.map(|(reason, _)| *reason).ok_or_else(|| InvalidDenialReason(text.to_string()))
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for DenialReason {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for DenialReason {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<DenialReason, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_read_as_it_is_written() {
        for (reason, word) in REASONS {
            assert_eq!((word.parse(), &*reason.to_string()), (Ok(*reason), *word));
        }
        assert!("full".parse::<DenialReason>().unwrap_err().to_string().contains("\"full\""));
    }
}
