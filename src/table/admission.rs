//! Check and charge in one step: all of a request's counters or none.

use std::sync::MutexGuard;
use std::time::Duration;

use smallvec::SmallVec;

use super::shard::Shard;
use super::{SlotId, Table, shard_of, value_at};
use crate::limit::{Charge, Charges, DenialReason};
use crate::time::Timestamp;

/// The answer to a request.
#[derive(Debug)]
pub(crate) enum Outcome {
    Allowed {
        charged: SmallVec<[Charged; 2]>,
        /// What is left in the fullest of its counters; `u64::MAX` when it was charged to none.
        remaining: u64,
        /// Whether a counter is newly past the urgent fraction of its limit.
        urgent: bool,
    },
    Denied {
        /// The limit's place in the policy.
        limit: usize,
        reason: DenialReason,
        remaining: u64,
        retry_after: Option<Duration>,
    },
}

/// What a request was charged in one counter, for a refund.
#[derive(Debug)]
pub(crate) struct Charged {
    slot: SlotId,
    life: u32,
    generation: u32,
    cost: u64,
}

/// Every shard that a request touches, locked, and each of its counters in them.
struct Locked<'a> {
    /// By ascending number of the shard.
    guards: SmallVec<[(usize, MutexGuard<'a, Shard>); 3]>,
    /// One for each charge.
    found: SmallVec<[Found; 3]>,
}

struct Found {
    /// Where its shard is among the guards.
    guard: usize,
    hash: u64,
    place: Option<u32>,
    value: u64,
    expires_at: Timestamp,
}

impl Table {
    /// Admits a request and charges every counter, or denies it and charges none.
    ///
    /// A denied attempt is use all the same: it keeps a session's counters alive.
    pub fn acquire(&self, now: Timestamp, charges: &Charges) -> Outcome {
        let Locked { mut guards, found } = self.lock_all(now, charges);
        if let Some(denied) = deny(now, charges, &found) {
            for (charge, found) in charges.list.iter().zip(&found) {
                if let Some(place) = found.place {
                    touch(now, &mut guards[found.guard].1, place, charge.expires_at);
                }
            }
            return denied;
        }
        let missing = missing(charges, &found).count();
        let reserved = (0..missing).take_while(|_| self.reserve_counter()).count();
        if reserved < missing {
            super::Mishaps::count(&self.mishaps.full);
            if !self.bounds.admit_when_full {
                (0..reserved).for_each(|_| self.release_counter());
                return denied_for_room(charges, &found, reserved);
            }
        }
        let mut room = reserved;
        let mut charged = SmallVec::new();
        let mut remaining = u64::MAX;
        let mut urgent = false;
        for (charge, found) in charges.list.iter().zip(&found) {
            let used = found.value.saturating_add(charge.cost);
            remaining = remaining.min(charge.max.saturating_sub(used));
            let (shard_number, shard) = &mut guards[found.guard];
            let place = match found.place {
                _ if charge.cost == 0 => continue,
                Some(place) => place,
                None if room == 0 => continue,
                None => {
                    room -= 1;
                    shard.insert(found.hash, charges.key(charge), charge.expires_at)
                }
            };
            let (life, generation) = count(now, shard, place, charge);
            if used as f64 >= charge.max as f64 * self.bounds.urgent_fraction {
                urgent |= shard.mark_urgent(place);
            }
            let slot = SlotId::new(*shard_number, place);
            charged.push(Charged { slot, life, generation, cost: charge.cost });
        }
        Outcome::Allowed { charged, remaining, urgent }
    }

    /// What [`acquire`](Self::acquire) would answer, with nothing charged and nothing touched.
    pub fn peek(&self, now: Timestamp, charges: &Charges) -> Outcome {
        let Locked { found, .. } = self.lock_all(now, charges);
        if let Some(denied) = deny(now, charges, &found) {
            return denied;
        }
        let missing = missing(charges, &found).count();
        let room = self.bounds.counters_max.saturating_sub(self.len());
        if missing > room && !self.bounds.admit_when_full {
            return denied_for_room(charges, &found, room);
        }
        let left = |(charge, found): (&Charge, &Found)| {
            charge.max.saturating_sub(found.value.saturating_add(charge.cost))
        };
        let remaining = charges.list.iter().zip(&found).map(left).min().unwrap_or(u64::MAX);
        Outcome::Allowed { charged: SmallVec::new(), remaining, urgent: false }
    }

    /// Gives back what a request was charged, where the counter is still the one that was charged.
    pub fn refund(&self, charged: &[Charged]) {
        for charge in charged {
            let mut shard = self.lock(charge.slot.shard());
            let Some(slot) = shard.slot_mut(charge.slot.place()) else { continue };
            if slot.life == charge.life && slot.counter.generation() == charge.generation {
                slot.counter.subtract(charge.cost);
                shard.mark_dirty(charge.slot.place());
            }
        }
    }

    /// Locks every shard that the charges touch, each once and in ascending order, and looks the counters up.
    fn lock_all(&self, now: Timestamp, charges: &Charges) -> Locked<'_> {
        let mut found = SmallVec::new();
        let mut guards = SmallVec::new();
        if let [charge] = &charges.list[..] {
            // By far the most frequent case: nothing to put in order.
            let hash = self.hash(charges.key(charge));
            let shard = self.lock(shard_of(hash));
            found.push(find(now, charges, charge, hash, 0, &shard));
            guards.push((shard_of(hash), shard));
            return Locked { guards, found };
        }
        let mut hashes: SmallVec<[u64; 3]> = SmallVec::new();
        let mut numbers: SmallVec<[usize; 3]> = SmallVec::new();
        for charge in &charges.list {
            let hash = self.hash(charges.key(charge));
            hashes.push(hash);
            numbers.push(shard_of(hash));
        }
        numbers.sort_unstable();
        numbers.dedup();
        for number in &numbers {
            guards.push((*number, self.lock(*number)));
        }
        for (charge, hash) in charges.list.iter().zip(hashes) {
            // Proven above: every charge's shard is among the numbers.
            let guard = numbers.binary_search(&shard_of(hash)).expect("the shard is locked");
            let shard: &(usize, MutexGuard<'_, Shard>) = &guards[guard];
            found.push(find(now, charges, charge, hash, guard, &shard.1));
        }
        Locked { guards, found }
    }
}

fn find(
    now: Timestamp,
    charges: &Charges,
    charge: &Charge,
    hash: u64,
    guard: usize,
    shard: &Shard,
) -> Found {
    let place = shard.find(hash, charges.key(charge));
    let slot = place.and_then(|place| shard.slot(place));
    let (value, expires_at) = match slot {
        Some(slot) => (value_at(now, slot), slot.expires_at),
        None => (0, charge.expires_at),
    };
    Found { guard, hash, place, value, expires_at }
}

/// Counts a charge in its counter; a counter whose time had passed starts anew. Returns the life and the generation charged.
fn count(now: Timestamp, shard: &mut Shard, place: u32, charge: &Charge) -> (u32, u32) {
    let Some(slot) = shard.slot_mut(place) else { return (0, 0) };
    if slot.expires_at <= now {
        slot.counter.reset();
    }
    slot.counter.add(charge.cost);
    slot.expires_at = slot.expires_at.max(charge.expires_at);
    let charged = (slot.life, slot.counter.generation());
    shard.mark_dirty(place);
    charged
}

/// Notes a denied use of a counter, where that moves its end: once a step, not once a call.
fn touch(now: Timestamp, shard: &mut Shard, place: u32, expires_at: Timestamp) {
    let Some(slot) = shard.slot_mut(place) else { return };
    if value_at(now, slot) > 0 && slot.expires_at < expires_at {
        slot.expires_at = expires_at;
        shard.mark_dirty(place);
    }
}

/// The denial with the longest wait, if any counter has no room.
fn deny(now: Timestamp, charges: &Charges, found: &[Found]) -> Option<Outcome> {
    let denials = charges.list.iter().zip(found).filter_map(|(charge, found)| {
        if found.value.saturating_add(charge.cost) <= charge.max {
            return None;
        }
        let impossible = charge.cost > charge.max;
        let wait = (!impossible).then(|| found.expires_at.since(now));
        Some((charge, found, wait))
    });
    // No wait helps at all: that is the longest one.
    let (charge, found, retry_after) =
        denials.max_by_key(|(_, _, wait)| wait.unwrap_or(Duration::MAX))?;
    Some(Outcome::Denied {
        limit: charge.limit,
        reason: match retry_after {
            Some(_) => DenialReason::LimitReached,
            None => DenialReason::CostOverMax,
        },
        remaining: charge.max.saturating_sub(found.value),
        retry_after,
    })
}

/// The charges that need a new counter.
fn missing<'a>(charges: &'a Charges, found: &'a [Found]) -> impl Iterator<Item = &'a Charge> {
    let pairs = charges.list.iter().zip(found);
    pairs
        .filter(|(charge, found)| found.place.is_none() && charge.cost > 0)
        .map(|(charge, _)| charge)
}

fn denied_for_room(charges: &Charges, found: &[Found], room: usize) -> Outcome {
    let limit = missing(charges, found).nth(room).map_or(0, |charge| charge.limit);
    let reason = DenialReason::TooManyCounters;
    Outcome::Denied { limit, reason, remaining: 0, retry_after: None }
}
