//! The log on standard error. Who logs never waits for it, and what cannot be written is counted and lost: a full disk, a closed pipe,
//! or a reader that takes nothing in must not hold up a node.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::Directive;

use crate::command::complain;

/// So many lines may wait to be written.
const LINES_MAX: usize = 1_024;

/// How long the program waits at its end for lines to be written.
const LAST_LINES: Duration = Duration::from_millis(500);

static LINES: Lines = Lines::new();

/// Logs what the variable `RUST_LOG` asks for, or `default`.
pub fn to_standard_error(default: &str) {
    let asked = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|asked| !asked.trim().is_empty());
    tracing_subscriber::fmt()
        .with_env_filter(filter(asked.as_deref().unwrap_or(default)))
        .with_ansi(io::stderr().is_terminal() && has_colours(|name| std::env::var(name).ok()))
        .with_writer(|| &LINES)
        // Else it prints each line that it cannot write, which panics for the same reason, in a node's thread.
        .log_internal_errors(false)
        .init();
    let writing = || LINES.write_to(&mut io::stderr());
    if let Err(error) = std::thread::Builder::new().name("log".to_owned()).spawn(writing) {
        complain(&format_args!("nothing is logged, since no thread can be started: {error}"));
    }
}

/// How many lines could not be written.
pub fn lines_lost() -> u64 {
    LINES.lost.load(Ordering::Relaxed)
}

/// Waits until all is written that was logged, for a bounded time.
pub fn flush() {
    LINES.flush(LAST_LINES);
}

/// The lines that wait to be written.
struct Lines {
    queue: Mutex<Queue>,
    changed: Condvar,
    lost: AtomicU64,
}

struct Queue {
    lines: VecDeque<Vec<u8>>,
    is_writing: bool,
}

impl Lines {
    const fn new() -> Lines {
        let queue = Mutex::new(Queue { lines: VecDeque::new(), is_writing: false });
        Lines { queue, changed: Condvar::new(), lost: AtomicU64::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, line: &[u8]) {
        let mut queue = self.lock();
        if queue.lines.len() < LINES_MAX {
            queue.lines.push_back(line.to_owned());
        } else {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        drop(queue);
        self.changed.notify_all();
    }

    fn write_to(&self, out: &mut impl Write) -> ! {
        loop {
            let waited = self.changed.wait_while(self.lock(), |queue| queue.lines.is_empty());
            let mut queue = waited.unwrap_or_else(PoisonError::into_inner);
            let line = queue.lines.pop_front();
            queue.is_writing = true;
            drop(queue);
            if line.is_some_and(|line| out.write_all(&line).is_err()) {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
            self.lock().is_writing = false;
            self.changed.notify_all();
        }
    }

    fn flush(&self, at_most: Duration) {
        let is_busy = |queue: &mut Queue| queue.is_writing || !queue.lines.is_empty();
        // Whether it is all written or not, the program ends now.
        let _ = self.changed.wait_timeout_while(self.lock(), at_most, is_busy);
    }
}

impl Write for &Lines {
    /// Takes in a whole line: that is how they are logged.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.add(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What can be read of a filter; the rest is complained of.
fn filter(asked: &str) -> EnvFilter {
    let mut filter = EnvFilter::default();
    for part in asked.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match part.parse::<Directive>() {
            Ok(directive) => filter = filter.add_directive(directive),
            Err(error) => {
                complain(&format_args!("{}: {part:?} is left out: {error}", EnvFilter::DEFAULT_ENV))
            }
        }
    }
    filter
}

/// Whether a terminal in this environment is to be given colours.
fn has_colours(variable: impl Fn(&str) -> Option<String>) -> bool {
    let is_set = |name| variable(name).is_some_and(|value| !value.is_empty());
    !is_set("NO_COLOR") && variable("TERM").is_none_or(|terminal| terminal != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_has_colours_unless_its_user_wants_none() {
        for (variables, expected) in [
            (&[][..], true),
            (&[("TERM", "xterm"), ("NO_COLOR", "")], true),
            (&[("TERM", "dumb")], false),
            (&[("NO_COLOR", "1")], false),
        ] {
            let value = |name: &str| {
                let set = variables.iter().find(|(set, _)| *set == name);
                set.map(|(_, value)| (*value).to_owned())
            };
            assert_eq!(has_colours(value), expected, "{variables:?}");
        }
    }

    #[test]
    fn lines_that_nobody_takes_in_are_bounded_and_counted_and_nobody_waits() {
        let lines = Lines::new();
        for _ in 0..LINES_MAX + 7 {
            (&lines).write_all(b"line\n").unwrap();
        }
        assert_eq!(lines.lock().lines.len(), LINES_MAX);
        assert_eq!(lines.lost.load(Ordering::Relaxed), 7);
    }

    #[test]
    fn what_can_be_read_of_a_filter_applies() {
        assert_eq!(filter("warn, tallymesh=info,").to_string(), "tallymesh=info,warn");
        assert_eq!(filter("tallymesh=loud,warn").to_string(), "warn");
    }
}
