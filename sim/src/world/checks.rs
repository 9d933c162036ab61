//! What is looked at while a run goes on, and at its end.

use std::sync::Arc;
use std::time::Duration;

use tallymesh_core::crdt::VersionVector;
use tallymesh_core::id::Version;
use tallymesh_core::key::CounterKey;
use tallymesh_core::table::{Bounds, CounterState};
use tallymesh_core::table::{DirtySet, Table};
use tallymesh_core::time::Timestamp;

use super::node::Node;
use super::{Checked, GRACE, World};
use crate::checker::Violation;
use crate::options::Checks;

impl World<'_> {
    /// After an event at a node: notes what was given a version, and that time goes on.
    pub(super) fn look_at(&mut self, place: usize) -> Checked {
        if self.options.checks == Checks::Few {
            return Ok(());
        }
        let now = self.wall(place);
        self.latest_ever = self.latest_ever.max(now);
        let Some(life) = &mut self.nodes[place].life else { return Ok(()) };
        self.checker.shown(place, life.shown, now)?;
        life.shown = now;
        self.checker.observe(&life.table, &life.replica);
        Ok(())
    }

    /// I8: holds what has moved of a node's watermarks since the last look against what they vouch for.
    pub(super) fn check_watermarks(&mut self, place: usize) -> Checked {
        let Some(life) = &self.nodes[place].life else { return Ok(()) };
        let vector = life.table.version_vector();
        if vector == life.watermarks || self.liar().is_some() {
            return Ok(());
        }
        let now = self.latest_ever();
        let Some(life) = &mut self.nodes[place].life else { return Ok(()) };
        for (replica, to) in vector.iter().filter(|(replica, _)| **replica != life.replica) {
            let from = life.watermarks.watermark(replica);
            if to > from {
                self.checker.watermark_moved(now, &life.table, replica, (from, to))?;
            }
        }
        life.watermarks = vector;
        Ok(())
    }

    /// I2: no node has what its owner never counted.
    pub(super) fn check_cells(&mut self) -> Checked {
        for node in &self.nodes {
            let Some(life) = &node.life else { continue };
            for counter in counters(&life.table) {
                self.checker.holds(&life.replica, &counter)?;
            }
        }
        Ok(())
    }

    /// The latest time that any node ever acted on: what was over by then may be gone anywhere.
    pub(super) fn latest_ever(&mut self) -> Timestamp {
        let all: Vec<usize> = (0..self.nodes.len()).collect();
        self.latest_ever = self.latest_ever.max(self.latest(&all));
        self.latest_ever
    }

    /// The latest time by any of these nodes.
    pub(super) fn latest(&mut self, places: &[usize]) -> Timestamp {
        places.iter().map(|place| self.wall(*place)).max().unwrap_or_default()
    }

    /// What each of these nodes holds: a sum over its counters, and its watermarks. `None` for one that is down.
    pub(super) fn states(&mut self, places: &[usize]) -> Vec<Option<(u64, VersionVector)>> {
        let latest = self.latest(places);
        let state = |node: &Node| {
            let life = node.life.as_ref()?;
            life.table.harvest(DirtySet::All);
            Some((life.table.state_checksum(latest), life.table.version_vector()))
        };
        let states = places.iter().map(|place| state(&self.nodes[*place])).collect();
        for place in places {
            // Looking gave versions to what had none.
            if let Some(life) = &self.nodes[*place].life {
                self.checker.observe(&life.table, &life.replica);
            }
        }
        states
    }

    /// I3: whether these nodes hold the same, and know it. Of replicas without cells, some may have been forgotten.
    pub(super) fn agree(&mut self, places: &[usize]) -> bool {
        let states = self.states(places);
        let Some(Some((sum, vector))) = states.first() else { return false };
        let equal = states.iter().all(|state| {
            let Some((other_sum, other_vector)) = state else { return false };
            let mut known_to_both = vector.iter().filter_map(|(replica, watermark)| {
                let other = other_vector.watermark(replica);
                (other > Version::ZERO).then_some((watermark, other))
            });
            sum == other_sum && known_to_both.all(|(watermark, other)| watermark == other)
        });
        equal && self.agree_on_ends(places)
    }

    /// A counter that is held otherwise by one of these nodes than by another.
    pub(super) fn first_difference(&self, places: &[usize]) -> Option<CounterKey> {
        let lives = || places.iter().filter_map(|place| self.nodes[*place].life.as_ref());
        let held = |life: &super::node::Life, key: &CounterKey| life.table.counter(key.as_bytes());
        let keys = lives().flat_map(|life| counters(&life.table)).map(|counter| counter.key);
        keys.collect::<std::collections::BTreeSet<_>>().into_iter().find(|key| {
            let mut states = lives().map(|life| held(life, key));
            let first = states.next();
            states.any(|state| Some(state) != first)
        })
    }

    /// I4, I11: what the nodes hold once they have come to agree.
    pub(super) fn account(&mut self, places: &[usize]) -> Checked {
        let latest = self.latest(places);
        let sweep = self.sweep_time();
        for place in places {
            let Some(life) = &self.nodes[*place].life else { continue };
            let held = counters(&life.table);
            self.checker.accounts(latest, &held)?;
            // What it found on its disk is swept as well, in its time.
            let had_time = self.now.saturating_sub(life.began) > sweep;
            let is_old = |held: &&CounterState| held.expires_at.plus(GRACE + sweep) < latest;
            let old = held.iter().filter(|_| had_time).find(is_old);
            if let Some(old) = old {
                let what = format!("{} holds what ended at {}", life.replica, old.expires_at);
                return Err(Violation { invariant: "I11", what, counter: Some(old.key.clone()) });
            }
        }
        Ok(())
    }

    /// I10: it makes no difference in which order states are merged, nor whether again, nor by whose clock.
    pub(super) fn check_at_end(&mut self) -> Checked {
        if self.options.checks == Checks::Few || self.liar().is_some() {
            return Ok(());
        }
        self.check_cells()?;
        let places: Vec<usize> = (0..self.nodes.len()).collect();
        let latest = self.latest(&places);
        let earliest = places.iter().map(|place| self.wall(*place)).min().unwrap_or_default();
        let merged = |places: &[usize], times: u32, now: Timestamp| {
            // Longer than any clock is off, or one of them would find too old, or too early, what another one still uses.
            let grace = Duration::from_secs(3600 * 24 * 30);
            let bounds = Bounds { grace, future_max: grace, ..Bounds::default() };
            // Proven: letters and digits are a valid name.
            let node = "judge".parse().expect("a valid name");
            let incarnation = tallymesh_core::id::Incarnation { boot: 1, nonce: 1 };
            let judge =
                Table::new(tallymesh_core::id::ReplicaId { node, incarnation }, bounds, [1; 4]);
            for place in places {
                let Some(life) = &self.nodes[*place].life else { continue };
                for (replica, _) in life.table.version_vector().iter() {
                    let from = tallymesh_core::id::Version::ZERO;
                    if let Some(part) = life.table.updates_after(replica, from, usize::MAX) {
                        for _ in 0..times {
                            judge.apply(now, replica, &part.updates);
                        }
                    }
                }
            }
            Arc::new(judge).state_checksum(latest)
        };
        let backwards: Vec<usize> = places.iter().rev().copied().collect();
        if merged(&places, 1, latest) != merged(&backwards, 2, earliest) {
            let what =
                "merging all nodes forwards, and backwards by another clock, gives two states"
                    .to_owned();
            return Err(Violation { invariant: "I10", what, counter: None });
        }
        Ok(())
    }
}

pub(super) fn counters(table: &Table) -> Vec<CounterState> {
    let mut counters = Vec::new();
    let mut next = None;
    loop {
        let (page, following) = table.page(next);
        counters.extend(page);
        next = following;
        if next.is_none() {
            return counters;
        }
    }
}
