//! Orderly ends of processes, in the same steps as the node's shell: refuse, tell the peers, write, end. Calls come all the while.

use std::time::Duration;

use tallymesh_core::gossip::Input;
use tallymesh_core::table::{DirtySet, Rejections};

use super::network::End;
use super::node::Closing;
use super::{Checked, Event, World};
use crate::checker::Violation;
use crate::faults::Fault;

impl World<'_> {
    pub(super) fn begin_to_close(&mut self, place: usize) -> Checked {
        let life = self.nodes[place].life.as_mut();
        let Some(life) = life.filter(|life| life.closing == Closing::No) else { return Ok(()) };
        life.closing = Closing::Begun(self.now);
        life.table.close();
        self.input(place, Input::Stop)
    }

    /// Looks whether a process that closes has said goodbye: its last checkpoint comes next.
    pub(super) fn look_whether_left(&mut self, place: usize) -> Checked {
        let Some(life) = self.nodes[place].life.as_mut() else { return Ok(()) };
        let Closing::Begun(began) = life.closing else { return Ok(()) };
        if !life.gossip.has_left() {
            return Ok(());
        }
        life.closing = Closing::Left;
        let number = life.number;
        self.check_leaving(place, began)?;
        let delay = self.draw_ms(200);
        self.after(delay, Event::LastCheckpoint { node: place, life: number });
        Ok(())
    }

    /// A clean stop with a link that works loses no count: who says that a peer has confirmed everything must be right, and where
    /// a peer could all the while, one must have.
    fn check_leaving(&mut self, place: usize, began: Duration) -> Checked {
        if self.liar().is_some() {
            // It may confirm what it has not got, and it may be the only one.
            return Ok(());
        }
        let Some(life) = self.life(place) else { return Ok(()) };
        let (replica, unconfirmed) = (life.replica.clone(), life.gossip.unconfirmed());
        life.table.harvest(DirtySet::All);
        let own = life.table.watermark(&replica);
        let confirmed = own.0.saturating_sub(unconfirmed);
        let others: Vec<usize> = (0..self.nodes.len()).filter(|other| *other != place).collect();
        let stay =
            |other: &usize| self.life(*other).is_some_and(|life| life.closing == Closing::No);
        let held = others.iter().filter_map(|other| self.life(*other));
        let held = held.map(|life| life.table.watermark(&replica).0).max().unwrap_or(0);
        // The peer that confirmed it may have crashed or lost its disk since.
        if !self.checker.may_lose && others.iter().all(stay) && held < confirmed {
            let what = format!(
                "{replica} leaves and says that a peer has its updates up to {confirmed}, and the most that one has is {held}"
            );
            return Err(Violation { invariant: "leaving", what, counter: None });
        }
        if unconfirmed > 0
            && let Some(peer) = self.could_confirm(place, began)
        {
            let what = format!(
                "{replica} leaves with {unconfirmed} updates that no peer has confirmed, and could have told {peer}"
            );
            return Err(Violation { invariant: "leaving", what, counter: None });
        }
        Ok(())
    }

    /// The name of a peer with which nothing was wrong since then: it runs and stays, hears and is heard.
    fn could_confirm(&self, place: usize, since: Duration) -> Option<String> {
        // By a clock that is off, what is counted here may be implausible there.
        if self.options.faults.has(Fault::Clock) || self.nodes[place].paused_until >= since {
            return None;
        }
        // What was lost before is sent again after a while.
        let is_whole = |end: &End| {
            let peace = Duration::from_secs(3);
            end.since + peace < since && end.troubled_at.is_none_or(|at| at + peace < since)
        };
        let links = self.links.values().filter(|end| end.node == place && is_whole(end));
        let mut peers = links.filter(|end| {
            let back = self.links.get(&end.far).filter(|back| is_whole(back));
            self.nodes[end.far_node].paused_until < since
                && self.life(end.far_node).is_some_and(|life| {
                    life.closing == Closing::No
                        && back.is_some_and(|back| back.life == life.number)
                        && life.table.rejections() == Rejections::default()
                })
        });
        peers.find_map(|end| Some(self.nodes.get(end.far_node)?.name.to_string()))
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
