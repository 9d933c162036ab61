//! What is remembered of a run: a hash of all of it, and its last events in words.

use std::collections::VecDeque;
use std::time::Duration;

use tallymesh_core::key::CounterKey;
use tallymesh_core::time::Timestamp;

use super::Event;

const LAST_EVENTS: usize = 40;

/// What is remembered of a run.
pub(super) struct Record {
    hasher: crc32fast::Hasher,
    events: u64,
    prints: bool,
    now: Duration,
    event: String,
    /// The counter whose changes alone are kept.
    focus: Option<CounterKey>,
    focused: Vec<String>,
    last: VecDeque<String>,
}

impl Record {
    /// `prints` every event as it happens.
    pub fn new(prints: bool, focus: Option<CounterKey>) -> Record {
        Record {
            hasher: crc32fast::Hasher::new(),
            events: 0,
            prints,
            now: Duration::ZERO,
            event: String::new(),
            focus,
            focused: Vec::new(),
            last: VecDeque::new(),
        }
    }

    pub fn happens(&mut self, now: Duration, event: &Event, node: Option<usize>) {
        self.events += 1;
        let (kind, number) = summary(event);
        let node = node.map_or(u64::MAX, |node| node as u64);
        self.hasher.update(&(now.as_nanos() as u64).to_le_bytes());
        self.hasher.update(kind.as_bytes());
        self.hasher.update(&[node.to_le_bytes(), number.to_le_bytes()].concat());
        if let Event::Deliver { frame, .. } | Event::DeliverLate { frame, .. } = event {
            self.hasher.update(frame);
        }
        let is_kept = self.prints || self.focus.is_some();
        if !is_kept && matches!(event, Event::Timer { .. } | Event::Deliver { .. }) {
            // The most frequent ones are worth no words unless all of them are read.
            return;
        }
        let at = now.as_secs_f64() * 1_000.0;
        let node = if node == u64::MAX { String::new() } else { format!(" at node {node}") };
        self.event = format!("{at:>12.3} ms  {kind}{node} {number}");
        if self.prints {
            crate::out!("{}", self.event);
        }
        if self.focus.is_none() {
            self.keep(self.event.clone());
        }
        self.now = now;
    }

    /// Hashes the answer to a call, and keeps it in words.
    pub fn decides(&mut self, place: usize, allowed: bool, keys: &[CounterKey]) {
        self.hasher.update(&[place as u8, u8::from(allowed)]);
        keys.iter().for_each(|key| self.hasher.update(key.as_bytes()));
        let is_wanted = match &self.focus {
            Some(focus) => keys.contains(focus),
            None => self.prints,
        };
        if is_wanted {
            let at = self.now.as_secs_f64() * 1_000.0;
            let answer = if allowed { "admits" } else { "denies" };
            let line = format!("{at:>12.3} ms  node {place} {answer} {keys:?}");
            if self.prints {
                crate::out!("{line}");
            }
            self.keep(line);
        }
    }

    pub fn focus(&self) -> Option<&CounterKey> {
        self.focus.as_ref()
    }

    /// Keeps the present event if it changed the counter in focus at this node.
    pub fn focused(&mut self, place: usize, wall: Timestamp, state: &str) {
        if self.focused.len() <= place {
            self.focused.resize(place + 1, String::new());
        }
        if self.focused[place] != state {
            self.focused[place] = state.to_owned();
            self.keep(format!("{} by its clock {wall}: {state}", self.event));
        }
    }

    fn keep(&mut self, line: String) {
        if self.last.len() == LAST_EVENTS {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    pub fn hash(&self) -> u32 {
        self.hasher.clone().finalize()
    }

    pub fn events(&self) -> u64 {
        self.events
    }

    pub fn into_last_events(self) -> Vec<String> {
        self.last.into()
    }
}

/// An event's name, and the number that tells most of it.
fn summary(event: &Event) -> (&'static str, u64) {
    match event {
        Event::Timer { .. } => ("timer", 0),
        Event::Checkpoint { life, .. } => ("checkpoint of life", *life),
        Event::Deliver { frame, .. } => ("frame of bytes", frame.len() as u64),
        Event::DeliverLate { frame, .. } => ("late frame of bytes", frame.len() as u64),
        Event::LinkUp { link, .. } => ("link up", link.0),
        Event::LinkDown { link } => ("link down", link.0),
        Event::DialFailed { life, .. } => ("dial failed in life", *life),
        Event::Call => ("call", 0),
        Event::Burst { session } => ("burst in session", *session),
        Event::Lone { early, .. } => ("lone client", u64::from(*early)),
        Event::Refund { life, .. } => ("refund in life", *life),
        Event::Fault => ("fault", 0),
        Event::Flap { to, .. } => ("flap towards", *to as u64),
        Event::Kill { .. } => ("kill", 0),
        Event::LastCheckpoint { life, .. } => ("last checkpoint of life", *life),
        Event::Closed { life, .. } => ("closed in life", *life),
        Event::Start { .. } => ("start", 0),
        Event::MendDisk { .. } => ("disk mended", 0),
        Event::Clone { .. } => ("clone", 0),
        Event::CutHalves => ("halves cut", 0),
        Event::Step(_) => ("a step of the scene", 0),
        Event::News => ("news", 0),
        Event::Phase(phase) => ("phase", *phase as u64),
    }
}
