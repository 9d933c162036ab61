//! Versions, watermarks and deltas: how a table's changes reach its peers, and theirs reach it.

use super::replicas::Replicas;
use super::shard::{Shard, Slot, trim};
use super::{Mishaps, SLOTS_PER_LOCK, SlotId, Table, cells_of, shard_of, window_end};
use crate::crdt::{COUNT_MAX, DigestEntry, Merged, ReplicaIndex, Update, VersionVector};
use crate::id::{ReplicaId, Version};
use crate::key::{CounterKey, WindowIndex, window_of};
use crate::limit::WINDOW_MAX;
use crate::mutant::mutant;
use crate::time::Timestamp;

/// Which changes a harvest takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    All,
    /// Only counters past the urgent fraction of their limit.
    Urgent,
}

impl Scope {
    fn list(self, shard: &mut Shard) -> &mut Vec<u32> {
        match self {
            Scope::All => &mut shard.dirty,
            Scope::Urgent => &mut shard.urgent,
        }
    }
}

/// A part of a replica's updates, read in version order.
#[derive(Debug, PartialEq, Eq)]
pub struct Part {
    pub updates: Vec<Update>,
    /// Where the next part begins.
    pub to: Version,
    /// In the last part: the reader then has everything up to here.
    pub watermark: Option<Version>,
}

/// What came of a peer's updates.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The cells that changed here.
    pub new: Vec<SlotId>,
    /// Updates that were not believed.
    pub implausible: usize,
    /// Some counter had no room, so what was sent is not held.
    pub without_room: bool,
}

impl Table {
    /// The replica that this table writes as.
    pub fn own_replica(&self) -> ReplicaId {
        self.lock_replicas().id(ReplicaIndex::OWN).clone()
    }

    /// Gives every changed own cell a version, which makes it fit to be sent and stored. Returns the slots that this was
    /// about: of urgent ones also those that got their version elsewhere meanwhile.
    pub fn harvest(&self, scope: Scope) -> Vec<SlotId> {
        let mut harvested = Vec::new();
        for number in 0..self.shards.len() {
            // Only what was listed at the start, or a busy thread could keep us here for ever.
            let mut left = {
                let mut shard = self.lock(number);
                trim(scope.list(&mut shard));
                scope.list(&mut shard).len()
            };
            while left > 0 {
                let mut replicas = self.lock_replicas();
                let mut shard = self.lock(number);
                // Another thread may harvest too.
                left = left.min(scope.list(&mut shard).len());
                for _ in 0..left.min(SLOTS_PER_LOCK) {
                    left -= 1;
                    let Some(place) = scope.list(&mut shard).pop() else { break };
                    let Some(slot) = shard.slot_mut(place) else { continue };
                    if scope == Scope::Urgent {
                        slot.urgent = false;
                    }
                    let id = SlotId::new(number, place);
                    let stamped = replicas.stamp(id, slot);
                    if stamped {
                        shard.mark_unpersisted(place);
                    }
                    if stamped || scope == Scope::Urgent {
                        harvested.push(id);
                    }
                }
            }
        }
        let own = ReplicaIndex::OWN;
        self.lock_replicas().compact(own, |version, slot| self.is_live(own, version, slot));
        harvested
    }

    /// Whether the replica was ever heard of.
    pub fn knows(&self, replica: &ReplicaId) -> bool {
        self.lock_replicas().index(replica).is_some()
    }

    /// The watermark of one replica; of the own one, the last version given out.
    pub fn watermark(&self, replica: &ReplicaId) -> Version {
        let replicas = self.lock_replicas();
        replicas.index(replica).map_or(Version::ZERO, |index| replicas.watermark(index))
    }

    /// The last version given out to own cells.
    pub fn own_watermark(&self) -> Version {
        self.lock_replicas().watermark(ReplicaIndex::OWN)
    }

    /// The watermarks of all replicas that still matter and have updates.
    pub fn version_vector(&self) -> VersionVector {
        let replicas = self.lock_replicas();
        let with_updates = replicas.worth_saying().filter(|(_, mark)| *mark > Version::ZERO);
        with_updates.map(|(replica, watermark)| (replica.clone(), watermark)).collect()
    }

    /// What a peer is told of what is held here, in the order of the replica ids.
    pub fn digest(&self) -> Vec<DigestEntry> {
        let replicas = self.lock_replicas();
        let entry = |(replica, watermark): (&ReplicaId, Version)| {
            // Proven: it comes from the replicas themselves.
            let index = replicas.index(replica).expect("a listed replica is known");
            DigestEntry {
                replica: replica.clone(),
                watermark,
                ahead: self.ahead_fingerprint(&replicas, index),
            }
        };
        let mut digest: Vec<DigestEntry> = replicas.worth_saying().map(entry).collect();
        digest.sort_by(|a, b| a.replica.cmp(&b.replica));
        digest
    }

    /// What is held of one replica.
    pub fn digest_entry(&self, replica: &ReplicaId) -> DigestEntry {
        let replicas = self.lock_replicas();
        let (watermark, ahead) = match replicas.index(replica) {
            Some(index) => (replicas.watermark(index), self.ahead_fingerprint(&replicas, index)),
            None => (Version::ZERO, 0),
        };
        DigestEntry { replica: replica.clone(), watermark, ahead }
    }

    fn ahead_fingerprint(&self, replicas: &Replicas, index: ReplicaIndex) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        let mut any = false;
        for (version, slot) in replicas.ahead(index) {
            if self.is_live(index, version, slot) {
                hasher.update(&version.0.to_le_bytes());
                any = true;
            }
        }
        if any { hasher.finalize().max(1) } else { 0 }
    }

    /// What follows `from` of a replica, as much as fits in about `bytes_max`, at least one update. `None` when nothing is
    /// known of the replica, or nothing after `from`.
    pub fn updates_after(
        &self,
        replica: &ReplicaId,
        from: Version,
        bytes_max: usize,
    ) -> Option<Part> {
        let mut replicas = self.lock_replicas();
        let index = replicas.index(replica)?;
        let listed_max = bytes_max / UPDATE_BYTES_WITHOUT_KEY + 1;
        let mut after = replicas.updates_after(index, from);
        let listed: Vec<(Version, SlotId)> = after.by_ref().take(listed_max).collect();
        let all_listed = after.next().is_none();
        drop(after);
        if listed.is_empty() && replicas.watermark(index) <= from {
            return None;
        }
        let last_before = replicas.last_version(index);
        let mut part = Part { updates: Vec::new(), to: from, watermark: None };
        let mut bytes = 0;
        for (version, slot) in listed {
            if let Some(update) = self.update(&mut replicas, index, slot)
                && (update.version == version || update.version > last_before)
            {
                bytes += update.key.len() + UPDATE_BYTES_WITHOUT_KEY;
                if bytes > bytes_max && !part.updates.is_empty() {
                    return Some(part);
                }
                part.updates.push(update);
            }
            part.to = version;
        }
        if all_listed {
            // What got its version only now is in as well, so nothing held is left out.
            part.to = replicas.last_version(index);
            part.watermark = Some(replicas.watermark(index));
        }
        part.updates.sort_by_key(|update| update.version);
        part.updates.dedup_by_key(|update| update.version);
        Some(part)
    }

    /// The cells of a replica in these slots, to be sent out of turn.
    pub fn updates(&self, replica: &ReplicaId, slots: &[SlotId]) -> Vec<Update> {
        let mut replicas = self.lock_replicas();
        let Some(index) = replicas.index(replica) else { return Vec::new() };
        slots.iter().filter_map(|slot| self.update(&mut replicas, index, *slot)).collect()
    }

    /// A cell as it is sent. An own cell that changed since the last harvest gets its version now: under the old one it
    /// must not be seen with other values.
    fn update(&self, replicas: &mut Replicas, index: ReplicaIndex, id: SlotId) -> Option<Update> {
        let mut shard = self.lock(id.shard());
        let slot = shard.slot_mut(id.place())?;
        if mutant!(DirtyClearedAtSend) && index == ReplicaIndex::OWN {
            slot.dirty = false;
        }
        let stamped = index == ReplicaIndex::OWN && replicas.stamp(id, slot);
        let cell = slot.counter.cell(index)?;
        let windowed = window_end(&slot.key).is_some();
        let update = Update {
            key: slot.key.to_vec(),
            version: cell.version,
            generation: slot.counter.generation(),
            p: cell.p,
            n: cell.n,
            expires_at: if windowed { Timestamp(0) } else { slot.expires_at },
        };
        if stamped {
            shard.mark_unpersisted(id.place());
        }
        Some(update)
    }

    /// Takes in cells that a peer sent. Values count whatever their order; watermarks stay where they are.
    ///
    /// What is said of the own replica changes nothing: nobody else writes our cells.
    pub fn apply(&self, now: Timestamp, replica: &ReplicaId, updates: &[Update]) -> Applied {
        let mut applied = Applied::default();
        for some in updates.chunks(SLOTS_PER_LOCK) {
            let mut replicas = self.lock_replicas();
            let Some(index) = replicas.index_or_insert(replica, self.bounds.replicas_max) else {
                applied.implausible += some.len();
                continue;
            };
            if index == ReplicaIndex::OWN {
                let given_out = replicas.watermark(index);
                applied.implausible +=
                    some.iter().filter(|update| update.version > given_out).count();
                continue;
            }
            for update in some {
                match self.apply_update(now, index, update) {
                    Ok((Merged::New, slot)) => {
                        replicas.hold_ahead(index, update.version, slot);
                        applied.new.push(slot);
                    }
                    Ok((Merged::Known | Merged::Superseded, _)) => {}
                    Err(Refused::Late) => Mishaps::count(&self.mishaps.late),
                    Err(Refused::Full) => applied.without_room = true,
                    Err(Refused::Implausible) => applied.implausible += 1,
                }
            }
        }
        (0..applied.implausible).for_each(|_| Mishaps::count(&self.mishaps.implausible));
        applied
    }

    /// Moves a replica's watermark, after all its updates from `from` to there were applied. `false` when `from` is past the
    /// present watermark, so that something in between is missing.
    pub fn complete(&self, replica: &ReplicaId, from: Version, watermark: Version) -> bool {
        let mut replicas = self.lock_replicas();
        match replicas.index_or_insert(replica, self.bounds.replicas_max) {
            // There is no room to remember it, or nothing to remember.
            None | Some(ReplicaIndex::OWN) => true,
            Some(index) if from > replicas.watermark(index) => false,
            Some(index) => {
                let is_live = |version, slot| self.is_live(index, version, slot);
                replicas.complete(index, watermark, is_live);
                true
            }
        }
    }

    fn apply_update(
        &self,
        now: Timestamp,
        replica: ReplicaIndex,
        update: &Update,
    ) -> Result<(Merged, SlotId), Refused> {
        let expires_at = self.check(now, update)?;
        let hash = self.hash(&update.key);
        let mut shard = self.lock(shard_of(hash));
        let place = match shard.find(hash, &update.key) {
            Some(place) => place,
            None if self.reserve_counter() => shard.insert(hash, &update.key, expires_at),
            None => {
                Mishaps::count(&self.mishaps.full);
                return Err(Refused::Full);
            }
        };
        // A counter is made anew, where it is forgotten, not before its grace is over. One that was not swept yet is not to be
        // mixed with its successor; half the grace is left for clocks that differ.
        let is_over = |slot: &Slot| slot.expires_at.plus(self.bounds.grace / 2) <= now;
        if expires_at > now && shard.slot(place).is_some_and(is_over) {
            shard.renew(place);
        }
        // Proven just above: the place was found or filled.
        let slot = shard.slot_mut(place).expect("the place holds a counter");
        let is_crowded =
            |slot: &Slot| slot.counter.peers_held() >= self.bounds.replicas_per_counter_max;
        if slot.counter.cell(replica).is_none() && is_crowded(slot) {
            return Err(Refused::Implausible);
        }
        let generation = slot.counter.generation();
        let merged = slot.counter.merge(replica, update.generation, update.cell());
        let renewed = slot.counter.generation() != generation;
        let later = expires_at > slot.expires_at && update.generation == generation;
        if renewed || later {
            slot.expires_at = expires_at;
        }
        if renewed {
            // The newer generation took the own cell away: there is nothing left to give a version.
            slot.dirty = false;
        }
        if merged == Merged::New || later {
            shard.mark_unpersisted(place);
        }
        Ok((merged, SlotId::new(shard_of(hash), place)))
    }

    /// Whether an update can be true and is still wanted; gives the end of its counter.
    fn check(&self, now: Timestamp, update: &Update) -> Result<Timestamp, Refused> {
        let plausible = update.p <= COUNT_MAX
            && update.n <= COUNT_MAX
            && update.version > Version::ZERO
            && update.key.len() <= self.bounds.key_bytes_max
            && CounterKey::from_bytes(&update.key).is_ok();
        if !plausible && !mutant!(ForgedCellMerged) {
            return Err(Refused::Implausible);
        }
        let window = window_of(&update.key).ok().flatten();
        let expires_at = window.map_or(update.expires_at, WindowIndex::end);
        let latest_begin = now.plus(self.bounds.future_max);
        let believable = match window {
            Some(window) => window.start() <= latest_begin,
            // A session's end is its last use, its ttl, and the rounding up by a sixteenth of that.
            None => expires_at <= latest_begin.plus(WINDOW_MAX + WINDOW_MAX / 16),
        };
        if !believable && !mutant!(ForgedCellMerged) {
            return Err(Refused::Implausible);
        }
        if expires_at.plus(self.bounds.grace) <= now && !mutant!(ExpiredRecreated) {
            return Err(Refused::Late);
        }
        Ok(expires_at)
    }

    fn is_live(&self, index: ReplicaIndex, version: Version, slot: SlotId) -> bool {
        let shard = self.lock(slot.shard());
        let cell = shard.slot(slot.place()).and_then(|slot| slot.counter.cell(index));
        cell.is_some_and(|cell| cell.version == version)
    }

    /// Forgets where the cells of ended incarnations were, once they are gone; called now and then.
    pub fn retire_replicas(&self) {
        let mut replicas = self.lock_replicas();
        for index in (1..replicas.len() as u32).map(ReplicaIndex) {
            if replicas.has_successor(index) {
                replicas.prune(index, |version, slot| self.is_live(index, version, slot));
            }
        }
    }

    /// A sum over all counters that have not ended, equal on two nodes that hold equal state.
    pub fn fingerprint(&self, now: Timestamp) -> u64 {
        let replicas = self.lock_replicas();
        let fingerprint_of = |slot: &Slot| {
            let mut cells: Vec<_> = cells_of(&slot.counter)
                .filter(|(_, cell)| cell.version > Version::ZERO)
                .map(|(index, cell)| (replicas.id(index), cell))
                .collect();
            cells.sort();
            let (key, generation) = (&slot.key, slot.counter.generation());
            let text = format!("{key:?} {} {generation} {cells:?}", slot.expires_at.0);
            siphasher::sip::SipHasher13::new().hash(text.as_bytes())
        };
        let mut sum = 0_u64;
        for number in 0..self.shards.len() {
            let shard = self.lock(number);
            let slots = (0..shard.places()).filter_map(|place| shard.slot(place));
            let present = slots.filter(|slot| slot.expires_at > now);
            sum = present.map(fingerprint_of).fold(sum, u64::wrapping_add);
        }
        sum
    }
}

/// About what an update adds to its key in a frame.
const UPDATE_BYTES_WITHOUT_KEY: usize = 36;

enum Refused {
    /// Its counter expired longer than the grace ago.
    Late,
    /// There is no room for its counter.
    Full,
    /// It cannot be true.
    Implausible,
}
