//! What becomes of a thread of ours that a panic ended: it is started again, and an operator is told.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use tallymesh_core::time::format_duration;

use super::wakers::Worker;

/// How long to wait before a thread is started again; twice as long after each time, up to a bound.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// So long after a thread was started again, that is a reason in the health; one that stops later than that begins with the shortest
/// pause again.
const LATELY: Duration = Duration::from_secs(60);

/// What of a panic's message is shown.
const MESSAGE_CHARS_MAX: usize = 200;

/// Which threads stopped, and why.
#[derive(Debug, Default)]
pub(super) struct Restarts {
    gossip: Option<Stop>,
    disk: Option<Stop>,
    times: u64,
}

/// How a thread stopped last.
#[derive(Debug)]
struct Stop {
    why: String,
    at: Duration,
    pause: Duration,
    /// When it was started again.
    started_at: Option<Duration>,
}

impl Restarts {
    /// A thread stopped. Returns how long to wait before it is started again.
    pub(super) fn stopped(&mut self, worker: Worker, now: Duration, why: &str) -> Duration {
        let stop = match worker {
            Worker::Gossip => &mut self.gossip,
            Worker::Disk => &mut self.disk,
        };
        let is_lately = |stop: &&Stop| now.saturating_sub(stop.started_at.unwrap_or(now)) < LATELY;
        let pause = match stop.as_ref().filter(is_lately) {
            Some(last) => (last.pause * 2).min(PAUSE_MAX),
            None => PAUSE_FIRST,
        };
        *stop = Some(Stop { why: why.to_owned(), at: now, pause, started_at: None });
        self.times += 1;
        pause
    }

    /// A thread that had stopped runs again.
    pub(super) fn started(&mut self, worker: Worker, now: Duration) {
        let stop = match worker {
            Worker::Gossip => &mut self.gossip,
            Worker::Disk => &mut self.disk,
        };
        if let Some(stop) = stop.as_mut().filter(|stop| stop.started_at.is_none()) {
            stop.started_at = Some(now);
        }
    }

    /// How often a thread stopped.
    pub(super) fn times(&self) -> u64 {
        self.times
    }

    /// What the health says of threads that stopped lately.
    pub(super) fn reasons(&self, now: Duration) -> Vec<String> {
        let stops = [
            (&self.gossip, "gossip", "nothing is told to peers or heard from them meanwhile"),
            (
                &self.disk,
                "disk",
                "nothing is written meanwhile, and then all of it into a new database",
            ),
        ];
        let reasons = stops.into_iter().filter_map(|(stop, name, meanwhile)| {
            let Stop { why, at, pause, started_at } = stop.as_ref()?;
            match started_at {
                None => Some(format!(
                    "the {name} thread stopped ({why}), and is started again after {}: {meanwhile}",
                    format_duration(*pause)
                )),
                Some(started_at) if now.saturating_sub(*started_at) < LATELY => Some(format!(
                    "the {name} thread stopped {} ago ({why}), and was started again: please report it",
                    format_duration(Duration::from_secs(now.saturating_sub(*at).as_secs()))
                )),
                Some(_) => None,
            }
        });
        reasons.collect()
    }
}

/// Runs it; a panic in it is its error, with the panic's message.
///
/// # Errors
/// The message of a panic.
pub(super) fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    // What it may leave half done is thrown away, or written again as a whole; the table has no locks that stay poisoned.
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| message(&*panic))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let text: String = text.unwrap_or("no message").chars().take(MESSAGE_CHARS_MAX).collect();
    format!("a panic: {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pause_is_twice_as_long_up_to_a_bound_until_a_thread_has_run_for_a_while() {
        let (mut restarts, mut now) = (Restarts::default(), Duration::ZERO);
        let mut pauses = Vec::new();
        for runs_for in [1, 1, 1, 1, 1, 1, 60, 1] {
            let pause = restarts.stopped(Worker::Gossip, now, "a panic: x");
            pauses.push(pause.as_secs());
            now += pause;
            restarts.started(Worker::Gossip, now);
            now += Duration::from_secs(runs_for);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 1]);
        assert_eq!(restarts.times(), 8);
        assert_eq!(restarts.stopped(Worker::Disk, now, "a panic: y"), PAUSE_FIRST, "its own");
    }

    #[test]
    fn a_thread_that_stopped_is_a_reason_until_a_minute_after_it_was_started_again() {
        let (mut restarts, seconds) = (Restarts::default(), Duration::from_secs);
        assert!(restarts.reasons(seconds(0)).is_empty());
        restarts.stopped(Worker::Gossip, seconds(10), "a panic: x");
        let [reason] = &restarts.reasons(seconds(11))[..] else { panic!("one reason") };
        assert!(
            reason.starts_with(
                "the gossip thread stopped (a panic: x), and is started again after 1s"
            )
        );
        restarts.started(Worker::Gossip, seconds(11));
        let [reason] = &restarts.reasons(seconds(70))[..] else { panic!("one reason") };
        assert!(reason.starts_with("the gossip thread stopped 1m ago (a panic: x)"), "{reason}");
        assert!(restarts.reasons(seconds(71)).is_empty());
    }

    #[test]
    fn a_panic_is_an_error_with_its_message_shortened() {
        assert_eq!(caught(|| 7), Ok(7));
        assert_eq!(caught(|| panic!("plain")), Err::<(), _>("a panic: plain".to_owned()));
        let long = "x".repeat(10_000);
        let error = caught(|| panic!("{long}")).map(|(): ()| ()).unwrap_err();
        assert_eq!(error.len(), "a panic: ".len() + MESSAGE_CHARS_MAX);
        let error = caught(|| std::panic::panic_any(7)).map(|(): ()| ()).unwrap_err();
        assert_eq!(error, "a panic: no message");
    }
}
