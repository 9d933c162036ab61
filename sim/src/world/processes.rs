//! Lives of processes: starts, recoveries, checkpoints and ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use tallymesh_core::crdt::VersionVector;
use tallymesh_core::gossip::GossipSettings;
use tallymesh_core::gossip::{Gossip, Input};
use tallymesh_core::id::{ReplicaId, Version};
use tallymesh_core::link::LinkId;
use tallymesh_core::mutant::Mutant;
use tallymesh_core::storage::StorageError;
use tallymesh_core::storage::{CarryOver, DataDir, Opened, Start, StateStore};
use tallymesh_core::table::Bounds;
use tallymesh_core::time::MonotonicWall;
use tallymesh_core::time::Timestamp;

use super::node::{Closing, Life};
use super::{Checked, Event, GRACE, World};
use crate::checker::Violation;
use crate::faults::Fault;
use crate::options::Checks;

/// Only so far apart are the times that checkpoints of an idle node make durable.
const CLOCK_EVERY_MS: u64 = 10_000;

impl World<'_> {
    pub(super) fn life(&self, node: usize) -> Option<&Life> {
        self.nodes[node].life.as_ref()
    }

    pub(super) fn start(&mut self, place: usize) -> Checked {
        let is_late = self.nodes[place].is_pod && self.is_over();
        if self.nodes[place].life.is_some() || is_late {
            return Ok(());
        }
        let reuses = self.options.mutant == Some(Mutant::ReplicaIdReused);
        let nonce = if reuses { place as u64 } else { self.random.get_mut().random() };
        let hash_seeds = self.random.get_mut().random::<[u64; 4]>();
        let clock = self.nodes[place].clock.reading(self.now);
        let start = Start { clock, nonce, hash_seeds };
        let gossip_seed = self.random.get_mut().random();
        let bounds = Bounds {
            grace: GRACE,
            counters_max: self.options.counters_max,
            urgent_fraction: self.options.urgent_fraction,
            ..Bounds::default()
        };
        let (disk, name) = (self.nodes[place].disk.clone(), self.nodes[place].name.clone());
        // No disk has an earlier format.
        let rules = CarryOver::default();
        let opened = DataDir::on(Box::new(disk.clone()))
            .and_then(|dir| StateStore::open(dir, &name, &bounds, &rules, start, |_| {}));
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => return self.cannot_start(place, &error),
        };
        let Opened { store, table, clock, set_aside, .. } = opened;
        let table = Arc::new(table);
        let replica = table.own_replica();
        self.checker.born(&replica)?;
        let monotonic_wall = MonotonicWall::at(clock);
        let shown = monotonic_wall.observe(self.nodes[place].clock.reading(self.now));
        let formers = self.nodes[place].formers.clone();
        match set_aside {
            Some((_, damage)) if !disk.is_tampered() => {
                let what = format!("{name} finds its disk damaged, which it is not: {damage}");
                return Err(Violation { invariant: "durability", what, counter: None });
            }
            _ if disk.take_set_aside() => {
                disk.forgive();
                self.forget_disk(place);
            }
            Some((aside, _)) => {
                let what = format!("{name} says that {aside:?} is set aside, which it is not");
                return Err(Violation { invariant: "durability", what, counter: None });
            }
            None => {
                let latest = self.latest_ever().max(shown);
                for former in &formers {
                    self.checker.recovered(latest, &table, former)?;
                }
            }
        }
        let now = tallymesh_core::time::Now {
            wall: shown,
            monotonic: self.nodes[place].clock.monotonic(self.now),
        };
        let gossip = Gossip::new(table.clone(), self.settings(place), gossip_seed, now);
        let node = &mut self.nodes[place];
        node.lives += 1;
        node.formers.push(replica.clone());
        node.timer_at = None;
        node.sends_left = None;
        let (number, began) = (node.lives, self.now);
        let watermarks = VersionVector::default();
        node.life = Some(Life {
            number,
            began,
            closing: Closing::No,
            replica,
            table,
            gossip,
            store,
            monotonic_wall,
            shown,
            seen: BTreeMap::new(),
            watermarks,
        });
        if self.options.checks == Checks::All {
            self.check_watermarks(place)?;
        }
        let peers = self.nodes[place].peers.iter().map(|peer| peer.to_string().into()).collect();
        self.input(place, Input::Peers(peers))?;
        let delay = self.draw_ms(self.options.checkpoint_ms);
        self.after(delay, Event::Checkpoint { node: place, life: number });
        Ok(())
    }

    /// What an operator does about a node that does not start: fixes what the message says, and tries again.
    fn cannot_start(&mut self, place: usize, error: &StorageError) -> Checked {
        let disk = self.nodes[place].disk.clone();
        let is_explained = match error {
            StorageError::Io { .. } => true,
            StorageError::Foreign { .. }
            | StorageError::OtherNode { .. }
            | StorageError::OtherFormat { .. } => {
                disk.remove_identity();
                disk.is_tampered()
            }
            _ => false,
        };
        if !is_explained {
            let what = format!("{} does not start: {error}", self.nodes[place].name);
            return Err(Violation { invariant: "durability", what, counter: None });
        }
        if disk.is_dead() {
            disk.crash(false);
        }
        if self.is_calm(place) {
            self.nodes[place].mend_disk();
        }
        self.after(Duration::from_millis(300), Event::Start { node: place });
        Ok(())
    }

    /// The disk is gone, or a new one: nothing that was durable on it is owed any more.
    pub(super) fn forget_disk(&mut self, place: usize) {
        for former in self.nodes[place].formers.clone() {
            self.checker.forget_disk(place, &former, Version::ZERO);
        }
    }

    pub(super) fn settings(&self, place: usize) -> GossipSettings {
        GossipSettings {
            interval: Duration::from_millis(self.options.gossip_interval_ms),
            digest_interval: Duration::from_millis(self.options.digest_interval_ms),
            direct_up_to: self.options.direct_up_to,
            fanout: self.options.fanout,
            frame_bytes_max: self.options.frame_bytes_max,
            handshake_timeout: Duration::from_secs(2),
            silence_timeout: Duration::from_millis(
                (self.options.digest_interval_ms * 3).max(3_000),
            ),
            presumed_dead_after: self.options.presumed_dead_ms.map(Duration::from_millis),
            heeds_cuts: self.nodes[place].policy.heeds_cuts(),
            ..GossipSettings::default()
        }
    }

    pub(super) fn kill(&mut self, place: usize) {
        let Some(life) = self.nodes[place].life.take() else { return };
        self.checker.may_lose = true;
        self.nodes[place].disk.crash(self.options.faults.has(Fault::Torn));
        let mine: Vec<(LinkId, LinkId)> = self
            .links
            .iter()
            .filter(|(_, end)| end.node == place && end.life == life.number)
            .map(|(link, end)| (*link, end.far))
            .collect();
        for (link, far) in mine {
            self.links.remove(&link);
            // Some peers hear of it from their system, others find out by the silence.
            if self.chance(0.7) {
                let delay = self.draw_ms(50);
                self.after(delay, Event::LinkDown { link: far });
            }
        }
    }

    pub(super) fn kill_and_restart(&mut self, place: usize) {
        self.kill(place);
        if self.nodes[place].is_pod {
            return;
        }
        // Now and then it stays away for longer than its counters are kept.
        let away_ms = if self.chance(0.2) { 6_000 } else { 1_500 };
        let delay = self.draw_ms(away_ms);
        self.after(delay, Event::Start { node: place });
    }

    pub(super) fn checkpoint(&mut self, place: usize, number: u64) -> Checked {
        let wall = self.wall(place);
        let paused = self.nodes[place].paused_until > self.now;
        let settles = self.chance(0.5);
        let compacts = self.chance(0.02);
        let tries_again = self.chance(0.1);
        let Some(life) = self.nodes[place].life.as_mut().filter(|life| life.number == number)
        else {
            return Ok(());
        };
        let (table, replica) = (life.table.clone(), life.replica.clone());
        let was_durable = life.store.is_durable();
        let written = if paused {
            Ok(false)
        } else if !was_durable {
            table.forget_dropped();
            match tries_again {
                true => life.store.rebuild(&table, wall).map(|()| true),
                false => Ok(false),
            }
        } else {
            let written = life.store.write(&table, wall);
            let written =
                written.and_then(|_| if settles { life.store.sync_meta() } else { Ok(()) });
            let compacted = |()| if compacts { life.store.compact() } else { Ok(false) };
            written.and_then(compacted).map(|_| true)
        };
        self.look_at(place)?;
        match written {
            Ok(false) => {}
            Ok(true) => self.acknowledge(place, &replica, &table, wall),
            Err(_) => self.checker.may_lose = true,
        }
        if self.nodes[place].disk.is_dead() {
            self.kill_and_restart(place);
            return Ok(());
        }
        let delay = Duration::from_millis(self.options.checkpoint_ms);
        let delay = delay + self.draw_ms(self.options.checkpoint_ms);
        let delay = delay.max(self.nodes[place].paused_until.saturating_sub(self.now));
        self.after(delay, Event::Checkpoint { node: place, life: number });
        Ok(())
    }

    pub(super) fn acknowledge(
        &mut self,
        place: usize,
        replica: &ReplicaId,
        table: &tallymesh_core::table::Table,
        wall: Timestamp,
    ) {
        let clock = Timestamp(wall.0.saturating_sub(CLOCK_EVERY_MS));
        self.checker.acknowledged(place, replica, table.watermark(replica), clock);
    }
}
