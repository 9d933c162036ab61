//! What a disk owes: all that was said to be durable, or a word that it is damaged.

use tallymesh_core::id::{ReplicaId, Version};
use tallymesh_core::table::Table;
use tallymesh_core::time::Timestamp;

use super::{Checked, Checker, broken};

impl Checker {
    /// A checkpoint was reported to be durable, with all that the replica had counted, and the time by which it counted.
    pub fn acknowledged(
        &mut self,
        place: usize,
        replica: &ReplicaId,
        version: Version,
        clock: Timestamp,
    ) {
        if let Some(writer) = self.writer(replica) {
            self.writers[writer].durable = version;
        }
        self.durable_clocks.insert(place, clock);
    }

    /// How much of a replica was said to be durable.
    pub fn durable(&self, replica: &ReplicaId) -> Version {
        self.writer(replica).map_or(Version::ZERO, |writer| self.writers[writer].durable)
    }

    /// From here on, less of a replica is owed: its disk is gone, or an older one.
    pub fn forget_disk(&mut self, place: usize, replica: &ReplicaId, version: Version) {
        if let Some(writer) = self.writer(replica) {
            let durable = &mut self.writers[writer].durable;
            *durable = (*durable).min(version);
        }
        self.durable_clocks.remove(&place);
        self.may_lose = true;
    }

    /// Nothing acknowledged as durable is missing after a restart.
    pub fn recovered(&self, now: Timestamp, table: &Table, former: &ReplicaId) -> Checked {
        let Some(writer) = self.writer(former) else { return Ok(()) };
        let writer = &self.writers[writer];
        for stamp in writer.between(Version::ZERO, writer.durable) {
            if !self.is_held(now, table, former, stamp) {
                let key = tallymesh_core::key::CounterKey::from_bytes(&stamp.key).ok();
                let held = table.held(&stamp.key, former);
                let what = format!(
                    "version {} of {} (+{} -{}) was durable, and {held:?} was found again",
                    stamp.version, writer.id, stamp.p, stamp.n
                );
                return broken("durability", key.as_ref(), what);
            }
        }
        Ok(())
    }
}
