//! Check and charge in one step: all of a request's counters or none.

use std::sync::MutexGuard;
use std::sync::atomic::Ordering;
use std::time::Duration;

use smallvec::SmallVec;

use super::shard::Shard;
use super::{SlotId, Table, shard_of, value_at};
use crate::limit::{Charge, Charges, DenialReason};
use crate::time::Timestamp;

/// The answer to a request.
#[derive(Debug)]
pub enum Outcome {
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
pub struct Charged {
    slot: SlotId,
    life: u32,
    generation: u32,
    cost: u64,
}

#[cfg(feature = "simulation")]
impl Charged {
    /// The generation of the counter that was charged.
    pub fn generation(&self) -> u32 {
        self.generation
    }
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
        match &charges.list[..] {
            [charge] => self.acquire_one(now, charge, charges.key(charge)),
            _ => self.acquire_all(now, charges),
        }
    }

    /// The most frequent case, in which nothing has to be put in order.
    fn acquire_one(&self, now: Timestamp, charge: &Charge, key: &[u8]) -> Outcome {
        let hash = self.hash(key);
        let number = shard_of(hash);
        let mut shard = self.lock(number);
        let found = find(now, charge, key, hash, 0, &shard);
        if !found.has_room_for(charge) {
            if let Some(place) = found.place {
                touch(now, &mut shard, place, charge.expires_at);
            }
            return found.denial(now, charge);
        }
        let used = found.value.saturating_add(charge.cost);
        let remaining = charge.max.saturating_sub(used);
        let mut charged = SmallVec::new();
        if charge.cost == 0 {
            return Outcome::Allowed { charged, remaining, urgent: false };
        }
        let place = match found.place {
            Some(place) => place,
            None if self.reserve_counter() => shard.insert(hash, key, charge.expires_at),
            None => {
                super::Mishaps::count(&self.mishaps.full);
                return match self.bounds.admit_when_full {
                    true => Outcome::Allowed { charged, remaining, urgent: false },
                    false => denied_for_room(charge.limit),
                };
            }
        };
        let (life, generation) = count(now, self.bounds.grace, &mut shard, place, charge);
        let urgent = self.is_urgent(&shard, place, used, charge) && shard.mark_urgent(place);
        charged.push(Charged {
            slot: SlotId::new(number, place),
            life,
            generation,
            cost: charge.cost,
        });
        Outcome::Allowed { charged, remaining, urgent }
    }

    /// Whether the peers should hear of a charge at once: the counter is past the urgent fraction of its limit, or would be
    /// if every peer had counted as much unheard as we have. Without that second part, calls spread evenly over the nodes
    /// use a small limit up before any of them sees it near.
    fn is_urgent(&self, shard: &Shard, place: u32, used: u64, charge: &Charge) -> bool {
        let unheard = shard.slot(place).map_or(0, |slot| slot.counter.unversioned());
        let elsewhere = unheard.saturating_mul(self.peers.load(Ordering::Relaxed));
        let perhaps_used = used.saturating_add(elsewhere);
        perhaps_used as f64 >= charge.max as f64 * self.bounds.urgent_fraction
    }

    fn acquire_all(&self, now: Timestamp, charges: &Charges) -> Outcome {
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
                return denied_for_room(first_missing(charges, &found, reserved));
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
            let (life, generation) = count(now, self.bounds.grace, shard, place, charge);
            urgent |= self.is_urgent(shard, place, used, charge) && shard.mark_urgent(place);
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
            return denied_for_room(first_missing(charges, &found, room));
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
            found.push(find(now, charge, charges.key(charge), hash, guard, &shard.1));
        }
        Locked { guards, found }
    }
}

fn find(
    now: Timestamp,
    charge: &Charge,
    key: &[u8],
    hash: u64,
    guard: usize,
    shard: &Shard,
) -> Found {
    let place = shard.find(hash, key);
    let slot = place.and_then(|place| shard.slot(place));
    let (value, expires_at) = match slot {
        Some(slot) => (value_at(now, slot), slot.expires_at),
        None => (0, charge.expires_at),
    };
    Found { guard, hash, place, value, expires_at }
}

impl Found {
    fn has_room_for(&self, charge: &Charge) -> bool {
        self.value.saturating_add(charge.cost) <= charge.max
    }

    /// How long until the counter ends; `None` where that does not help.
    fn wait(&self, now: Timestamp, charge: &Charge) -> Option<Duration> {
        (charge.cost <= charge.max).then(|| self.expires_at.since(now))
    }

    fn denial(&self, now: Timestamp, charge: &Charge) -> Outcome {
        let retry_after = self.wait(now, charge);
        Outcome::Denied {
            limit: charge.limit,
            reason: match retry_after {
                Some(_) => DenialReason::LimitReached,
                None => DenialReason::CostOverMax,
            },
            remaining: charge.max.saturating_sub(self.value),
            retry_after,
        }
    }
}

/// Counts a charge in its counter; a counter whose time had passed starts anew. Returns the life and the generation charged.
fn count(
    now: Timestamp,
    grace: Duration,
    shard: &mut Shard,
    place: u32,
    charge: &Charge,
) -> (u32, u32) {
    shard.begin_anew_if_over(now, grace, place);
    let Some(slot) = shard.slot_mut(place) else { return (0, 0) };
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

/// The denial with the longest wait, if any counter has no room. No help in waiting is the longest wait.
fn deny(now: Timestamp, charges: &Charges, found: &[Found]) -> Option<Outcome> {
    let pairs = charges.list.iter().zip(found);
    let full = pairs.filter(|(charge, found)| !found.has_room_for(charge));
    let (charge, found) =
        full.max_by_key(|(charge, found)| found.wait(now, charge).unwrap_or(Duration::MAX))?;
    Some(found.denial(now, charge))
}

/// The charges that need a new counter.
fn missing<'a>(charges: &'a Charges, found: &'a [Found]) -> impl Iterator<Item = &'a Charge> {
    let pairs = charges.list.iter().zip(found);
    pairs
        .filter(|(charge, found)| found.place.is_none() && charge.cost > 0)
        .map(|(charge, _)| charge)
}

/// The limit of the first new counter for which there is no room.
fn first_missing(charges: &Charges, found: &[Found], room: usize) -> usize {
    missing(charges, found).nth(room).map_or(0, |charge| charge.limit)
}

fn denied_for_room(limit: usize) -> Outcome {
    let reason = DenialReason::TooManyCounters;
    Outcome::Denied { limit, reason, remaining: 0, retry_after: None }
}
