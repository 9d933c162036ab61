//! The answer to a request, and how an admission becomes one.

use smallvec::SmallVec;
use tallymesh_core::limit::{Denial, DenialReason};
use tallymesh_core::table::{Admission, Debit};

use crate::engine::Engine;

/// The answer to a request.
#[derive(Debug)]
#[must_use = "a decision that is not looked at limits nothing"]
pub enum Decision<'a> {
    /// The request may go ahead; every limit that matched is charged.
    Allowed(Receipt<'a>),
    /// It may not; nothing is charged.
    Denied(Denial<'a>),
}

impl<'a> Decision<'a> {
    /// Whether the request may go ahead.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Decision::Allowed(_))
    }

    /// The receipt of an allowed request.
    pub fn allowed(self) -> Option<Receipt<'a>> {
        match self {
            Decision::Allowed(receipt) => Some(receipt),
            Decision::Denied(_) => None,
        }
    }

    /// The denial of a denied request.
    pub fn denied(self) -> Option<Denial<'a>> {
        match self {
            Decision::Allowed(_) => None,
            Decision::Denied(denial) => Some(denial),
        }
    }
}

/// What an admitted request was charged. Dropping it leaves the charge as it is.
#[derive(Debug)]
pub struct Receipt<'a> {
    engine: &'a Engine,
    debits: SmallVec<[Debit; 2]>,
    cost: u64,
    remaining: u64,
}

impl Receipt<'_> {
    /// What is left under the limit that is nearest to its end, as far as this instance knows; `u64::MAX` if none matched.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Takes the charge back, because the call did not count after all. A counter that has expired or was reset since is left
    /// as it is.
    pub fn refund(self) {
        self.engine.table().refund(&self.debits, self.cost);
        self.engine.changed();
    }
}

impl Engine {
    /// Wakes the threads that an admission needs, and turns it into a [`Decision`].
    #[inline(always)]
    pub(crate) fn decision(&self, admission: Admission, cost: u64) -> Decision<'_> {
        match admission {
            Admission::Allowed { debits, remaining, urgent } => {
                if urgent {
                    self.urgent();
                }
                if !debits.is_empty() {
                    self.changed();
                }
                Decision::Allowed(Receipt { engine: self, debits, cost, remaining })
            }
            Admission::Denied { limit_index, reason, remaining, retry_after } => {
                self.touched();
                let limit = self.policy().limits().get(limit_index);
                Decision::Denied(Denial { reason, limit, remaining, retry_after })
            }
        }
    }

    /// The answer to a request that is not even counted.
    #[cold]
    pub(crate) fn refusal(&self, limit_index: Option<usize>, reason: DenialReason) -> Decision<'_> {
        let limit = limit_index.and_then(|limit_index| self.policy().limits().get(limit_index));
        Decision::Denied(Denial { reason, limit, remaining: 0, retry_after: None })
    }
}
