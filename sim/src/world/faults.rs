//! What goes wrong.

use std::time::Duration;

use rand::RngExt;
use tallymesh_core::key::CounterKey;
use tallymesh_core::limit::{Demand, Lifetime, Request};
use tallymesh_core::table::Op;

use super::{Checked, Event, World};
use crate::faults::Fault;
use crate::options::Kind;

/// So far ahead, with some to spare, peers believe a use: ten minutes.
const BELIEVED_MS: i64 = 620_000;
/// The farthest that a wall clock is set off: 3 days.
const FAR_MS: i64 = 3 * 24 * 3_600_000;

impl World<'_> {
    pub(super) fn fault(&mut self) -> Checked {
        if self.is_over() {
            return Ok(());
        }
        let delay = self.draw_ms(1_000);
        self.after(delay, Event::Fault);
        let place = self.random.get_mut().random_range(0..self.options.nodes);
        if self.is_calm(place) {
            return Ok(());
        }
        let has = |fault| self.options.faults.has(fault);
        match self.random.get_mut().random_range(0..19_u32) {
            0 | 1 if has(Fault::Partition) => self.partition(place),
            2 if has(Fault::Partition) => {
                let calm = self.calm.clone();
                self.cut.retain(|(from, to)| calm.contains(from) || calm.contains(to));
            }
            3 if has(Fault::Flapping) => {
                let other = self.random.get_mut().random_range(0..self.options.nodes);
                let left = self.random.get_mut().random_range(4..20);
                self.after(Duration::ZERO, Event::Flap { from: place, to: other, left });
            }
            4..=6 if has(Fault::Crash) => self.crash(place),
            7 if has(Fault::Storm) => self.storm(),
            8 if has(Fault::DiskError) => {
                self.nodes[place].disk.set_sync_fails(true);
                let delay = self.draw_ms(3_000);
                self.after(delay, Event::MendDisk { node: place });
            }
            9 if has(Fault::FullDisk) => {
                self.nodes[place].disk.set_full(true);
                let delay = self.draw_ms(3_000);
                self.after(delay, Event::MendDisk { node: place });
            }
            10 if has(Fault::BitRot) => self.nodes[place].disk.rot(),
            11 if has(Fault::Clock) => self.set_clock(place),
            12 if has(Fault::Pause) => {
                let pause = self.draw_ms(5_000);
                self.nodes[place].paused_until = self.now + pause;
            }
            13 if has(Fault::Reset) => return self.reset(place),
            14 if has(Fault::Clone) && self.chance(0.3) => {
                self.after(Duration::ZERO, Event::Clone { node: place });
            }
            15 if has(Fault::Backup) => self.back_up(place),
            16 if has(Fault::Close) => return self.begin_to_close(place),
            17 | 18 if has(Fault::Pods) => return self.scale(),
            _ => {}
        }
        Ok(())
    }

    /// Sets a wall clock off by seconds, and now and then by hours or days.
    fn set_clock(&mut self, place: usize) {
        let far = self.chance(0.15);
        let random = self.random.get_mut();
        let offset_ms = match far {
            true => random.random_range(-FAR_MS..FAR_MS) / random.random_range(1..30),
            false => random.random_range(-3_000..3_000),
        };
        // Where all must come to agree, no clock is so little ahead that peers believe in a session's use by it, and so much that
        // they had dropped what the session had counted before: then its counts may differ until it ends, as the docs say.
        let is_between = (3_000..BELIEVED_MS).contains(&offset_ms);
        let is_left_out = self.options.kind == Kind::Liveness && is_between;
        self.nodes[place].clock.set(if is_left_out { -offset_ms } else { offset_ms });
    }

    /// Kills a process now, or in the middle of its next writes or sends.
    fn crash(&mut self, place: usize) {
        match self.random.get_mut().random_range(0..4_u32) {
            0 => {
                let operations = self.random.get_mut().random_range(1..60);
                self.nodes[place].disk.set_fuse(operations);
            }
            1 => {
                let sends = self.random.get_mut().random_range(1..20);
                self.nodes[place].sends_left = Some(sends);
            }
            _ => {
                self.kill_and_restart(place);
                if self.options.faults.has(Fault::Wipe) && self.chance(0.15) {
                    self.nodes[place].disk.wipe();
                    self.forget_disk(place);
                } else if self.options.faults.has(Fault::Backup) && self.chance(0.5) {
                    self.restore(place);
                }
            }
        }
    }

    fn back_up(&mut self, place: usize) {
        let node = &self.nodes[place];
        let durable =
            |former: &tallymesh_core::id::ReplicaId| (former.clone(), self.checker.durable(former));
        let owed = node.formers.iter().map(durable).collect();
        self.nodes[place].backup = Some((node.disk.backup(), owed));
    }

    /// Puts an old copy of the disk in the place of the present one.
    fn restore(&mut self, place: usize) {
        let Some((backup, owed)) = self.nodes[place].backup.take() else { return };
        self.nodes[place].disk.restore(&backup);
        self.forget_newer(place, &owed);
    }

    fn forget_newer(
        &mut self,
        place: usize,
        owed: &[(tallymesh_core::id::ReplicaId, tallymesh_core::id::Version)],
    ) {
        for former in self.nodes[place].formers.clone() {
            let owed = owed.iter().find(|(known, _)| *known == former);
            let version = owed.map_or(tallymesh_core::id::Version::ZERO, |(_, version)| *version);
            self.checker.forget_disk(place, &former, version);
        }
    }

    fn storm(&mut self) {
        let kills = self.random.get_mut().random_range(3..12);
        for number in 0..kills {
            let node = self.random.get_mut().random_range(0..self.options.nodes);
            let at = Duration::from_millis(number * 60) + self.draw_ms(60);
            self.after(at, Event::Kill { node });
            self.after(at + Duration::from_millis(80), Event::Start { node });
        }
    }

    /// A second process begins on a copy of a node's disk, and ends some seconds later.
    pub(super) fn start_clone(&mut self, node: usize) {
        if self.nodes.iter().any(|node| node.is_clone && node.life.is_some()) {
            return;
        }
        let seed = self.random.get_mut().random();
        let clone = self.nodes[node].cloned(seed);
        let place = self.nodes.len();
        self.nodes.push(clone);
        self.after(Duration::from_millis(1), Event::Start { node: place });
        let stays = Duration::from_millis(1_000) + self.draw_ms(4_000);
        self.after(stays, Event::Kill { node: place });
    }

    fn partition(&mut self, place: usize) {
        let both_ways = self.chance(0.7);
        let others: Vec<usize> = (0..self.nodes.len())
            .filter(|other| *other != place && !self.is_calm(*other))
            .collect();
        for other in others {
            if self.chance(0.8) {
                self.cut.insert((place, other));
                if both_ways {
                    self.cut.insert((other, place));
                }
            }
        }
    }

    pub(super) fn flap(&mut self, from: usize, to: usize, left: u32) {
        if self.is_calm(from) || self.is_calm(to) {
            return;
        }
        if left == 0 {
            self.cut.remove(&(from, to));
            return;
        }
        if !self.cut.remove(&(from, to)) {
            self.cut.insert((from, to));
        }
        let delay = Duration::from_millis(20) + self.draw_ms(300);
        self.after(delay, Event::Flap { from, to, left: left - 1 });
    }

    fn reset(&mut self, place: usize) -> Checked {
        let session = self.random.get_mut().random_range(0..self.options.sessions);
        let tool = self.random.get_mut().random_range(0..3);
        let now = self.wall(place);
        let (session, tool) = (format!("s{session}"), format!("t{tool}"));
        let policy = &self.nodes[place].policy;
        let demands = policy.demands_with_labels(&Request::tool_call(&session, &tool), now);
        let is_of_tool = |demand: &&Demand| policy.limits()[demand.limit_index].name() == "tool";
        let key = demands.list.iter().find(is_of_tool).map(|demand| demands.key(demand));
        let key = key.and_then(|key| CounterKey::from_bytes(key).ok());
        if let (Some(life), Some(key)) = (self.life(place), key) {
            let lifetime = Lifetime::new(self.options.limits.long());
            // There is room, the key is short, and it has no window: only a node that closes refuses it.
            if life.table.execute(now, &key, Op::Reset, lifetime).is_ok() {
                self.checker.reset(&key);
            }
        }
        self.changed(place)
    }
}
