//! Every state that a replica gave a version to: what its peers may hold of it, and what a watermark vouches for.

use tallymesh_core::crdt::Update;
use tallymesh_core::id::{ReplicaId, Version};
use tallymesh_core::key::CounterKey;
use tallymesh_core::table::Table;
use tallymesh_core::time::Timestamp;
use tallymesh_core::wire::{Message, Outbox, read_frame};

use super::{Checked, Checker, broken};

/// One replica, as a writer.
#[derive(Debug)]
pub(super) struct Writer {
    pub id: ReplicaId,
    /// By ascending version.
    pub stamps: Vec<Update>,
    /// Everything up to here was said to be durable.
    pub durable: Version,
}

impl Writer {
    pub fn new(id: ReplicaId) -> Writer {
        Writer { id, stamps: Vec::new(), durable: Version::ZERO }
    }

    fn last(&self) -> Version {
        self.stamps.last().map_or(Version::ZERO, |stamp| stamp.version)
    }

    fn stamp(&self, version: Version) -> Option<&Update> {
        let place = self.stamps.binary_search_by_key(&version, |stamp| stamp.version).ok()?;
        Some(&self.stamps[place])
    }

    /// The stamps after `from`, up to `to`.
    pub fn between(&self, from: Version, to: Version) -> &[Update] {
        let start = self.stamps.partition_point(|stamp| stamp.version <= from);
        let end = self.stamps.partition_point(|stamp| stamp.version <= to);
        &self.stamps[start..end.max(start)]
    }
}

/// A frame is whole, and longer than any that is sent.
const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

impl Checker {
    /// Notes what a replica gave versions to since the last look; at the latest before any of it changes again.
    pub fn observe(&mut self, table: &Table, replica: &ReplicaId) {
        let Some(writer) = self.writer(replica) else { return };
        let from = self.writers[writer].last();
        if table.watermark(replica) <= from {
            return;
        }
        let Some(part) = table.updates_after(replica, from, usize::MAX) else { return };
        for stamp in part.updates.into_iter().filter(|update| update.version > from) {
            let known = self.generations.entry(stamp.key.clone()).or_default();
            *known = (*known).max(stamp.generation);
            self.writers[writer].stamps.push(stamp);
        }
    }

    /// I8: a watermark moved: all that it vouches for is held, superseded or expired.
    pub fn watermark_moved(
        &self,
        now: Timestamp,
        table: &Table,
        replica: &ReplicaId,
        (from, to): (Version, Version),
    ) -> Checked {
        let Some(writer) = self.writer(replica) else {
            return broken("I2", None, format!("a watermark of {replica}, which never lived"));
        };
        for stamp in self.writers[writer].between(from, to) {
            if !self.is_held(now, table, replica, stamp) {
                let key = CounterKey::from_bytes(&stamp.key).ok();
                let what = format!(
                    "at {now} {} has {replica} up to {to}, and not its version {} (+{} -{})",
                    table.own_replica(),
                    stamp.version,
                    stamp.p,
                    stamp.n
                );
                return broken("I8", key.as_ref(), what);
            }
        }
        Ok(())
    }

    /// Whether a table holds a stamp, something that supersedes it, or is rid of it by its end; `now` is the latest time by
    /// any node's clock.
    pub(super) fn is_held(
        &self,
        now: Timestamp,
        table: &Table,
        replica: &ReplicaId,
        stamp: &Update,
    ) -> bool {
        // From half of the grace on, a node may take the counter for over, and so not pass it on.
        let over = stamp.ends().is_some_and(|end| end.plus(self.grace / 2) <= now);
        // A newer generation supersedes it wherever it is known, and is told here by its own writer.
        let superseded = self.generations.get(&stamp.key).is_some_and(|g| *g > stamp.generation)
            || self.was_reset(&stamp.key);
        let held = table.held(&stamp.key, replica);
        over || superseded
            || held.is_some_and(|(generation, version)| {
                generation > stamp.generation || version >= stamp.version
            })
    }

    /// I2, I10: a frame as its sender made it says only what the writers said, and reads back as it was written.
    ///
    /// `now` is the latest time by any node's clock.
    pub fn frame(&self, now: Timestamp, frame: &[u8]) -> Checked {
        let Ok(received) = read_frame(frame, FRAME_BYTES_MAX) else {
            return broken("I10", None, "a frame that was sent cannot be read".to_owned());
        };
        if received.unknown > 0 {
            return broken("I10", None, "a frame holds messages that are not known".to_owned());
        }
        let mut outbox = Outbox::default();
        for message in &received.messages {
            // One frame's messages fit in one frame.
            let _ = outbox.push(message, FRAME_BYTES_MAX);
            let (replica, updates) = match message {
                Message::Delta(delta) => (&delta.replica, &delta.updates),
                Message::Push { replica, updates, .. } => (replica, updates),
                _ => continue,
            };
            for update in updates {
                self.is_true(now, replica, update)?;
            }
        }
        if outbox.finish().as_deref() != Some(frame) {
            return broken("I10", None, "a frame reads back as something else".to_owned());
        }
        Ok(())
    }

    /// I2: an update says what its writer gave this version to.
    fn is_true(&self, now: Timestamp, replica: &ReplicaId, update: &Update) -> Checked {
        let stamp = self.writer(replica).and_then(|writer| {
            let writer = &self.writers[writer];
            writer.stamp(update.version)
        });
        let is_same = |stamp: &Update| {
            (&stamp.key, stamp.generation, stamp.p, stamp.n)
                == (&update.key, update.generation, update.p, update.n)
        };
        // What was given a version and was gone in one event, replaced or over, was never seen here.
        let replaced = self.generations.get(&update.key).is_some_and(|g| *g > update.generation);
        let over = update.ends().is_some_and(|end| end.plus(self.grace / 2) <= now);
        if stamp.map_or(replaced || over, is_same) {
            return Ok(());
        }
        let key = CounterKey::from_bytes(&update.key).ok();
        let what = format!(
            "version {} of {replica} is sent as +{} -{} in generation {}, and was {stamp:?}",
            update.version, update.p, update.n, update.generation
        );
        broken("I2", key.as_ref(), what)
    }
}
