//! Lives of processes: starts, recoveries, checkpoints and ends.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use tallymesh::simulation::{Checkpointer, Gossip, Input, LinkId, Restore, Table, recover};
use tallymesh::{Bounds, GossipSettings, Incarnation, ReplicaId, Timestamp};

use super::{Checked, Event, Life, World, counters};
use crate::checker::Violation;

impl World<'_> {
    pub(super) fn life(&self, node: usize) -> Option<&Life> {
        self.nodes[node].life.as_ref()
    }

    pub(super) fn start(&mut self, place: usize) -> Checked {
        if self.nodes[place].life.is_some() {
            return Ok(());
        }
        let nonce = self.random.get_mut().random();
        let seeds = self.random.get_mut().random::<[u64; 4]>();
        let gossip_seed = self.random.get_mut().random();
        let node = &mut self.nodes[place];
        node.boot += 1;
        node.lives += 1;
        let incarnation = Incarnation { boot: node.boot, nonce };
        let replica = ReplicaId { node: node.name.clone(), incarnation };
        self.checker.born(&replica)?;
        let bounds = Bounds { grace: Duration::from_secs(2), ..Bounds::default() };
        let table = Arc::new(Table::new(replica.clone(), bounds, seeds));
        let mut restore = Restore::into(&table);
        let found = match recover(&node.disk, |counter| restore.add(&counter)) {
            Ok(found) => found,
            Err(error) => {
                let what =
                    format!("{} finds its disk damaged, which it is not: {error}", node.name);
                return Err(Violation { invariant: "durability", what, counter: None });
            }
        };
        if let Some(found) = &found {
            restore.finish(found.watermarks());
        }
        node.high_water = found.as_ref().map_or(Timestamp(0), |found| found.clock());
        let storage = Box::new(node.disk.clone());
        let checkpointer = Checkpointer::on(storage, found.as_ref(), &node.name).ok();
        let formers = std::mem::take(&mut node.formers);
        let number = node.lives;
        let wall = self.wall(place);
        for former in &formers {
            self.checker.recovered(wall, former, &counters(&table))?;
        }
        let now = self.time(place);
        let gossip = Gossip::new(table.clone(), self.settings(), gossip_seed, now);
        let node = &mut self.nodes[place];
        node.formers = formers;
        node.formers.push(replica.clone());
        node.timer_at = None;
        node.life = Some(Life { number, replica, table, gossip, checkpointer });
        let addresses = (0..self.nodes.len()).map(|other| other.to_string()).collect();
        self.input(place, Input::Addresses(addresses));
        let delay = self.draw_ms(20);
        self.after(delay, Event::Checkpoint { node: place, life: number });
        Ok(())
    }

    pub(super) fn settings(&self) -> GossipSettings {
        GossipSettings {
            interval: Duration::from_millis(self.options.gossip_interval_ms),
            digest_interval: Duration::from_millis(500),
            direct_up_to: self.options.direct_up_to,
            fanout: 3,
            frame_bytes_max: self.options.frame_bytes_max,
            handshake_timeout: Duration::from_secs(2),
            silence_timeout: Duration::from_secs(3),
            ..GossipSettings::default()
        }
    }

    pub(super) fn kill(&mut self, place: usize) {
        let Some(life) = self.nodes[place].life.take() else { return };
        self.checker.may_lose = true;
        self.nodes[place].disk.crash(&self.random);
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

    pub(super) fn checkpoint(&mut self, place: usize, number: u64) {
        let wall = self.wall(place);
        let paused = self.nodes[place].paused_until > self.now;
        let settles = self.chance(0.5);
        let Some(life) = self.nodes[place].life.as_mut().filter(|life| life.number == number)
        else {
            return;
        };
        if let Some(checkpointer) = life.checkpointer.as_mut().filter(|_| !paused) {
            let written = checkpointer.write(&life.table, wall);
            let written = written.and_then(|()| match settles {
                true => checkpointer.settle(),
                false => Ok(()),
            });
            match written {
                Ok(()) => self.checker.acknowledged(&life.replica, &counters(&life.table)),
                Err(_) => {
                    life.checkpointer = None;
                    self.checker.may_lose = true;
                    self.checker.forget_disk(&life.replica);
                }
            }
        }
        let delay = Duration::from_millis(20) + self.draw_ms(20);
        self.after(delay, Event::Checkpoint { node: place, life: number });
    }
}
