//! Lives that are over: what others hold of them stays, and all nodes forget them by the same data.

use std::time::Duration;

use tallymesh_core::crdt::DigestEntry;
use tallymesh_core::table::CounterState;

use super::checks::counters;
use super::node::{Closing, Life};
use super::{Checked, GRACE, World};
use crate::checker::Violation;

/// A counter near its end may be gone on one node and not on another, by their clocks.
const NEAR_END: Duration = Duration::from_secs(10);

impl World<'_> {
    /// Notes what is held anywhere as everything is repaired, but by those that are about to stop.
    pub(super) fn note_survivors(&mut self) {
        let steady = &self.nodes[..self.options.nodes];
        let lives = steady.iter().filter_map(|node| node.life.as_ref());
        let lives = lives.filter(|life| life.closing == Closing::No);
        self.survived = lives.flat_map(|life| counters(&life.table)).collect();
    }

    /// I4: no cell that a node held when everything was repaired is dropped, of any writer.
    pub(super) fn check_survivors(&mut self, places: &[usize]) -> Checked {
        let latest = self.latest(places);
        let is_owed = |held: &&CounterState| {
            // What a clock that was far ahead made is refused by others, and goes when that clock is set right.
            let began = held.key.window().map_or(held.marks.at, |window| window.start().0);
            held.expires_at > latest.plus(NEAR_END) && began <= latest.0
        };
        for held in self.survived.iter().filter(is_owed) {
            for place in places {
                let Some(life) = &self.nodes[*place].life else { continue };
                let now = life.table.counter(held.key.as_bytes());
                if !has_all(now.as_ref(), held) {
                    let what =
                        format!("{} holds {now:?}, of which {held:?} was known", life.replica);
                    return Err(Violation {
                        invariant: "I4",
                        what,
                        counter: Some(held.key.clone()),
                    });
                }
            }
        }
        Ok(())
    }

    /// I14: what ended longer than the grace ago is forgotten, so that a digest is bounded by who lives and who has live cells.
    /// A late frame may bring one back until the next round: a node that still remembers one is looked at again.
    pub(super) fn remembered(&mut self, places: &[usize]) -> Option<Violation> {
        let latest = self.latest(places);
        let patience = self.sweep_time();
        for place in places {
            let now = self.nodes[*place].time(self.now);
            let Some(life) = &self.nodes[*place].life else { continue };
            if self.now.saturating_sub(life.began) <= patience {
                continue;
            }
            let peers = life.gossip.peers(now);
            let is_connected = |entry: &DigestEntry| {
                let is_it = |of: &Option<_>| of.as_ref() == Some(&entry.replica);
                peers.iter().any(|peer| peer.connected && is_it(&peer.replica))
            };
            let is_old = |entry: &DigestEntry| entry.end.plus(GRACE + patience) < latest;
            let old = known(life).into_iter().find(|entry| is_old(entry) && !is_connected(entry));
            if let Some(old) = old {
                let what = format!(
                    "{} remembers {}, which ended at {}",
                    life.replica, old.replica, old.end
                );
                return Some(Violation { invariant: "I14", what, counter: None });
            }
        }
        None
    }

    /// Whether these nodes will forget the same replicas at the same times.
    pub(super) fn agree_on_ends(&mut self, places: &[usize]) -> bool {
        let latest = self.latest(places).plus(Duration::from_millis(500));
        let is_told = |entry: &DigestEntry| entry.end.plus(GRACE / 2) > latest;
        let lives: Vec<&Life> =
            places.iter().filter_map(|place| self.nodes[*place].life.as_ref()).collect();
        let told = lives.iter().flat_map(|life| known(life)).filter(is_told);
        let is_known_to_all = |entry: DigestEntry| {
            let others = lives.iter().filter(|life| life.replica != entry.replica);
            others
                .map(|life| life.table.digest_entry(&entry.replica))
                .all(|held| (held.watermark, held.end) == (entry.watermark, entry.end))
        };
        told.into_iter().all(is_known_to_all)
    }

    /// A sweep of the table takes 64 rounds, and more while a process is paused or its clock is behind.
    pub(super) fn sweep_time(&self) -> Duration {
        let interval = Duration::from_millis(self.options.gossip_interval_ms);
        interval * 80 * 13 / 10 + Duration::from_secs(12)
    }
}

/// What a node has of all other replicas.
fn known(life: &Life) -> Vec<DigestEntry> {
    let vector = life.table.version_vector();
    let others = vector.iter().filter(|(replica, _)| **replica != life.replica);
    others.map(|(replica, _)| life.table.digest_entry(replica)).collect()
}

/// Whether a counter has every cell that was held, or a later generation.
fn has_all(now: Option<&CounterState>, held: &CounterState) -> bool {
    let Some(now) = now else { return held.cells.is_empty() };
    let has = |(replica, cell): &(_, tallymesh_core::crdt::Cell)| {
        now.cells.iter().any(|(other, newer)| other == replica && newer.version >= cell.version)
    };
    now.generation > held.generation
        || now.generation == held.generation && held.cells.iter().all(has)
}
