//! What is looked at while a run goes on, and at its end.

use std::time::Duration;

use super::{Checked, Node, World, counters};
use crate::checker::Violation;

impl World<'_> {
    pub(super) fn check_cells(&mut self) -> Checked {
        for node in &self.nodes {
            let Some(life) = &node.life else { continue };
            for counter in counters(&life.table) {
                self.checker.holds(&life.replica, &counter)?;
            }
        }
        Ok(())
    }

    pub(super) fn states(&self) -> Vec<String> {
        let latest = self.nodes.iter().map(|node| node.high_water).max().unwrap_or_default();
        let state = |node: &Node| match &node.life {
            None => "down".to_owned(),
            Some(life) => {
                life.table.harvest(tallymesh::simulation::Scope::All);
                let vector = life.table.version_vector();
                let watermarks: Vec<String> = vector
                    .iter()
                    .map(|(replica, version)| format!("{replica}:{version}"))
                    .collect();
                format!("{:016x} {}", life.table.fingerprint(latest), watermarks.join(" "))
            }
        };
        self.nodes.iter().map(state).collect()
    }

    pub(super) fn has_converged(&self) -> bool {
        let states = self.states();
        states.iter().all(|state| *state == states[0] && state != "down")
    }

    pub(super) fn account(&self) -> Checked {
        let latest = self.nodes.iter().map(|node| node.high_water).max().unwrap_or_default();
        for life in self.nodes.iter().filter_map(|node| node.life.as_ref()) {
            let held = counters(&life.table);
            self.checker.accounts(latest, &held)?;
            let grace = Duration::from_secs(60);
            let old = held.iter().find(|counter| counter.expires_at.plus(grace) < latest);
            if let Some(old) = old {
                let counter = Some(old.key.to_string());
                let what = format!("{} holds what ended long ago", life.replica);
                return Err(Violation { invariant: "I11", what, counter });
            }
        }
        Ok(())
    }
}
