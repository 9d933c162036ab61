//! Says in the log when time stands still here, and when it goes on.

use std::time::Duration;

use tallymesh_core::time::format_duration;

use crate::clock::STANDS_STILL_FROM;

/// Whether time stands still, as the log has it.
#[derive(Debug, Default)]
pub(super) struct ClockWatch {
    stands_still: bool,
}

impl ClockWatch {
    /// Takes note of how far the system's clock is behind the time that is acted on.
    pub(super) fn look(&mut self, behind: Duration) {
        if !self.stands_still && behind >= STANDS_STILL_FROM {
            self.stands_still = true;
            tracing::warn!(
                behind = %format_duration(behind),
                "the system clock is behind the latest time that was acted on; until it has caught up, time stands still here: \
                 windows do not roll over, and waits are longer by so much. If the later time was wrong, stop the node, set the \
                 clock right, and lower what was remembered with `tallymesh clock DIR --lower`"
            );
        } else if self.stands_still && behind.is_zero() {
            self.stands_still = false;
            tracing::warn!(
                "the system clock has caught up with the latest time that was acted on: time goes on here"
            );
        }
    }
}
