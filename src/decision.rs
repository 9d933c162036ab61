//! The answer to a request, and how an admission becomes one.

use smallvec::SmallVec;
use tallymesh_core::limit::{DemandError, DenialReason, MissingLabel};
use tallymesh_core::table::Admission;
use tallymesh_core::time::Moment;

use crate::config::Unmatched;
use crate::denial::Denial;
use crate::engine::Engine;
use crate::receipt::{Receipt, Taken};

/// The answer to a request.
///
/// There will be no third variant: a request goes ahead or it does not, so that a `match` of two arms stays complete. What
/// answers learn to say in later versions is said by [`Receipt`] and [`Denial`].
#[derive(Debug)]
#[must_use = "a decision that is not looked at limits nothing"]
pub enum Decision {
    /// The request may go ahead; every limit that matched is charged.
    Allowed(Receipt),
    /// It may not; nothing is charged.
    Denied(Denial),
}

impl Decision {
    /// Whether the request may go ahead.
    #[inline]
    pub fn is_allowed(&self) -> bool {
        matches!(self, Decision::Allowed(_))
    }

    /// The receipt of an allowed request, or the denial as an error, for `?`.
    ///
    /// ```
    /// use tallymesh::{Denial, Limiter, Request};
    ///
    /// fn book(limiter: &Limiter, user: &str) -> Result<(), Denial> {
    ///     limiter.acquire(&Request::new().with("user", user)).into_result()?;
    ///     // It is counted: go ahead.
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// When the request was denied.
    #[inline]
    pub fn into_result(self) -> Result<Receipt, Denial> {
        match self {
            Decision::Allowed(receipt) => Ok(receipt),
            Decision::Denied(denial) => Err(denial),
        }
    }

    /// The receipt of an allowed request.
    #[inline]
    pub fn into_allowed(self) -> Option<Receipt> {
        self.into_result().ok()
    }

    /// The denial of a denied request.
    #[inline]
    pub fn into_denied(self) -> Option<Denial> {
        self.into_result().err()
    }
}

/// What the answer to a request would be. Nothing is charged, so there is no receipt.
#[derive(Debug, Clone)]
#[must_use = "a look charges nothing: without its answer it does nothing"]
pub enum Peek {
    /// The request would be admitted.
    #[non_exhaustive]
    Allowed {
        /// What would be left, after the request, under the limit that is nearest to its end, as far as this instance knows;
        /// `None` if no limit matches.
        remaining: Option<u64>,
    },
    /// It would be denied.
    Denied(Denial),
}

impl Peek {
    /// Whether the request would be admitted.
    #[inline]
    pub fn is_allowed(&self) -> bool {
        matches!(self, Peek::Allowed { .. })
    }
}

impl From<Decision> for Peek {
    /// The answer without its receipt.
    fn from(decision: Decision) -> Peek {
        match decision {
            Decision::Allowed(receipt) => Peek::Allowed { remaining: receipt.remaining() },
            Decision::Denied(denial) => Peek::Denied(denial),
        }
    }
}

impl Engine {
    /// Wakes the threads that an admission of this moment needs, and turns it into a [`Decision`].
    #[inline(always)]
    pub(crate) fn decision(&self, moment: Moment, admission: Admission, cost: u64) -> Decision {
        match admission {
            Admission::Allowed { debits, remaining, urgent } => {
                if urgent {
                    self.urgent();
                }
                if !debits.is_empty() {
                    self.changed();
                }
                let (life, taken) = (self.life(), Taken::Counters(debits));
                Decision::Allowed(Receipt { life, taken, cost, remaining })
            }
            Admission::Denied { limit_index, reason, remaining, retry_after } => {
                self.touched();
                let limit = self.limit_record(limit_index);
                let retry_after = retry_after.map(|later| moment.wait(later));
                Decision::Denied(Denial { reason, label_index: 0, limit, remaining, retry_after })
            }
        }
    }

    /// The answer to a request that no limit applies to.
    #[cold]
    pub(crate) fn unmatched(&self, cost: u64) -> Decision {
        match self.unmatched {
            Unmatched::Allow if !self.is_closed() => {
                let (life, taken) = (self.life(), Taken::Counters(SmallVec::new()));
                Decision::Allowed(Receipt { life, taken, cost, remaining: u64::MAX })
            }
            _ => Decision::Denied(self.refusal(None, DenialReason::Unmatched)),
        }
    }

    /// The denial of a request that is not even counted. A limiter that is closed says so before anything else.
    #[cold]
    pub(crate) fn refusal(&self, limit_index: Option<usize>, reason: DenialReason) -> Denial {
        let (limit_index, reason) = match self.is_closed() {
            true => (None, DenialReason::Closed),
            false => (limit_index, reason),
        };
        let limit = limit_index.and_then(|limit_index| self.limit_record(limit_index));
        Denial { reason, label_index: 0, limit, remaining: 0, retry_after: None }
    }

    /// A denial that was made before, unless the limiter is closed by now: it says that before anything else.
    #[cold]
    pub(crate) fn closed_or(&self, denial: &Denial) -> Denial {
        match self.is_closed() {
            true => self.refusal(None, DenialReason::Closed),
            false => denial.clone(),
        }
    }

    /// The denial of a request that a limit matches and cannot count.
    #[cold]
    pub(crate) fn uncountable(&self, error: DemandError) -> Denial {
        match error {
            DemandError::MissingLabel(MissingLabel { limit_index, label_index }) => {
                let denial = self.refusal(Some(limit_index), DenialReason::MissingLabel);
                Denial { label_index: u8::try_from(label_index).unwrap_or(u8::MAX), ..denial }
            }
            DemandError::KeyTooLong { limit_index } => {
                self.refusal(Some(limit_index), DenialReason::KeyTooLong)
            }
        }
    }
}
