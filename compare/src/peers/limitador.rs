//! limitador with its storage in memory.

use std::collections::HashMap;

use limitador::RateLimiter;
use limitador::limit::{Context, Limit, Namespace, Predicate};

use super::{Answer, Decide};
use crate::keys::TOOL;

/// It is asked as its own server does: a context is made of each request.
pub struct Limitador {
    limits: Limits,
    requests: Vec<HashMap<String, String>>,
}

/// The contexts were made beforehand, one for each key, which takes 5 KB each.
pub struct LimitadorPrepared {
    limits: Limits,
    contexts: Vec<Context<'static>>,
}

struct Limits {
    limiter: RateLimiter,
    namespace: Namespace,
}

impl Limitador {
    /// One limit per session and tool.
    pub fn new(sessions: &[String], answer: Answer) -> Limitador {
        Limitador { limits: Limits::new(sessions.len(), answer), requests: requests(sessions) }
    }
}

impl Limitador {
    /// With a counter for each of these sessions, and without keeping the requests.
    pub fn filled(sessions: impl Iterator<Item = String>, count: usize) -> Limitador {
        let limits = Limits::new(count, Answer::Allowed);
        for session in sessions {
            assert!(limits.decide(&Context::from(request(&session))), "there is room");
        }
        Limitador { limits, requests: Vec::new() }
    }
}

impl LimitadorPrepared {
    /// One limit per session and tool.
    pub fn new(sessions: &[String], answer: Answer) -> LimitadorPrepared {
        let contexts = requests(sessions).into_iter().map(Context::from).collect();
        LimitadorPrepared { limits: Limits::new(sessions.len(), answer), contexts }
    }
}

impl Decide for Limitador {
    fn decide(&self, _caller: usize, key: usize) -> bool {
        self.limits.decide(&Context::from(self.requests[key].clone()))
    }
}

impl Decide for LimitadorPrepared {
    fn decide(&self, _caller: usize, key: usize) -> bool {
        self.limits.decide(&self.contexts[key])
    }
}

impl Limits {
    fn new(keys: usize, answer: Answer) -> Limits {
        // Twice the room, or its cache may put counters out.
        let limiter = RateLimiter::new(2 * keys as u64);
        let per = ["session", "tool"].map(|label| label.try_into().expect("it is an identifier"));
        let limit = Limit::new("calls", answer.max(), 3600, Vec::<Predicate>::new(), per);
        limiter.add_limit(limit);
        Limits { limiter, namespace: "calls".into() }
    }

    fn decide(&self, context: &Context<'_>) -> bool {
        let result = self.limiter.check_rate_limited_and_update(&self.namespace, context, 1);
        !result.expect("nothing can fail in memory").limited
    }
}

fn requests(sessions: &[String]) -> Vec<HashMap<String, String>> {
    sessions.iter().map(|session| request(session)).collect()
}

fn request(session: &str) -> HashMap<String, String> {
    let labels = [("session", session), ("tool", TOOL)];
    labels.map(|(label, value)| (label.to_owned(), value.to_owned())).into()
}
