//! Check and charge in one step: all of a request's counters or none.

use std::sync::MutexGuard;
use std::sync::atomic::Ordering;
use std::time::Duration;

use smallvec::SmallVec;

use super::shard::Shard;
use super::{Resolved, SlotId, Table, shard_of, value_at};
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
    counter: Resolved,
    generation: u32,
}

impl Charged {
    /// The generation of the counter that was charged.
    #[cfg(feature = "mutants")]
    pub fn generation(&self) -> u32 {
        self.generation
    }
}

/// How a counter is to be found.
#[derive(Clone, Copy)]
enum Target<'a> {
    Key { key: &'a [u8], hash: u64 },
    Resolved(Resolved),
}

impl Target<'_> {
    fn shard(self) -> usize {
        match self {
            Target::Key { hash, .. } => shard_of(hash),
            Target::Resolved(resolved) => resolved.slot.shard(),
        }
    }
}

/// One for each charge of a request, in order.
type Targets<'a> = SmallVec<[Target<'a>; 3]>;

/// Every shard that a request touches, locked, and each of its counters in them.
struct Locked<'a> {
    /// By ascending number of the shard.
    guards: SmallVec<[(usize, MutexGuard<'a, Shard>); 3]>,
    /// One for each charge.
    found: SmallVec<[Found; 3]>,
}

#[derive(Clone, Copy)]
struct Found {
    /// Where its shard is among the guards.
    guard: usize,
    place: Option<u32>,
    value: u64,
    expires_at: Timestamp,
}

impl Table {
    /// Admits a request and charges every counter, or denies it and charges none.
    ///
    /// A denied attempt is use all the same: it keeps a session's counters alive.
    #[inline(always)]
    pub fn acquire(&self, now: Timestamp, charges: &Charges) -> Outcome {
        let outcome = match &charges.list[..] {
            [charge] => self.acquire_one(now, charge, self.target(charges, charge)),
            list => self.acquire_all(now, list, &self.targets(charges)),
        };
        // Proven: what is found by its key is not missing, but new.
        outcome.expect("a counter can always be found by its key")
    }

    /// As [`acquire`](Self::acquire), for counters that were resolved before, one for each charge. `None`, with nothing
    /// charged, if one of them is not there any more.
    #[inline]
    pub fn acquire_resolved(
        &self,
        now: Timestamp,
        charges: &[Charge],
        counters: impl IntoIterator<Item = Resolved>,
    ) -> Option<Outcome> {
        let mut counters = counters.into_iter();
        match charges {
            [charge] => self.acquire_one(now, charge, Target::Resolved(counters.next()?)),
            _ => {
                let targets: Targets<'_> = counters.map(Target::Resolved).collect();
                self.acquire_all(now, charges, &targets)
            }
        }
    }

    /// The most frequent case, in which nothing has to be put in order.
    #[inline(always)]
    fn acquire_one(&self, now: Timestamp, charge: &Charge, target: Target<'_>) -> Option<Outcome> {
        let number = target.shard();
        let mut shard = self.lock(number);
        let found = find(now, charge, target, 0, &shard)?;
        if !found.has_room_for(charge) {
            if let Some(place) = found.place {
                shard.touch(now, place, charge.expires_at);
            }
            return Some(found.denial(now, charge));
        }
        let used = found.value.saturating_add(charge.cost);
        let remaining = charge.max.saturating_sub(used);
        let mut charged = SmallVec::new();
        if charge.cost == 0 {
            return Some(Outcome::Allowed { charged, remaining, urgent: false });
        }
        let place = match (found.place, target) {
            (Some(place), _) => place,
            (None, Target::Key { key, hash }) if self.reserve_counter() => {
                shard.insert(hash, key, charge.expires_at)
            }
            (None, _) => {
                super::Mishaps::count(&self.mishaps.full);
                return Some(match self.bounds.admit_when_full {
                    true => Outcome::Allowed { charged, remaining, urgent: false },
                    false => denied_for_room(charge.limit),
                });
            }
        };
        let (life, generation) = count(now, self.bounds.grace, &mut shard, place, charge);
        let urgent = self.is_urgent(&shard, place, used, charge.max) && shard.mark_urgent(place);
        let counter = Resolved { slot: SlotId::new(number, place), life };
        charged.push(Charged { counter, generation });
        Some(Outcome::Allowed { charged, remaining, urgent })
    }

    /// Whether the peers should hear of a charge at once: the counter is past the urgent fraction of its limit, or would be
    /// if every peer had counted as much unheard as we have. Without that second part, calls spread evenly over the nodes
    /// use a small limit up before any of them sees it near.
    #[inline]
    pub(super) fn is_urgent(&self, shard: &Shard, place: u32, used: u64, max: u64) -> bool {
        let unheard = shard.slot(place).map_or(0, |slot| slot.counter.unversioned());
        let elsewhere = unheard.saturating_mul(self.peers.load(Ordering::Relaxed));
        let perhaps_used = used.saturating_add(elsewhere);
        perhaps_used as f64 >= max as f64 * self.bounds.urgent_fraction
    }

    fn acquire_all(
        &self,
        now: Timestamp,
        charges: &[Charge],
        targets: &[Target<'_>],
    ) -> Option<Outcome> {
        let Locked { mut guards, found } = self.lock_all(now, charges, targets)?;
        if let Some(denied) = deny(now, charges, &found) {
            for (charge, found) in charges.iter().zip(&found) {
                if let Some(place) = found.place {
                    guards[found.guard].1.touch(now, place, charge.expires_at);
                }
            }
            return Some(denied);
        }
        let missing = missing(charges, &found).count();
        let reserved = (0..missing).take_while(|_| self.reserve_counter()).count();
        if reserved < missing {
            super::Mishaps::count(&self.mishaps.full);
            if !self.bounds.admit_when_full {
                (0..reserved).for_each(|_| self.release_counter());
                return Some(denied_for_room(first_missing(charges, &found, reserved)));
            }
        }
        let mut room = reserved;
        let mut charged = SmallVec::new();
        let mut remaining = u64::MAX;
        let mut urgent = false;
        for ((charge, found), target) in charges.iter().zip(&found).zip(targets) {
            let used = found.value.saturating_add(charge.cost);
            remaining = remaining.min(charge.max.saturating_sub(used));
            let (number, shard) = &mut guards[found.guard];
            let place = match (found.place, target) {
                _ if charge.cost == 0 => continue,
                (Some(place), _) => place,
                (None, Target::Key { key, hash }) if room > 0 => {
                    room -= 1;
                    shard.insert(*hash, key, charge.expires_at)
                }
                (None, _) => continue,
            };
            let (life, generation) = count(now, self.bounds.grace, shard, place, charge);
            urgent |= self.is_urgent(shard, place, used, charge.max) && shard.mark_urgent(place);
            let counter = Resolved { slot: SlotId::new(*number, place), life };
            charged.push(Charged { counter, generation });
        }
        Some(Outcome::Allowed { charged, remaining, urgent })
    }

    /// What [`acquire`](Self::acquire) would answer, with nothing charged and nothing touched.
    pub fn peek(&self, now: Timestamp, charges: &Charges) -> Outcome {
        let locked = self.lock_all(now, &charges.list, &self.targets(charges));
        // Proven: what is found by its key is not missing, but new.
        let Locked { found, .. } = locked.expect("a counter can always be found by its key");
        let charges = &charges.list[..];
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
        let remaining = charges.iter().zip(&found).map(left).min().unwrap_or(u64::MAX);
        Outcome::Allowed { charged: SmallVec::new(), remaining, urgent: false }
    }

    /// Gives back what a request was charged, where the counter is still the one that was charged.
    pub fn refund(&self, charged: &[Charged], cost: u64) {
        for Charged { counter, generation } in charged {
            let mut shard = self.lock(counter.slot.shard());
            let Some(place) = shard.place_of(*counter) else { continue };
            let slot = shard.slot_mut(place);
            if let Some(slot) = slot.filter(|slot| slot.counter.generation() == *generation) {
                slot.counter.subtract(cost);
                shard.mark_dirty(place);
            }
        }
    }

    #[inline(always)]
    fn target<'a>(&self, charges: &'a Charges, charge: &Charge) -> Target<'a> {
        let key = charges.key(charge);
        Target::Key { key, hash: self.hash(key) }
    }

    fn targets<'a>(&self, charges: &'a Charges) -> Targets<'a> {
        charges.list.iter().map(|charge| self.target(charges, charge)).collect()
    }

    /// Locks every shard that the targets are in, each once and in ascending order, and looks the counters up. `None` if one
    /// that was resolved before is not there any more.
    fn lock_all(
        &self,
        now: Timestamp,
        charges: &[Charge],
        targets: &[Target<'_>],
    ) -> Option<Locked<'_>> {
        let mut numbers: SmallVec<[usize; 3]> =
            targets.iter().map(|target| target.shard()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let guards: SmallVec<[(usize, MutexGuard<'_, Shard>); 3]> =
            numbers.iter().map(|number| (*number, self.lock(*number))).collect();
        let find_one = |(charge, target): (&Charge, &Target<'_>)| {
            // Proven above: every target's shard is among the numbers.
            let guard = numbers.binary_search(&target.shard()).expect("the shard is locked");
            find(now, charge, *target, guard, &guards[guard].1)
        };
        let found = charges.iter().zip(targets).map(find_one).collect::<Option<_>>()?;
        Some(Locked { guards, found })
    }
}

/// The counter of a charge. `None` if it was resolved before and is another one by now, or one of another window.
#[inline(always)]
fn find(
    now: Timestamp,
    charge: &Charge,
    target: Target<'_>,
    guard: usize,
    shard: &Shard,
) -> Option<Found> {
    let place = match target {
        Target::Key { key, hash } => shard.find(hash, key),
        Target::Resolved(resolved) => Some(shard.place_of(resolved)?),
    };
    let Some(slot) = place.and_then(|place| shard.slot(place)) else {
        return Some(Found { guard, place, value: 0, expires_at: charge.expires_at });
    };
    let is_of_another_window = charge.is_windowed && slot.expires_at != charge.expires_at;
    if is_of_another_window && matches!(target, Target::Resolved(_)) {
        return None;
    }
    Some(Found { guard, place, value: value_at(now, slot), expires_at: slot.expires_at })
}

impl Found {
    #[inline]
    fn has_room_for(&self, charge: &Charge) -> bool {
        self.value.saturating_add(charge.cost) <= charge.max
    }

    /// How long until the counter ends; `None` where that does not help.
    #[inline]
    fn wait(&self, now: Timestamp, charge: &Charge) -> Option<Duration> {
        (charge.cost <= charge.max).then(|| self.expires_at.since(now))
    }

    #[inline]
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
#[inline]
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

/// The denial with the longest wait, if any counter has no room. No help in waiting is the longest wait.
fn deny(now: Timestamp, charges: &[Charge], found: &[Found]) -> Option<Outcome> {
    let pairs = charges.iter().zip(found);
    let full = pairs.filter(|(charge, found)| !found.has_room_for(charge));
    let (charge, found) =
        full.max_by_key(|(charge, found)| found.wait(now, charge).unwrap_or(Duration::MAX))?;
    Some(found.denial(now, charge))
}

/// The charges that need a new counter.
fn missing<'a>(charges: &'a [Charge], found: &'a [Found]) -> impl Iterator<Item = &'a Charge> {
    let pairs = charges.iter().zip(found);
    pairs
        .filter(|(charge, found)| found.place.is_none() && charge.cost > 0)
        .map(|(charge, _)| charge)
}

/// The limit of the first new counter for which there is no room.
fn first_missing(charges: &[Charge], found: &[Found], room: usize) -> usize {
    missing(charges, found).nth(room).map_or(0, |charge| charge.limit)
}

fn denied_for_room(limit: usize) -> Outcome {
    let reason = DenialReason::TooManyCounters;
    Outcome::Denied { limit, reason, remaining: 0, retry_after: None }
}
