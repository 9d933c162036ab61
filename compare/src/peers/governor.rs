//! governor's keyed limiter: in one process, in memory.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::{Answer, Decide};
use crate::keys::TOOL;

/// With its default store and clock. A key is session and tool in one string.
pub struct Governor {
    limiter: DefaultKeyedRateLimiter<String>,
    keys: Vec<String>,
}

impl Governor {
    /// Keyed by these strings.
    pub fn new(keys: Vec<String>, answer: Answer) -> Governor {
        let quota = match answer {
            Answer::Allowed => Quota::per_second(NonZeroU32::MAX),
            Answer::Denied => {
                Quota::with_period(Duration::from_secs(3600)).expect("an hour is not zero")
            }
        };
        Governor { limiter: RateLimiter::keyed(quota), keys }
    }
}

/// As [`Governor`], for a server that has session and tool apart, as tallymesh is given them: it makes one string of both for
/// each decision.
pub struct GovernorKeyMade {
    governor: Governor,
    sessions: Vec<String>,
}

impl GovernorKeyMade {
    /// Keyed by these sessions and the one tool.
    pub fn new(sessions: &[String], answer: Answer) -> GovernorKeyMade {
        GovernorKeyMade { governor: Governor::new(Vec::new(), answer), sessions: sessions.to_vec() }
    }
}

impl Decide for GovernorKeyMade {
    fn decide(&self, _caller: usize, key: usize) -> bool {
        let key = format!("{}/{TOOL}", self.sessions[key]);
        self.governor.limiter.check_key(&key).is_ok()
    }
}

impl Decide for Governor {
    fn decide(&self, _caller: usize, key: usize) -> bool {
        self.limiter.check_key(&self.keys[key]).is_ok()
    }
}
