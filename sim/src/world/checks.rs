//! What is looked at while a run goes on, and at its end.

use std::sync::Arc;
use std::time::Duration;

use tallymesh::simulation::{Scope, Table};
use tallymesh::{Bounds, CounterState, Timestamp};

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
        let Some(life) = &mut self.nodes[place].life else { return Ok(()) };
        self.checker.shown(place, life.shown, now)?;
        life.shown = now;
        self.checker.observe(&life.table, &life.replica);
        Ok(())
    }

    /// I8: holds what has moved of a node's watermarks since the last look against what they vouch for.
    pub(super) fn check_watermarks(&mut self, place: usize) -> Checked {
        let now = self.wall(place);
        let Some(life) = &mut self.nodes[place].life else { return Ok(()) };
        let vector = life.table.version_vector();
        if vector == life.watermarks {
            return Ok(());
        }
        for (replica, to) in vector.iter().filter(|(replica, _)| **replica != life.replica) {
            let from = life.watermarks.watermark(replica);
            if to > from {
                self.checker.watermark_moved(now, &life.table, replica, (from, to))?;
            }
        }
        life.watermarks = vector;
        Ok(())
    }

    /// I2: nobody holds what its owner never counted.
    pub(super) fn check_cells(&mut self) -> Checked {
        for node in &self.nodes {
            let Some(life) = &node.life else { continue };
            for counter in counters(&life.table) {
                self.checker.holds(&life.replica, &counter)?;
            }
        }
        Ok(())
    }

    /// The latest time by any of these nodes.
    pub(super) fn latest(&mut self, places: &[usize]) -> Timestamp {
        places.iter().map(|place| self.wall(*place)).max().unwrap_or_default()
    }

    /// A text for each of these nodes that is equal for equal states.
    pub(super) fn states(&mut self, places: &[usize]) -> Vec<String> {
        let latest = self.latest(places);
        let state = |node: &Node| match &node.life {
            None => "down".to_owned(),
            Some(life) => {
                life.table.harvest(Scope::All);
                let vector = life.table.version_vector();
                let watermarks: Vec<String> = vector
                    .iter()
                    .map(|(replica, version)| format!("{replica}:{version}"))
                    .collect();
                format!("{:016x} {}", life.table.fingerprint(latest), watermarks.join(" "))
            }
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

    pub(super) fn agree(&mut self, places: &[usize]) -> bool {
        let states = self.states(places);
        states.iter().all(|state| *state == states[0] && state != "down")
    }

    /// I4, I11: what the nodes hold once they have come to agree.
    pub(super) fn account(&mut self, places: &[usize]) -> Checked {
        let latest = self.latest(places);
        // A sweep of the table takes 64 rounds, and more while a process is paused.
        let interval = Duration::from_millis(self.options.gossip_interval_ms);
        let sweep = interval * 80 * 13 / 10 + Duration::from_secs(5);
        for place in places {
            let Some(life) = &self.nodes[*place].life else { continue };
            let held = counters(&life.table);
            self.checker.accounts(latest, &held)?;
            let old = held.iter().find(|held| held.expires_at.plus(GRACE).plus(sweep) < latest);
            if let Some(old) = old {
                let what = format!("{} holds what ended at {}", life.replica, old.expires_at);
                return Err(Violation { invariant: "I11", what, counter: Some(old.key.clone()) });
            }
        }
        Ok(())
    }

    /// I10: the order in which states are merged makes no difference, nor does merging them again.
    pub(super) fn check_at_end(&mut self) -> Checked {
        if self.options.checks == Checks::Few {
            return Ok(());
        }
        self.check_cells()?;
        let places: Vec<usize> = (0..self.nodes.len()).collect();
        let latest = self.latest(&places);
        let merged = |places: &[usize], times: u32| {
            let bounds = Bounds { grace: Duration::from_secs(3600 * 24), ..Bounds::default() };
            // Proven: letters and digits are a valid name.
            let node = "judge".parse().expect("a valid name");
            let incarnation = tallymesh::Incarnation { boot: 1, nonce: 1 };
            let judge = Table::new(tallymesh::ReplicaId { node, incarnation }, bounds, [1; 4]);
            for place in places {
                let Some(life) = &self.nodes[*place].life else { continue };
                for (replica, _) in life.table.version_vector().iter() {
                    let from = tallymesh::Version::ZERO;
                    if let Some(part) = life.table.updates_after(replica, from, usize::MAX) {
                        for _ in 0..times {
                            judge.apply(latest, replica, &part.updates);
                        }
                    }
                }
            }
            Arc::new(judge).fingerprint(latest)
        };
        let backwards: Vec<usize> = places.iter().rev().copied().collect();
        if merged(&places, 1) != merged(&backwards, 2) {
            let what = "merging all nodes forwards and backwards gives two states".to_owned();
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
