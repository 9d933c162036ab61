//! What goes wrong, and the end of it.

use std::time::Duration;

use rand::RngExt;
use tallymesh::CounterKey;
use tallymesh::simulation::Change;

use super::{Event, World};
use crate::options::Fault;

impl World<'_> {
    pub(super) fn fault(&mut self) {
        let place = self.random.get_mut().random_range(0..self.nodes.len());
        let faults = self.options.faults.clone();
        match self.random.get_mut().random_range(0..8_u32) {
            0 | 1 if faults.has(Fault::Partition) => self.partition(place),
            2 if faults.has(Fault::Partition) => self.cut.clear(),
            3 | 4 if faults.has(Fault::Crash) => {
                self.kill(place);
                if faults.has(Fault::Wipe) && self.chance(0.2) {
                    self.nodes[place].disk.wipe();
                    for former in self.nodes[place].formers.clone() {
                        self.checker.forget_disk(&former);
                    }
                }
                let delay = self.draw_ms(1_500);
                self.after(delay, Event::Start { node: place });
            }
            5 if faults.has(Fault::DiskError) => self.nodes[place].disk.break_down(),
            6 if faults.has(Fault::Clock) => {
                self.nodes[place].clock_offset_ms =
                    self.random.get_mut().random_range(-3_000..3_000);
            }
            7 if faults.has(Fault::Pause) && self.chance(0.5) => {
                let pause = self.draw_ms(4_000);
                self.nodes[place].paused_until = self.now + pause;
            }
            7 if faults.has(Fault::Reset) => self.reset(place),
            _ => {}
        }
    }

    pub(super) fn partition(&mut self, place: usize) {
        let both_ways = self.chance(0.7);
        for other in (0..self.nodes.len()).filter(|other| *other != place) {
            if self.chance(0.8) {
                self.cut.insert((place, other));
                if both_ways {
                    self.cut.insert((other, place));
                }
            }
        }
    }

    pub(super) fn reset(&mut self, place: usize) {
        let session = self.random.get_mut().random_range(0..self.options.sessions);
        let tool = self.random.get_mut().random_range(0..3);
        let key = CounterKey::new("tool", &[&format!("s{session}"), &format!("t{tool}")]);
        let now = self.wall(place);
        if let Some(life) = self.life(place) {
            let end = now.plus(Duration::from_secs(3600));
            // There is room, the key is short, and it has no window: nothing is refused.
            let _ = life.table.change(now, &key, Change::Reset, end);
            self.checker.reset(&key);
        }
    }

    pub(super) fn heal(&mut self) {
        self.healed = true;
        self.cut.clear();
        for place in 0..self.nodes.len() {
            self.nodes[place].paused_until = self.now;
            self.nodes[place].clock_offset_ms = 0;
            if self.nodes[place].life.is_none() {
                self.after(Duration::from_millis(1), Event::Start { node: place });
            }
        }
    }
}
