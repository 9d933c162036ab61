//! Which instance a call goes to.

use std::collections::HashMap;

use clap::ValueEnum;

/// How calls are spread over the instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Route {
    /// Each call goes to the next instance
    RoundRobin,
    /// All calls of a session go to one instance, as behind a load balancer with sticky sessions
    Session,
}

impl Route {
    /// The name of the option.
    pub fn name(self) -> &'static str {
        match self {
            Route::RoundRobin => "round-robin",
            Route::Session => "session",
        }
    }
}

/// Sends calls to instances.
#[derive(Debug)]
pub(super) struct Router<'a> {
    route: Route,
    instances: usize,
    next: usize,
    sessions: HashMap<&'a str, usize>,
}

impl<'a> Router<'a> {
    /// A router to so many instances.
    pub fn new(route: Route, instances: usize) -> Router<'a> {
        Router { route, instances, next: 0, sessions: HashMap::new() }
    }

    /// The index of the instance for a call. Sessions are dealt out in turn, in the order of their first calls; a call without
    /// one goes to the next instance.
    pub fn index(&mut self, session: Option<&'a str>) -> usize {
        let next = self.next;
        let index = match session.filter(|_| self.route == Route::Session) {
            None => next,
            Some(session) => *self.sessions.entry(session).or_insert(next),
        };
        if index == next {
            self.next = (next + 1) % self.instances.max(1);
        }
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routed(route: Route, sessions: &[&'static str]) -> Vec<usize> {
        let mut router = Router::new(route, 3);
        sessions.iter().map(|name| router.index((!name.is_empty()).then_some(*name))).collect()
    }

    #[test]
    fn calls_go_round_or_stay_with_their_session() {
        let sessions = ["a", "a", "b", "a", "c", "d", "", "b"];
        assert_eq!(routed(Route::RoundRobin, &sessions), [0, 1, 2, 0, 1, 2, 0, 1]);
        assert_eq!(routed(Route::Session, &sessions), [0, 0, 1, 0, 2, 0, 1, 1]);
    }
}
