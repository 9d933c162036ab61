//! Lone clients: at each node there is one that asks for what only it asks for, and waits exactly as it is told.
//!
//! What it was told is a promise, as long as nothing else happens to its counters, its node lives, and the clock is not set.

use std::time::Duration;

use tallymesh_core::crdt::Cell;
use tallymesh_core::gossip::Input;
use tallymesh_core::id::ReplicaId;
use tallymesh_core::key::CounterKey;
use tallymesh_core::limit::{Demands, DenialReason, Request};
use tallymesh_core::table::{Admission, Table};
use tallymesh_core::time::{Moment, Timestamp};

use super::node::Node;
use super::{Checked, Event, World};
use crate::checker::Violation;
use crate::options::Checks;

/// What a lone client was told, and of what that was true.
pub(super) struct Promise {
    life: u64,
    clock_sets: u32,
    wait: Duration,
    counters: Vec<Held>,
}

/// A counter as far as an answer depends on it.
#[derive(Clone, PartialEq)]
struct Held {
    key: CounterKey,
    generation: u32,
    expires_at: Timestamp,
    cells: Vec<(ReplicaId, u64, u64)>,
}

/// How soon it asks again after a yes, and where no wait is told.
const PAUSE_MS: u64 = 300;

impl World<'_> {
    pub(super) fn begin_lone_clients(&mut self) {
        let is_told_truly = self.options.checks == Checks::All && self.liar().is_none();
        if !self.options.limits.are_varied() || !is_told_truly {
            return;
        }
        for node in 0..self.options.nodes {
            let delay = self.draw_ms(1_000);
            self.after(delay, Event::Lone { node, early: false });
        }
    }

    /// A lone client asks: to be admitted, or shortly before the end that it was told, only to see that it has not come yet.
    pub(super) fn lone(&mut self, place: usize, early: bool) -> Checked {
        if self.is_over() || self.now >= self.calls_until {
            return Ok(());
        }
        let is_awake = self.nodes[place].paused_until <= self.now;
        if self.nodes[place].life.is_none() || !is_awake || self.is_calm(place) {
            return self.lone_later(place, early);
        }
        let client = format!("c{place}");
        let request = Request::new().with("client", &client);
        let mut moment = self.nodes[place].moment(self.now);
        let mut demands = Demands::default();
        // Proven: the keys are short.
        let policy = self.nodes[place].policy.clone();
        policy.find_demands(&request, moment.wall, 512, &mut demands).expect("short keys");
        let Some(life) = &self.nodes[place].life else { return Ok(()) };
        let (table, shown) = (life.table.clone(), life.shown);
        self.checker.shown(place, shown, moment.wall)?;
        let promise = self.nodes[place].promise.take();
        let promise =
            promise.filter(|promise| promise.is_due_from(&self.nodes[place], &table, early));
        let answer = match early {
            true => table.peek_early(moment.wall, &demands),
            false => table.acquire_early(moment.wall, &demands),
        };
        let admission = answer.unwrap_or_else(|| {
            moment = self.nodes[place].exact(self.now);
            demands = policy.demands_with_labels(&request, moment.wall);
            match early {
                true => table.peek(moment.wall, &demands),
                false => table.acquire(moment.wall, &demands),
            }
        });
        if early {
            return self.not_yet(place, promise, &admission);
        }
        let keys: Vec<CounterKey> = demands
            .list
            .iter()
            // Proven: demands are made of valid keys.
            .map(|demand| CounterKey::from_bytes(demands.key(demand)).expect("a key"))
            .collect();
        self.calls += 1;
        self.record.decides(place, matches!(admission, Admission::Allowed { .. }), &keys);
        match admission {
            Admission::Allowed { debits, urgent, .. } => {
                self.waits_obeyed += u64::from(promise.is_some());
                self.admitted(place, &keys, &debits, &demands)?;
                if urgent {
                    self.input(place, Input::Urgent)?;
                }
                self.lone_later(place, false)?;
            }
            Admission::Denied { limit_index, retry_after: Some(later), .. } => {
                let denied =
                    demands.list.iter().position(|demand| demand.limit_index == limit_index);
                let key = denied.map(|denied| keys[denied].clone());
                // Of a window that it was not told of, a former life may have counted in it, by another clock.
                let is_same = |promise: &Promise| {
                    promise.counters.iter().any(|held| Some(&held.key) == key.as_ref())
                };
                if let Some(promise) = promise.filter(is_same) {
                    let what = format!("told to wait {:?}, and then again {later:?}", promise.wait);
                    return Err(Violation { invariant: "I13", what, counter: key });
                }
                self.promise(place, moment, later, &keys)?;
            }
            Admission::Denied { reason: DenialReason::LimitReached, .. } => {
                let what = "a limit is reached, and no wait is told".to_owned();
                return Err(Violation { invariant: "I13", what, counter: keys.first().cloned() });
            }
            Admission::Denied { .. } => self.lone_later(place, false)?,
        }
        self.changed(place)?;
        self.focus_on(place);
        self.look_at(place)
    }

    /// Notes what was told, and comes back when that is over, and once shortly before.
    fn promise(
        &mut self,
        place: usize,
        moment: Moment,
        later: Duration,
        keys: &[CounterKey],
    ) -> Checked {
        let node = &mut self.nodes[place];
        let Some(life) = &node.life else { return Ok(()) };
        let wait = moment.wait(later);
        let counters = keys.iter().filter_map(|key| held(&life.table, key)).collect();
        let (number, sets, clock) = (life.number, node.clock.sets, node.clock);
        node.promise = Some(Promise { life: number, clock_sets: sets, wait, counters });
        // What was read may be as old as a tick, and what is read then too.
        let early = wait.saturating_sub(Duration::from_millis(2 * clock.tick_ms + 1));
        for (wait, early) in [(early, true), (wait, false)] {
            let due = clock.moment_of(clock.monotonic(self.now) + wait);
            self.after(due.saturating_sub(self.now), Event::Lone { node: place, early });
        }
        Ok(())
    }

    /// What ends when it was said to end does not end before.
    fn not_yet(&mut self, place: usize, promise: Option<Promise>, peeked: &Admission) -> Checked {
        if let (Some(promise), Admission::Allowed { .. }) = (&promise, peeked) {
            let what =
                format!("told to wait {:?}, and two ticks before that there is room", promise.wait);
            let counter = promise.counters.first().map(|held| held.key.clone());
            return Err(Violation { invariant: "I13", what, counter });
        }
        self.nodes[place].promise = promise;
        Ok(())
    }

    fn lone_later(&mut self, place: usize, early: bool) -> Checked {
        if !early {
            let pause = self.draw_ms(PAUSE_MS);
            self.after(pause, Event::Lone { node: place, early });
        }
        Ok(())
    }
}

impl Promise {
    /// Whether nothing has happened since that would make it void. Before its end a counter may go as well: where it began
    /// again on an empty disk, a peer may still have the one that was reset before, of a later generation.
    fn is_due_from(&self, node: &Node, table: &Table, early: bool) -> bool {
        let lives = node.life.as_ref().is_some_and(|life| life.number == self.life);
        let unchanged = |before: &Held| match held(table, &before.key) {
            Some(now) => now == *before,
            None => !early,
        };
        lives && node.clock.sets == self.clock_sets && self.counters.iter().all(unchanged)
    }
}

fn held(table: &Table, key: &CounterKey) -> Option<Held> {
    let state = table.counter(key.as_bytes())?;
    let cell = |(replica, Cell { p, n, .. }): (ReplicaId, Cell)| (replica, p, n);
    let cells = state.cells.into_iter().map(cell).collect();
    let (generation, expires_at) = (state.generation, state.expires_at);
    Some(Held { key: state.key, generation, expires_at, cells })
}

#[cfg(test)]
mod tests {
    use crate::{Faults, Kind, Options, run};

    #[test]
    fn lone_clients_wait_and_are_admitted() {
        for seed in 0..3 {
            let options = Options::of_seed(seed, Some(3), Faults::none()).of_kind(Kind::Safety);
            let outcomes = run(&options, false);
            assert_eq!(outcomes.violation, None, "seed {seed}");
            assert!(outcomes.waits_obeyed > 5, "seed {seed}: {}", outcomes.waits_obeyed);
        }
    }
}
