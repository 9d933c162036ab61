//! Decisions: check and charge in one step, all of a request's counters or none.
//!
//! What is read (a [`Reading`]) and what is charged (a [`Demand`]) are two types; [`rule::judge`] alone says whether the one
//! has room for the other.

use crate::sync::MutexGuard;
use core::sync::atomic::Ordering;
use core::time::Duration;

use smallvec::SmallVec;

use super::shard::Shard;
use super::slot::marks_of;
use super::{SlotId, SlotRef, Table, shard_of};
use crate::key::is_of_window;
use crate::limit::rule::{self, Reading, Verdict};
use crate::limit::{Demand, Demands, DenialReason, Life};
use crate::time::Timestamp;

/// The answer to a request.
#[derive(Debug)]
pub enum Admission {
    /// It may go ahead, and every counter is charged.
    Allowed {
        /// What was taken, one for each counter that was charged.
        debits: SmallVec<[Debit; 2]>,
        /// What is left in the fullest of its counters; `u64::MAX` when it was charged to none.
        remaining: u64,
        /// Whether a counter is newly past the urgent fraction of its limit.
        urgent: bool,
    },
    /// It may not, and no counter is charged.
    Denied {
        /// The index in the policy of the limit that denied; of several, of the one with the longest wait.
        limit_index: usize,
        /// Why.
        reason: DenialReason,
        /// What is left under that limit.
        remaining: u64,
        /// How long until its counter expires; `None` where waiting does not help.
        retry_after: Option<Duration>,
    },
}

/// What was taken from one counter, for a refund.
#[derive(Debug)]
pub struct Debit {
    counter: SlotRef,
    generation: u32,
}

impl Debit {
    /// The generation of the counter that was charged.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// The debit as three numbers, which mean something to this table only, and only while it lives.
    pub fn to_parts(&self) -> [u32; 3] {
        [self.counter.slot.0, self.counter.tag, self.generation]
    }

    /// The debit of these [parts](Self::to_parts). Of made-up ones, a refund takes from a counter that was not charged.
    pub fn from_parts([slot, tag, generation]: [u32; 3]) -> Debit {
        Debit { counter: SlotRef { slot: SlotId(slot), tag }, generation }
    }
}

/// How a counter is to be found.
#[derive(Clone, Copy)]
enum Target<'a> {
    Key { key: &'a [u8], hash: u64 },
    Slot(SlotRef),
}

impl Target<'_> {
    fn shard(self) -> usize {
        match self {
            Target::Key { hash, .. } => shard_of(hash),
            Target::Slot(slot_ref) => slot_ref.slot.shard(),
        }
    }
}

/// One for each demand of a request, in order.
type Targets<'a> = SmallVec<[Target<'a>; 3]>;

/// Every shard that a request touches, locked, and each of its counters in them.
struct Locked<'a> {
    /// By ascending number of the shard.
    guards: SmallVec<[(usize, MutexGuard<'a, Shard>); 3]>,
    /// One for each demand.
    found: SmallVec<[Found; 3]>,
}

/// What was found for a demand.
#[derive(Clone, Copy)]
struct Found {
    /// Where the shard of the counter to charge is among the guards.
    guard: usize,
    /// The slot of the counter to charge; `None` if it does not exist yet.
    slot_index: Option<u32>,
    /// What is read: how much of the limit is used.
    used: u64,
    /// When the counter that was read expires.
    expires_at: Timestamp,
}

impl Table {
    /// Admits a request and charges every counter, or denies it and charges none.
    ///
    /// A denied attempt is use all the same: it keeps a session's counters alive.
    #[inline(always)]
    #[expect(clippy::expect_used, reason = "what is looked up by its key is never gone, but new")]
    pub fn acquire(&self, now: Timestamp, demands: &Demands) -> Admission {
        let admission = match &demands.list[..] {
            [demand] => self.acquire_one(now, demand, self.target(demands, demand)),
            list => self.acquire_all(now, list, &self.targets(demands)),
        };
        admission.expect("a counter can always be found by its key")
    }

    /// As [`acquire`](Self::acquire), with references to the counters that were found before, one for each demand. `None`,
    /// with nothing charged, if one of them is gone.
    #[inline]
    pub fn acquire_by_ref(
        &self,
        now: Timestamp,
        demands: &[Demand],
        counters: impl IntoIterator<Item = SlotRef>,
    ) -> Option<Admission> {
        let mut counters = counters.into_iter();
        match demands {
            [demand] => self.acquire_one(now, demand, Target::Slot(counters.next()?)),
            _ => {
                let targets: Targets<'_> = counters.map(Target::Slot).collect();
                self.acquire_all(now, demands, &targets)
            }
        }
    }

    /// The most frequent case, in which nothing has to be put in order.
    #[inline(always)]
    fn acquire_one(
        &self,
        now: Timestamp,
        demand: &Demand,
        target: Target<'_>,
    ) -> Option<Admission> {
        let shard_index = target.shard();
        let mut shard = self.lock(shard_index);
        let found = find(now, demand, target, 0, &shard)?;
        let reading = found.reading(demand);
        match rule::judge(reading, demand.cost) {
            Verdict::Room => {}
            Verdict::Full => {
                if let Some(slot_index) = found.slot_index {
                    shard.touch(now, slot_index, demand.life);
                }
                return Some(found.denial(now, demand));
            }
        }
        let reading = reading.after(demand.cost);
        let remaining = reading.remaining();
        let mut debits = SmallVec::new();
        if demand.cost == 0 {
            return Some(Admission::Allowed { debits, remaining, urgent: false });
        }
        let slot_index = match (found.slot_index, target) {
            (Some(slot_index), _) => slot_index,
            (None, Target::Key { key, hash }) if self.reserve_counter() => {
                shard.insert(hash, key, marks_of(demand.life))
            }
            (None, _) => {
                self.rejected.counter_refused();
                return Some(match self.bounds.admit_when_full {
                    true => Admission::Allowed { debits, remaining, urgent: false },
                    false => denied_for_room(demand.limit_index),
                });
            }
        };
        let (tag, generation) = charge(now, self.bounds.grace, &mut shard, slot_index, demand);
        let urgent = self.is_urgent(&shard, slot_index, reading) && shard.mark_urgent(slot_index);
        let counter = SlotRef { slot: SlotId::new(shard_index, slot_index), tag };
        debits.push(Debit { counter, generation });
        Some(Admission::Allowed { debits, remaining, urgent })
    }

    /// Whether the peers must be told of a charge at once: the counter is past the urgent fraction of its limit, or would be
    /// if every peer had counted as much as we have since our last harvest. Without that second part, calls spread evenly
    /// over the nodes use a small limit up before any of them sees it near.
    ///
    /// This decides about no request; it only chooses when the next message leaves.
    #[inline]
    pub(super) fn is_urgent(&self, shard: &Shard, slot_index: u32, reading: Reading) -> bool {
        let unsent = shard.slot(slot_index).map_or(0, |slot| slot.counter.unversioned());
        let elsewhere = unsent.saturating_mul(self.peers.load(Ordering::Relaxed));
        let perhaps_used = reading.used.saturating_add(elsewhere);
        perhaps_used as f64 >= reading.max as f64 * self.bounds.urgent_fraction
    }

    #[expect(clippy::indexing_slicing, reason = "every guard that was found is among the guards")]
    fn acquire_all(
        &self,
        now: Timestamp,
        demands: &[Demand],
        targets: &[Target<'_>],
    ) -> Option<Admission> {
        let Locked { mut guards, found } = self.lock_all(now, demands, targets)?;
        if let Some(denied) = deny(now, demands, &found) {
            for (demand, found) in demands.iter().zip(&found) {
                if let Some(slot_index) = found.slot_index {
                    guards[found.guard].1.touch(now, slot_index, demand.life);
                }
            }
            return Some(denied);
        }
        let missing = missing(demands, &found).count();
        let reserved = (0..missing).take_while(|_| self.reserve_counter()).count();
        if reserved < missing {
            self.rejected.counter_refused();
            if !self.bounds.admit_when_full {
                (0..reserved).for_each(|_| self.release_counter());
                return Some(denied_for_room(first_missing(demands, &found, reserved)));
            }
        }
        let mut room = reserved;
        let mut debits = SmallVec::new();
        let mut remaining = u64::MAX;
        let mut urgent = false;
        for ((demand, found), target) in demands.iter().zip(&found).zip(targets) {
            let reading = found.reading(demand).after(demand.cost);
            remaining = remaining.min(reading.remaining());
            let (shard_index, shard) = &mut guards[found.guard];
            let slot_index = match (found.slot_index, target) {
                _ if demand.cost == 0 => continue,
                (Some(slot_index), _) => slot_index,
                (None, Target::Key { key, hash }) if room > 0 => {
                    room -= 1;
                    shard.insert(*hash, key, marks_of(demand.life))
                }
                (None, _) => continue,
            };
            let (tag, generation) = charge(now, self.bounds.grace, shard, slot_index, demand);
            urgent |= self.is_urgent(shard, slot_index, reading) && shard.mark_urgent(slot_index);
            let counter = SlotRef { slot: SlotId::new(*shard_index, slot_index), tag };
            debits.push(Debit { counter, generation });
        }
        Some(Admission::Allowed { debits, remaining, urgent })
    }

    /// What [`acquire`](Self::acquire) would answer, with nothing charged and nothing touched.
    #[expect(clippy::expect_used, reason = "what is looked up by its key is never gone, but new")]
    pub fn peek(&self, now: Timestamp, demands: &Demands) -> Admission {
        let locked = self.lock_all(now, &demands.list, &self.targets(demands));
        let Locked { found, .. } = locked.expect("a counter can always be found by its key");
        let demands = &demands.list[..];
        if let Some(denied) = deny(now, demands, &found) {
            return denied;
        }
        let missing = missing(demands, &found).count();
        let room = self.bounds.counters_max.saturating_sub(self.len());
        if missing > room && !self.bounds.admit_when_full {
            return denied_for_room(first_missing(demands, &found, room));
        }
        let left = |(demand, found): (&Demand, &Found)| {
            found.reading(demand).after(demand.cost).remaining()
        };
        let remaining = demands.iter().zip(&found).map(left).min().unwrap_or(u64::MAX);
        Admission::Allowed { debits: SmallVec::new(), remaining, urgent: false }
    }

    /// Returns what was taken, where the counter is still the one that was charged.
    pub fn refund(&self, debits: &[Debit], cost: u64) {
        for Debit { counter, generation } in debits {
            let mut shard = self.lock(counter.slot.shard());
            let Some(slot_index) = shard.index_of(*counter) else { continue };
            let slot = shard.slot_mut(slot_index);
            if let Some(slot) = slot.filter(|slot| slot.counter.generation() == *generation) {
                slot.counter.subtract(cost);
                shard.mark_dirty(slot_index);
            }
        }
    }

    #[inline(always)]
    fn target<'a>(&self, demands: &'a Demands, demand: &Demand) -> Target<'a> {
        let key = demands.key(demand);
        Target::Key { key, hash: self.key_hash(key) }
    }

    fn targets<'a>(&self, demands: &'a Demands) -> Targets<'a> {
        demands.list.iter().map(|demand| self.target(demands, demand)).collect()
    }

    /// Locks every shard that the targets are in, each once and in ascending order, and looks the counters up. `None` if one
    /// that was found before is gone.
    #[expect(
        clippy::expect_used,
        clippy::indexing_slicing,
        reason = "every target's shard is locked"
    )]
    fn lock_all(
        &self,
        now: Timestamp,
        demands: &[Demand],
        targets: &[Target<'_>],
    ) -> Option<Locked<'_>> {
        let mut numbers: SmallVec<[usize; 3]> =
            targets.iter().map(|target| target.shard()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let guards: SmallVec<[(usize, MutexGuard<'_, Shard>); 3]> =
            numbers.iter().map(|number| (*number, self.lock(*number))).collect();
        let find_one = |(demand, target): (&Demand, &Target<'_>)| {
            let guard = numbers.binary_search(&target.shard()).expect("the shard is locked");
            find(now, demand, *target, guard, &guards[guard].1)
        };
        let found = demands.iter().zip(targets).map(find_one).collect::<Option<_>>()?;
        Some(Locked { guards, found })
    }
}

/// Reads the counter of a demand. `None` if it was found before and is another one by now, or one of another window.
#[inline(always)]
fn find(
    now: Timestamp,
    demand: &Demand,
    target: Target<'_>,
    guard: usize,
    shard: &Shard,
) -> Option<Found> {
    let slot_index = match target {
        Target::Key { key, hash } => shard.find(hash, key),
        Target::Slot(slot_ref) => Some(shard.index_of(slot_ref)?),
    };
    let Some(slot) = slot_index.and_then(|slot_index| shard.slot(slot_index)) else {
        return Some(Found { guard, slot_index, used: 0, expires_at: demand.life.end() });
    };
    if let (Life::Window(window), Target::Slot(_)) = (demand.life, target)
        && !is_of_window(&slot.key, window)
    {
        return None;
    }
    let expires_at = slot.ends_under(demand.life);
    let used = if expires_at <= now { 0 } else { slot.counter.value() };
    Some(Found { guard, slot_index, used, expires_at })
}

impl Found {
    #[inline(always)]
    fn reading(&self, demand: &Demand) -> Reading {
        demand.reading(self.used)
    }

    /// How long until the counter expires; `None` where that does not help, since the cost does not fit in a new one either.
    #[inline]
    fn wait(&self, now: Timestamp, demand: &Demand) -> Option<Duration> {
        let ever_fits = rule::judge(Reading::unused(demand.max), demand.cost).is_room();
        ever_fits.then(|| self.expires_at.since(now))
    }

    #[inline]
    fn denial(&self, now: Timestamp, demand: &Demand) -> Admission {
        let retry_after = self.wait(now, demand);
        Admission::Denied {
            limit_index: demand.limit_index,
            reason: match retry_after {
                Some(_) => DenialReason::LimitReached,
                None => DenialReason::CostOverMax,
            },
            remaining: self.reading(demand).remaining(),
            retry_after,
        }
    }
}

/// Charges a demand to its counter, which begins anew first if it has ended. Returns the tag and the generation charged.
#[inline]
fn charge(
    now: Timestamp,
    grace: Duration,
    shard: &mut Shard,
    slot_index: u32,
    demand: &Demand,
) -> (u32, u32) {
    shard.reset_if_ended(now, grace, slot_index, |slot| slot.ends_under(demand.life));
    let Some(slot) = shard.slot_mut(slot_index) else { return (0, 0) };
    slot.counter.add(demand.cost);
    slot.counter.raise(marks_of(demand.life));
    let charged = (slot.tag, slot.counter.generation());
    shard.mark_dirty(slot_index);
    charged
}

/// The denial with the longest wait, if any counter has no room. Where waiting does not help, the wait counts as longest.
fn deny(now: Timestamp, demands: &[Demand], found: &[Found]) -> Option<Admission> {
    let pairs = demands.iter().zip(found);
    let full =
        pairs.filter(|(demand, found)| !rule::judge(found.reading(demand), demand.cost).is_room());
    let (demand, found) =
        full.max_by_key(|(demand, found)| found.wait(now, demand).unwrap_or(Duration::MAX))?;
    Some(found.denial(now, demand))
}

/// The demands that need a new counter.
fn missing<'a>(demands: &'a [Demand], found: &'a [Found]) -> impl Iterator<Item = &'a Demand> {
    let pairs = demands.iter().zip(found);
    pairs
        .filter(|(demand, found)| found.slot_index.is_none() && demand.cost > 0)
        .map(|(demand, _)| demand)
}

/// The limit of the first new counter for which there is no room.
fn first_missing(demands: &[Demand], found: &[Found], room: usize) -> usize {
    missing(demands, found).nth(room).map_or(0, |demand| demand.limit_index)
}

fn denied_for_room(limit_index: usize) -> Admission {
    let reason = DenialReason::TooManyCounters;
    Admission::Denied { limit_index, reason, remaining: 0, retry_after: None }
}
