//! Why a request was denied: a value, not an error.

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
