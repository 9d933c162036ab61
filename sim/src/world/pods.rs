//! Pods: processes with names of their own and disks that no start finds again, which a platform starts and ends as it likes.

use std::time::Duration;

use rand::RngExt;
use rand::seq::IteratorRandom;

use super::node::Node;
use super::{Checked, Event, World};

/// The most that run at one time, and in a whole run.
const AT_ONCE: usize = 4;
const IN_ALL: usize = 40;

impl World<'_> {
    /// The platform starts some, ends some, or puts a new one in the place of each.
    pub(super) fn scale(&mut self) -> Checked {
        let running: Vec<usize> = self.pods().collect();
        match self.random.get_mut().random_range(0..4_u32) {
            0 | 1 => {
                let more = self.random.get_mut().random_range(1..=3);
                (0..more).for_each(|_| self.start_pod());
                Ok(())
            }
            2 => {
                let ended = running.into_iter().choose(self.random.get_mut());
                ended.map_or(Ok(()), |place| self.end_pod(place))
            }
            _ => {
                for place in running {
                    self.end_pod(place)?;
                    self.start_pod();
                }
                Ok(())
            }
        }
    }

    fn pods(&self) -> impl Iterator<Item = usize> + '_ {
        let running = self.nodes.iter().enumerate();
        running.filter(|(_, node)| node.is_pod && node.life.is_some()).map(|(place, _)| place)
    }

    fn start_pod(&mut self) {
        let ever = self.nodes.iter().filter(|node| node.is_pod).count();
        if self.pods().count() >= AT_ONCE || ever >= IN_ALL {
            return;
        }
        let place = self.nodes.len();
        let pod = Node::new(place, self.options, self.random.get_mut());
        self.nodes.push(Node { is_pod: true, ..pod });
        // Who is repaired already is cut off from it too.
        for calm in self.calm.clone() {
            self.cut.insert((calm, place));
            self.cut.insert((place, calm));
        }
        let delay = self.draw_ms(200);
        self.after(delay, Event::Start { node: place });
    }

    /// As a platform ends one: told, or not.
    fn end_pod(&mut self, place: usize) -> Checked {
        if self.chance(0.6) {
            // It is killed if it takes too long.
            self.after(Duration::from_secs(3), Event::Kill { node: place });
            return self.begin_to_close(place);
        }
        self.kill(place);
        Ok(())
    }
}
