//! When the machine rests. After some rounds in a row with nothing to send, it does only the rounds that fall together with
//! a digest, until something happens.

/// After this many idle rounds in a row the machine rests.
const REST_AFTER: u32 = 20;

#[derive(Debug, Default)]
pub(super) struct Rest {
    /// How many rounds in a row had nothing to send, at most [`REST_AFTER`].
    idle_rounds: u32,
}

impl Rest {
    /// A round is done; `idle` says that it had nothing to send.
    pub(super) fn after_round(&mut self, idle: bool) {
        self.idle_rounds = if idle { (self.idle_rounds + 1).min(REST_AFTER) } else { 0 };
    }

    pub(super) fn is_resting(&self) -> bool {
        self.idle_rounds >= REST_AFTER
    }

    /// Whether the next round may put the machine to rest, or one has.
    pub(super) fn is_near(&self) -> bool {
        self.idle_rounds + 1 >= REST_AFTER
    }

    /// Something happened. Returns whether the next round may stand too far off for it.
    pub(super) fn end(&mut self) -> bool {
        let was_near = self.is_near();
        self.idle_rounds = 0;
        was_near
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_idle_rounds_in_a_row_and_any_event_ends_it() {
        let mut rest = Rest::default();
        for _ in 0..REST_AFTER - 1 {
            assert!(!rest.is_near() && !rest.is_resting());
            rest.after_round(true);
        }
        assert!(rest.is_near() && !rest.is_resting());
        rest.after_round(true);
        rest.after_round(true);
        assert!(rest.is_near() && rest.is_resting());
        assert!(rest.end() && !rest.is_near() && !rest.end());
        rest.after_round(true);
        rest.after_round(false);
        assert_eq!(rest.idle_rounds, 0);
    }
}
