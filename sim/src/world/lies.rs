//! A member that lies: an honest node, of whose messages one field each is changed on the way out, to any value of its type, or to the
//! most that is believed. It knows all ids. Until everything is repaired; from then on it is honest, and its lies must wear off.

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use tallymesh_core::crdt::{COUNT_MAX, DigestEntry, Marks, Update};
use tallymesh_core::id::{ReplicaId, Version};
use tallymesh_core::limit::WINDOW_MAX;
use tallymesh_core::table::{Bounds, CounterState, DirtySet};
use tallymesh_core::time::Timestamp;
use tallymesh_core::wire::{Message, Outbox, read_frame};

use super::checks::counters;
use super::phases::Phase;
use super::{Checked, World};
use crate::checker::Violation;
use crate::faults::{Fault, Faults};

/// By then all nodes have met.
const BEGINS_MS: u128 = 2_000;
/// One frame in so many holds a lie.
const ONE_IN: u32 = 20;

/// What a liar draws its values from.
struct Liar<'a> {
    random: &'a mut StdRng,
    /// Every replica that ever lived.
    known: &'a [ReplicaId],
    /// Whether its numbers are the highest that are believed; else they are any.
    at_bound: bool,
    /// By the clock of who hears it.
    now: Timestamp,
    most: &'a dyn Fn(&ReplicaId) -> Version,
    generation_max: u32,
}

impl World<'_> {
    /// Which node lies, if one does.
    pub(super) fn liar(&self) -> Option<usize> {
        self.options.faults.has(Fault::Lie).then(|| self.options.nodes - 1)
    }

    /// Whether what leaves a node now may be a lie.
    pub(super) fn lies_now(&self, place: usize) -> bool {
        let is_time = matches!(self.phase, Phase::Busy | Phase::HoursLater);
        self.liar() == Some(place) && is_time && self.now.as_millis() >= BEGINS_MS
    }

    /// Changes a field in a frame, now and then.
    pub(super) fn lie(&mut self, to: usize, frame: &mut Vec<u8>) {
        if self.random.get_mut().random_range(0..ONE_IN) > 0 {
            return;
        }
        let Ok(received) = read_frame(frame, usize::MAX) else { return };
        let mut messages = received.messages;
        let known: Vec<ReplicaId> =
            self.nodes.iter().flat_map(|node| node.formers.iter().cloned()).collect();
        let now = self.wall(to);
        let Some(life) = &self.nodes[to].life else { return };
        let table = life.table.clone();
        let mut liar = Liar {
            random: self.random.get_mut(),
            known: &known,
            at_bound: self.options.seed.is_multiple_of(2),
            now,
            most: &|replica| table.version_max(now, replica),
            generation_max: table.generation_max(now),
        };
        let of_replicas = messages.iter_mut().filter(|message| is_about_replicas(message));
        let mut of_replicas: Vec<&mut Message> = of_replicas.collect();
        if of_replicas.is_empty() {
            return;
        }
        let which = liar.random.random_range(0..of_replicas.len());
        liar.change(of_replicas[which]);
        let mut outbox = Outbox::default();
        for message in &messages {
            // All fit in one frame, as before.
            let _ = outbox.push(message, usize::MAX);
        }
        *frame = outbox.finish().unwrap_or_default();
    }

    /// What holds at every moment while a member lies, of the others.
    pub(super) fn check_good(&mut self) -> Checked {
        let good: Vec<usize> = self.good().collect();
        for place in &good {
            let now = self.wall(*place);
            let Some(life) = &self.nodes[*place].life else { continue };
            let soon = Timestamp(now.0 + 1_000);
            let most = life.table.generation_max(soon);
            let held = counters(&life.table);
            if let Some(last) = held.iter().find(|counter| counter.generation >= most) {
                let what = format!(
                    "{} holds generation {}, and no peer would believe the next reset",
                    life.replica, last.generation
                );
                return Err(Violation { invariant: "I15", what, counter: Some(last.key.clone()) });
            }
            if !self.is_its_writers_word_alone() {
                continue;
            }
            let writers = good.iter().filter_map(|place| self.nodes[*place].life.as_ref());
            let writers: Vec<ReplicaId> = writers.map(|life| life.replica.clone()).collect();
            for counter in &held {
                self.checker.holds_at_most(&life.replica, counter, &writers)?;
            }
        }
        Ok(())
    }

    /// Whether good nodes hear of each other from themselves alone: each has a link to all others, and nothing else goes wrong.
    fn is_its_writers_word_alone(&self) -> bool {
        let only: Faults = [Fault::Lie].into_iter().collect();
        self.options.faults == only && self.options.direct_up_to > self.options.nodes
    }

    /// I3, where a member has lied: each good node has of every other what that one holds itself, in counters that did not
    /// get a newer generation here. Returns the first difference.
    pub(super) fn not_healed(&mut self) -> Option<Violation> {
        let good: Vec<usize> = self.good().collect();
        let latest = self.latest(&good);
        for place in &good {
            if let Some(life) = &self.nodes[*place].life {
                life.table.harvest(DirtySet::All);
                self.checker.observe(&life.table, &life.replica);
            }
        }
        let lives: Vec<_> =
            good.iter().filter_map(|place| self.nodes[*place].life.as_ref()).collect();
        for writer in &lives {
            let own = &writer.replica;
            let held = counters(&writer.table);
            let lasting = held.iter().filter(|counter| self.lasts(counter, latest));
            let lasting: Vec<&CounterState> = lasting.collect();
            for reader in lives.iter().filter(|reader| reader.replica != *own) {
                let (given, seen) = (writer.table.own_watermark(), reader.table.watermark(own));
                if given != seen {
                    let what =
                        format!("{} has {own} up to {seen}, which gave {given}", reader.replica);
                    return Some(Violation { invariant: "I3", what, counter: None });
                }
                for counter in &lasting {
                    let key = counter.key.as_bytes();
                    let Some((generation, version)) = writer.table.held(key, own) else { continue };
                    let there = reader.table.held(key, own).unwrap_or_default();
                    // What it was told before a start is on its disk, as if it had been true. And what was given out for
                    // another cell, a reader cannot tell from it, nor can the writer.
                    let is_owed = reader.number == 1 && version > Version::ZERO;
                    if is_owed && there < (generation, version) || there.1 > given {
                        let what = format!(
                            "{} has {own} at {there:?}, which is at {:?}",
                            reader.replica,
                            (generation, version)
                        );
                        let counter = Some(counter.key.clone());
                        return Some(Violation { invariant: "I3", what, counter });
                    }
                }
            }
        }
        None
    }

    /// Whether a counter ends later than the run, by its own making: a lie may have made one last longer here than elsewhere.
    fn lasts(&self, counter: &CounterState, latest: Timestamp) -> bool {
        let long = self.options.limits.long();
        let is_honest = counter.key.window().is_some()
            || u128::from(counter.marks.p0) == long.as_millis() && long.as_secs() > 60;
        is_honest && counter.expires_at > latest.plus(std::time::Duration::from_secs(10))
    }

    /// The nodes that never lie.
    fn good(&self) -> impl Iterator<Item = usize> + use<> {
        let liar = self.liar();
        (0..self.options.nodes).filter(move |place| Some(*place) != liar)
    }
}

/// Whether a message says something of counters and versions. Who it is, and that it goes, is said truly.
fn is_about_replicas(message: &Message) -> bool {
    match message {
        Message::Digest { entries, .. } | Message::Entries { entries, .. } => !entries.is_empty(),
        Message::Delta(_)
        | Message::Push { .. }
        | Message::Ack { .. }
        | Message::Request { .. }
        | Message::Pong { .. }
        | Message::Feed { .. } => true,
        _ => false,
    }
}

impl Liar<'_> {
    fn change(&mut self, message: &mut Message) {
        match message {
            Message::Digest { entries, others, last, .. } => match self.random.random_range(0..8) {
                0 => *others = Some(self.random.random()),
                1 => *last = !*last,
                _ => self.change_entry(entries),
            },
            Message::Entries { entries, .. } => self.change_entry(entries),
            Message::Delta(delta) => match self.random.random_range(0..8) {
                0 => delta.replica = self.replica(),
                1 => delta.from = self.version(&delta.replica.clone()),
                2 => delta.chain = self.random.random(),
                3 => delta.part = self.random.random(),
                4 => delta.watermark = Some(self.version(&delta.replica.clone())),
                5 => delta.as_of = Some(self.time()),
                _ => self.change_update(&delta.replica.clone(), &mut delta.updates),
            },
            Message::Push { replica, updates, at_once } => match self.random.random_range(0..4) {
                0 => *replica = self.replica(),
                1 => *at_once = !*at_once,
                _ => self.change_update(&replica.clone(), updates),
            },
            Message::Ack { watermark } => *watermark = Version(self.random.random()),
            Message::Request { replica, from } => match self.random.random_bool(0.5) {
                true => *replica = self.replica(),
                false => *from = self.version(&replica.clone()),
            },
            Message::Pong { wall } => *wall = Timestamp(self.random.random()),
            Message::Feed { passes_on, is_fed } => match self.random.random_bool(0.5) {
                true => *passes_on = !*passes_on,
                false => *is_fed = !*is_fed,
            },
            _ => {}
        }
    }

    fn change_entry(&mut self, entries: &mut [DigestEntry]) {
        let Some(entry) = pick(self.random, entries) else { return };
        match self.random.random_range(0..4) {
            0 => entry.replica = self.replica(),
            1 => entry.ahead = self.random.random(),
            2 => entry.end = self.time(),
            _ => entry.watermark = self.version(&entry.replica.clone()),
        }
    }

    fn change_update(&mut self, of: &ReplicaId, updates: &mut [Update]) {
        let Some(update) = pick(self.random, updates) else { return };
        let at_bound = self.at_bound;
        match self.random.random_range(0..7) {
            0 => update.version = self.version(of),
            1 => {
                update.generation =
                    if at_bound { self.generation_max } else { self.random.random() };
            }
            2 => update.p = if at_bound { COUNT_MAX } else { self.random.random() },
            3 => update.n = if at_bound { update.p } else { self.random.random() },
            4 => update.marks.at = self.time().0.min(Marks::AT_MAX),
            5 => {
                let longest = WINDOW_MAX.as_millis() as u64;
                update.marks.p0 = if at_bound { longest } else { self.random.random() };
            }
            _ => update.p = self.random.random_range(0..9),
        }
    }

    fn replica(&mut self) -> ReplicaId {
        // Proven: it lives itself.
        self.known.choose(self.random).expect("a replica").clone()
    }

    fn version(&mut self, of: &ReplicaId) -> Version {
        if self.at_bound { (self.most)(of) } else { Version(self.random.random()) }
    }

    fn time(&mut self) -> Timestamp {
        let latest = self.now.plus(Bounds::default().future_max);
        if self.at_bound { latest } else { Timestamp(self.random.random()) }
    }
}

fn pick<'a, T>(random: &mut StdRng, some: &'a mut [T]) -> Option<&'a mut T> {
    let which = random.random_range(0..some.len().max(1));
    some.get_mut(which)
}
