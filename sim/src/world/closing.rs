//! Orderly ends of processes, in the same steps as the node's shell: refuse, tell the peers, write, end. Calls come all the while.

use std::time::Duration;

use tallymesh_core::gossip::Input;
use tallymesh_core::table::DirtySet;

use super::node::Closing;
use super::{Checked, Event, World};
use crate::checker::Violation;

impl World<'_> {
    pub(super) fn begin_to_close(&mut self, place: usize) -> Checked {
        let life = self.nodes[place].life.as_mut();
        let Some(life) = life.filter(|life| life.closing == Closing::No) else { return Ok(()) };
        life.closing = Closing::Begun;
        life.table.close();
        let number = life.number;
        let delay = self.draw_ms(200);
        self.after(delay, Event::LastCheckpoint { node: place, life: number });
        self.input(place, Input::Stop)
    }

    pub(super) fn last_checkpoint(&mut self, place: usize, number: u64) -> Checked {
        let paused_for = self.nodes[place].paused_until.saturating_sub(self.now);
        if paused_for > Duration::ZERO {
            self.after(paused_for, Event::LastCheckpoint { node: place, life: number });
            return Ok(());
        }
        let wall = self.wall(place);
        let Some(life) = self.nodes[place].life.as_mut().filter(|life| life.number == number)
        else {
            return Ok(());
        };
        let (table, replica) = (life.table.clone(), life.replica.clone());
        let written = match life.store.is_durable() {
            true => life.store.write(&table, wall).and_then(|_| life.store.sync_meta()),
            false => life.store.rebuild(&table, wall),
        };
        life.closing = match written {
            Ok(()) => Closing::Written(table.watermark(&replica)),
            Err(_) => Closing::Failed,
        };
        match written {
            Ok(()) => self.acknowledge(place, &replica, &table, wall),
            Err(_) => self.checker.may_lose = true,
        }
        self.look_at(place)?;
        if self.nodes[place].disk.is_dead() {
            self.kill_and_restart(place);
            return Ok(());
        }
        let delay = self.draw_ms(300);
        self.after(delay, Event::Closed { node: place, life: number });
        Ok(())
    }

    /// A process has closed: all that it ever counted is in its last checkpoint.
    pub(super) fn closed(&mut self, place: usize, number: u64) -> Checked {
        let Some(life) = self.life(place).filter(|life| life.number == number) else {
            return Ok(());
        };
        life.table.harvest(DirtySet::All);
        let counted = life.table.watermark(&life.replica);
        if let Closing::Written(written) = life.closing
            && counted != written
        {
            let what = format!(
                "{} has counted up to version {counted}, and its last checkpoint has {written}",
                life.replica
            );
            return Err(Violation { invariant: "durability", what, counter: None });
        }
        match self.is_calm(place) {
            false => self.kill_and_restart(place),
            true => {
                self.kill(place);
                self.after(Duration::from_millis(100), Event::Start { node: place });
            }
        }
        Ok(())
    }
}
