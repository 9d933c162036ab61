//! The calls that are made, and what the checker is told of them.

use std::time::Duration;

use rand::RngExt;
use rand::seq::IteratorRandom;
use tallymesh_core::gossip::Input;
use tallymesh_core::key::CounterKey;
use tallymesh_core::limit::{DemandError, Demands, DenialReason, Lifetime, Request};
use tallymesh_core::table::CounterState;
use tallymesh_core::table::{Admission, Debit, Op};
use tallymesh_core::time::Timestamp;

use super::node::max_anywhere;
use super::{Checked, Event, World};
use crate::checker::{Counted, Violation};
use crate::options::{Checks, Workload};

/// The length of the shortest window in force.
const WINDOW_MS: u64 = 2_000;

impl World<'_> {
    /// One call, and when the next one comes.
    pub(super) fn call(&mut self) -> Checked {
        if self.now >= self.calls_until {
            return Ok(());
        }
        let workload = self.options.workload;
        let sessions = self.options.sessions;
        let calls = self.calls;
        let random = self.random.get_mut();
        let session = match workload {
            Workload::ColdKeys => 1_000_000 + calls,
            Workload::HotKey if random.random_bool(0.9) => 0,
            _ if random.random_bool(0.3) => 0,
            _ => random.random_range(0..sessions),
        };
        let mean = Duration::from_micros(1_000_000 / self.options.calls_per_s);
        let gap = mean.mul_f64(-(1.0 - random.random::<f64>()).ln());
        if workload == Workload::WindowEdges && random.random_bool(0.05) {
            self.gather_crowd(session);
        }
        self.after(gap, Event::Call);
        let is_varied = self.options.limits.are_varied();
        if is_varied && self.chance(0.1) {
            self.change_plain(session)
        } else {
            self.decide(session)
        }
    }

    /// Adds to a counter without a limit, or subtracts from it, whichever node added to it.
    fn change_plain(&mut self, session: u64) -> Checked {
        let Some(place) = self.who_is_called() else { return Ok(()) };
        let (subtracts, amount) = (self.chance(0.5), self.random.get_mut().random_range(1..9));
        // Proven: the key is short.
        let key = CounterKey::new("plain", &[&format!("s{}", session % 3)]).expect("a short key");
        let now = self.wall(place);
        self.calls += 1;
        let Some(life) = &self.nodes[place].life else { return Ok(()) };
        let (table, replica) = (life.table.clone(), life.replica.clone());
        let before = table.counter(key.as_bytes());
        let op = if subtracts { Op::Subtract(amount) } else { Op::Add(amount) };
        let lifetime = Lifetime::new(self.options.limits.long());
        // There may be no room for it.
        let Ok(result) = table.execute(now, &key, op, lifetime) else { return Ok(()) };
        let after = table.counter(key.as_bytes());
        self.record.decides(place, result.applied, std::slice::from_ref(&key));
        if subtracts {
            let states = (before.as_ref(), after.as_ref());
            self.checker.taken(now, &key, &replica, states, (amount, result.taken))?;
        } else {
            let generation = after.as_ref().map_or(0, |after| after.generation);
            // No limit is on it.
            let (cost, max) = (amount, u64::from(u32::MAX));
            let (key, replica, after) = (&key, &replica, after.as_ref());
            let counted = Counted { key, replica, generation, cost, max, after };
            self.checker.counted(now, &counted)?;
        }
        self.changed(place)?;
        self.focus_on(place);
        self.look_at(place)
    }

    /// A crowd that waits for the next window, by clocks that do not quite agree.
    fn gather_crowd(&mut self, session: u64) {
        let into_window = self.now.as_millis() as u64 % WINDOW_MS;
        for _ in 0..self.random.get_mut().random_range(5..15) {
            let early = self.random.get_mut().random_range(0..60);
            let wait = (WINDOW_MS - into_window + 30).saturating_sub(early);
            self.after(Duration::from_millis(wait), Event::Burst { session });
        }
    }

    /// One call of a crowd.
    pub(super) fn burst(&mut self, session: u64) -> Checked {
        if self.now >= self.calls_until { Ok(()) } else { self.decide(session) }
    }

    fn decide(&mut self, session: u64) -> Checked {
        let Some(place) = self.who_is_called() else { return Ok(()) };
        let random = self.random.get_mut();
        let (tool, user) = (random.random_range(0..3), session % 5);
        let is_single = !self.options.limits.are_varied();
        let cost =
            if !is_single && random.random_bool(0.1) { random.random_range(2..4) } else { 1 };
        let texts = [format!("s{session}"), format!("t{tool}"), format!("u{user}")];
        let request = Request::tool_call(&texts[0], &texts[1]).cost(cost);
        let is_labelled = is_single || !random.random_bool(0.02);
        let request = if is_labelled { request.with("user", &texts[2]) } else { request };
        let mut now = self.wall(place);
        let mut demands = Demands::default();
        self.calls += 1;
        let found = self.nodes[place].policy.find_demands(&request, now, 512, &mut demands);
        match (found, is_labelled) {
            (Ok(()), true) => {}
            (Err(DemandError::MissingLabel(_)), false) => return Ok(()),
            (found, _) => {
                let what = format!("{request:?} is to be charged: {found:?}");
                return Err(Violation { invariant: "I5", what, counter: None });
            }
        }
        let Some(life) = &self.nodes[place].life else { return Ok(()) };
        self.checker.shown(place, life.shown, now)?;
        let table = life.table.clone();
        let admission = match self.acquire_early(place, &texts, now, &demands) {
            Some(admission) => admission,
            None => {
                let exact = self.nodes[place].exact(self.now).wall;
                demands = self.nodes[place].policy.demands_with_labels(&request, exact);
                now = exact;
                table.acquire(exact, &demands)
            }
        };
        let keys: Vec<CounterKey> = demands
            .list
            .iter()
            // Proven: demands are made of valid keys.
            .map(|demand| CounterKey::from_bytes(demands.key(demand)).expect("a key"))
            .collect();
        self.record.decides(place, matches!(admission, Admission::Allowed { .. }), &keys);
        match admission {
            Admission::Allowed { debits, urgent, .. } => {
                self.admitted(place, &keys, &debits, &demands)?;
                if urgent {
                    self.input(place, Input::Urgent)?;
                }
                if !is_single && self.chance(0.1) {
                    let delay = self.draw_ms(500);
                    let life = self.nodes[place].lives;
                    let debits = debits.into_iter().collect();
                    let refund = Event::Refund { node: place, life, debits, cost, keys };
                    self.after(delay, refund);
                }
            }
            Admission::Denied {
                limit_index,
                reason: DenialReason::LimitReached | DenialReason::CostOverMax,
                ..
            } => {
                let denied =
                    demands.list.iter().position(|demand| demand.limit_index == limit_index);
                if let Some(denied) = denied {
                    let key = &keys[denied];
                    let state = table.counter(key.as_bytes());
                    let max = demands.list[denied].max;
                    self.checker.denied(now, key, state.as_ref(), (cost, max))?;
                }
            }
            Admission::Denied { .. } => {}
        }
        self.changed(place)?;
        self.focus_on(place);
        self.look_at(place)
    }

    /// Decides by handle where the counters were seen before, as a meter does, and by their keys otherwise. `None` where the exact
    /// clock must tell.
    fn acquire_early(
        &mut self,
        place: usize,
        labels: &[String; 3],
        now: Timestamp,
        demands: &Demands,
    ) -> Option<Admission> {
        // Proven: the caller has looked at the node's life.
        let life = self.nodes[place].life.as_mut().expect("a node that is called lives");
        let seen = life.seen.get(labels).filter(|seen| seen.len() == demands.list.len());
        let by_handle = seen
            .and_then(|seen| life.table.acquire_by_ref(now, &demands.list, seen.iter().copied()));
        by_handle.or_else(|| {
            let admission = life.table.acquire_early(now, demands);
            let found = demands.list.iter().map(|demand| life.table.resolve(demands.key(demand)));
            life.seen.insert(labels.clone(), found.collect());
            admission
        })
    }

    pub(super) fn admitted(
        &mut self,
        place: usize,
        keys: &[CounterKey],
        debits: &[Debit],
        demands: &Demands,
    ) -> Checked {
        let now = self.wall(place);
        self.admitted_on_side(place, demands.list.first().map_or(0, |demand| demand.cost));
        let Some(life) = &self.nodes[place].life else { return Ok(()) };
        for ((key, debit), demand) in keys.iter().zip(debits).zip(&demands.list) {
            let after = match self.options.checks {
                Checks::All => life.table.counter(key.as_bytes()),
                Checks::Few => None,
            };
            let counted = Counted {
                key,
                replica: &life.replica,
                generation: debit.generation(),
                cost: demand.cost,
                max: max_anywhere(key.limit(), demand.max),
                after: after.as_ref(),
            };
            match self.options.checks {
                Checks::All => self.checker.counted(now, &counted)?,
                Checks::Few => self.checker.counted_unseen(&counted),
            }
        }
        Ok(())
    }

    /// A live node that is awake, by chance, the first one more often if the load is skewed.
    pub(super) fn who_is_called(&mut self) -> Option<usize> {
        let (now, calm) = (self.now, &self.calm);
        let nodes = self.nodes.iter().enumerate();
        let awake = nodes.filter(|(place, node)| {
            node.life.is_some() && node.paused_until <= now && !calm.contains(place)
        });
        let awake: Vec<usize> = awake.map(|(place, _)| place).collect();
        let random = self.random.get_mut();
        match awake.first() {
            Some(0) if random.random_bool(self.options.skew) => Some(0),
            _ => awake.into_iter().choose(random),
        }
    }

    pub(super) fn refund(
        &mut self,
        place: usize,
        life: u64,
        (debits, cost): (&[Debit], u64),
        keys: &[CounterKey],
    ) -> Checked {
        let Some(alive) = self.life(place).filter(|alive| alive.number == life) else {
            return Ok(());
        };
        let (table, replica) = (alive.table.clone(), alive.replica.clone());
        let states = |keys: &[CounterKey]| -> Vec<Option<CounterState>> {
            keys.iter().map(|key| table.counter(key.as_bytes())).collect()
        };
        let before = states(keys);
        if !table.refund(debits, cost) {
            return Ok(());
        }
        for (before, after) in before.iter().zip(states(keys)) {
            if let (Some(before), Some(after)) = (before, after) {
                self.checker.refunded(before, &after, &replica)?;
            }
        }
        self.changed(place)
    }
}
