//! Decisions: check and charge in one step, all of a request's counters or none.
//!
//! What is read (a [`Reading`]) and what is charged (a [`Demand`]) are two types; [`rule::judge`] alone says whether the one
//! has room for the other.

use crate::sync::MutexGuard;
use core::sync::atomic::Ordering;
use core::time::Duration;

use smallvec::SmallVec;

use super::shard::Shard;
use super::shares::ClaimId;
use super::slot::marks_of;
use super::{SlotId, SlotRef, Table, shard_of};
use crate::crdt::COUNT_MAX;
use crate::key::is_of_window;
use crate::limit::rule::{self, Reading};
use crate::limit::{Demand, Demands, DenialReason, Term};
use crate::mutant::mutant;
use crate::time::{COARSE_LATE_MAX, Timestamp};

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
        /// The index in the policy of the limit that denied; of several, of the one with the longest wait. [`NO_LIMIT`] where
        /// no limit was looked at.
        limit_index: usize,
        /// Why.
        reason: DenialReason,
        /// What is left under that limit.
        remaining: u64,
        /// How long until its counter expires, now that this request has used it, by a clock that is exact; `None` where
        /// waiting does not help. What there is to wait for by the system's clock, [`Moment::wait`] tells.
        ///
        /// [`Moment::wait`]: crate::time::Moment::wait
        retry_after: Option<Duration>,
    },
}

/// How long a caller that is denied because members are silent waits before it asks again: the cut may be over at any time.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// In the place of a limit's index: no limit was looked at, since the table is closed.
pub const NO_LIMIT: usize = usize::MAX;

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
pub(super) enum Target<'a> {
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
pub(super) struct Found {
    /// Where the shard of the counter to charge is among the guards.
    guard: usize,
    /// The slot of the counter to charge; `None` if it does not exist yet.
    pub slot_index: Option<u32>,
    /// What is read: how much of the limit is used.
    pub used: u64,
    /// How much may be: what the limit says, or less while members are silent.
    pub allowed: u64,
    /// How much the own cell can still count.
    room: u64,
    /// When the counter that was read expires if nothing uses it any more.
    pub ends_at: Timestamp,
    /// When it expires if this request uses it, allowed or denied.
    expires_at: Timestamp,
}

/// What a decision takes the time that it is made at for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Clock {
    /// The time.
    Exact,
    /// A time that was, at most [`COARSE_LATE_MAX`] ago.
    Coarse,
}

impl Table {
    /// Admits a request and charges every counter, or denies it and charges none.
    ///
    /// A denied attempt is use all the same: it keeps a session's counters alive.
    #[expect(clippy::expect_used, reason = "what is looked up by its key is never gone, but new")]
    pub fn acquire(&self, now: Timestamp, demands: &Demands) -> Admission {
        let admission = self.acquire_by_key(now, Clock::Exact, demands);
        admission.expect("a counter can always be found by its key")
    }

    /// As [`acquire`](Self::acquire), by a clock that may be late by up to [`COARSE_LATE_MAX`]. `None`, with nothing charged and
    /// nothing used, if it would be denied by a counter that may have ended meanwhile: then ask again by a clock that is exact.
    #[inline(always)]
    pub fn acquire_early(&self, coarse: Timestamp, demands: &Demands) -> Option<Admission> {
        self.acquire_by_key(coarse, Clock::Coarse, demands)
    }

    /// As [`acquire_early`](Self::acquire_early), with references to the counters that were found before, one for each demand.
    /// `None` also if one of them is gone.
    #[inline]
    pub fn acquire_by_ref(
        &self,
        coarse: Timestamp,
        demands: &[Demand],
        counters: impl IntoIterator<Item = SlotRef>,
    ) -> Option<Admission> {
        let mut counters = counters.into_iter();
        match demands {
            [demand] => {
                self.acquire_one(coarse, Clock::Coarse, demand, Target::Slot(counters.next()?))
            }
            _ => {
                let targets: Targets<'_> = counters.map(Target::Slot).collect();
                self.acquire_all(coarse, Clock::Coarse, demands, &targets)
            }
        }
    }

    #[inline(always)]
    fn acquire_by_key(&self, now: Timestamp, clock: Clock, demands: &Demands) -> Option<Admission> {
        match &demands.list[..] {
            [demand] => self.acquire_one(now, clock, demand, self.target(demands, demand)),
            list => self.acquire_all(now, clock, list, &self.targets(demands)),
        }
    }

    /// The most frequent case, in which nothing has to be put in order.
    #[inline(always)]
    fn acquire_one(
        &self,
        now: Timestamp,
        clock: Clock,
        demand: &Demand,
        target: Target<'_>,
    ) -> Option<Admission> {
        let shard_index = target.shard();
        let mut shard = self.lock(shard_index);
        if self.is_closed() {
            return Some(denied_as_closed());
        }
        let mut found = find(now, demand, target, 0, &shard)?;
        self.heed_cut(now, demand, target, &mut found, &mut shard);
        if !found.fits(demand) {
            if clock.may_have_passed(now, &found) {
                return None;
            }
            if let Some(slot_index) = found.slot_index {
                shard.touch(now, slot_index, demand.term);
            }
            return Some(found.denial(now, demand));
        }
        let reading = found.reading().after(demand.cost);
        let remaining = reading.remaining();
        let mut debits = SmallVec::new();
        if demand.cost == 0 {
            return Some(Admission::Allowed { debits, remaining, urgent: false });
        }
        let slot_index = match (found.slot_index, target) {
            (Some(slot_index), _) => slot_index,
            (None, Target::Key { key, hash }) => match self.take_room(key) {
                Some(claim) => shard.insert(hash, key, marks_of(demand.term), claim),
                None => {
                    self.rejected.counter_refused();
                    return Some(match self.bounds.admit_when_full {
                        true => Admission::Allowed { debits, remaining, urgent: false },
                        false => denied_for_room(demand.limit_index),
                    });
                }
            },
            // By a reference nothing is found that is not there.
            (None, Target::Slot(_)) => return None,
        };
        let (tag, generation) = self.charge(now, &mut shard, slot_index, demand);
        let urgent = self.is_urgent(&shard, slot_index, reading) && shard.mark_urgent(slot_index);
        let counter = SlotRef { slot: SlotId::new(shard_index, slot_index), tag };
        debits.push(Debit { counter, generation });
        Some(Admission::Allowed { debits, remaining, urgent })
    }

    /// Charges a demand to its counter, which begins again first if it has ended. Returns the tag and the generation charged.
    #[inline]
    fn charge(
        &self,
        now: Timestamp,
        shard: &mut Shard,
        slot_index: u32,
        demand: &Demand,
    ) -> (u32, u32) {
        let grace = self.bounds.grace;
        if shard.reset_if_ended(now, grace, slot_index, |slot| slot.ends_under(demand.term)) {
            self.begins_generation();
        }
        if !demand.is_never_cut_off() {
            // A counter that is as it was when it was found has been noted by then.
            self.note_if_cut(shard, slot_index);
        }
        let Some(slot) = shard.slot_mut(slot_index) else { return (0, 0) };
        slot.counter.add(demand.cost);
        slot.counter.raise(marks_of(demand.term));
        let charged = (slot.tag, slot.counter.generation());
        shard.mark_dirty(slot_index);
        charged
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
        clock: Clock,
        demands: &[Demand],
        targets: &[Target<'_>],
    ) -> Option<Admission> {
        let Locked { mut guards, found } = self.lock_all(now, demands, targets)?;
        if self.is_closed() {
            return Some(denied_as_closed());
        }
        if let Some(denied) = self.deny(now, demands, &found, targets) {
            if clock.may_have_passed_one(now, demands, &found) {
                return None;
            }
            if matches!(denied, Admission::Denied { reason: DenialReason::TooManyCounters, .. }) {
                self.rejected.counter_refused();
            }
            for (demand, found) in demands.iter().zip(&found) {
                if let Some(slot_index) = found.slot_index {
                    guards[found.guard].1.touch(now, slot_index, demand.term);
                }
            }
            return Some(denied);
        }
        let mut claims: SmallVec<[ClaimId; 3]> = SmallVec::new();
        for (demand, key) in missing(demands, &found, targets) {
            match self.take_room(key) {
                Some(claim) => claims.push(claim),
                None => {
                    self.rejected.counter_refused();
                    if !self.bounds.admit_when_full {
                        claims.into_iter().for_each(|claim| self.give_room_back(claim));
                        return Some(denied_for_room(demand.limit_index));
                    }
                    break;
                }
            }
        }
        let mut claims = claims.into_iter();
        let mut debits = SmallVec::new();
        let mut remaining = u64::MAX;
        let mut urgent = false;
        for ((demand, found), target) in demands.iter().zip(&found).zip(targets) {
            let reading = found.reading().after(demand.cost);
            remaining = remaining.min(reading.remaining());
            let (shard_index, shard) = &mut guards[found.guard];
            let slot_index = match (found.slot_index, target) {
                _ if demand.cost == 0 => continue,
                (Some(slot_index), _) => slot_index,
                (None, Target::Key { key, hash }) => match claims.next() {
                    Some(claim) => shard.insert(*hash, key, marks_of(demand.term), claim),
                    None => continue,
                },
                (None, Target::Slot(_)) => continue,
            };
            let (tag, generation) = self.charge(now, shard, slot_index, demand);
            urgent |= self.is_urgent(shard, slot_index, reading) && shard.mark_urgent(slot_index);
            let counter = SlotRef { slot: SlotId::new(*shard_index, slot_index), tag };
            debits.push(Debit { counter, generation });
        }
        Some(Admission::Allowed { debits, remaining, urgent })
    }

    /// What [`acquire`](Self::acquire) would answer, with nothing charged and nothing touched.
    #[expect(clippy::expect_used, reason = "what is looked up by its key is never gone, but new")]
    pub fn peek(&self, now: Timestamp, demands: &Demands) -> Admission {
        let admission = self.peek_by(now, Clock::Exact, demands);
        admission.expect("a counter can always be found by its key")
    }

    /// What [`acquire_early`](Self::acquire_early) would answer.
    pub fn peek_early(&self, coarse: Timestamp, demands: &Demands) -> Option<Admission> {
        self.peek_by(coarse, Clock::Coarse, demands)
    }

    fn peek_by(&self, now: Timestamp, clock: Clock, demands: &Demands) -> Option<Admission> {
        if self.is_closed() {
            return Some(denied_as_closed());
        }
        let targets = self.targets(demands);
        let Locked { found, .. } = self.lock_all(now, &demands.list, &targets)?;
        let demands = &demands.list[..];
        let for_room = || self.deny_for_room(demands, &found, &targets);
        if let Some(denied) = self.deny(now, demands, &found, &targets).or_else(for_room) {
            return (!clock.may_have_passed_one(now, demands, &found)).then_some(denied);
        }
        let left =
            |(demand, found): (&Demand, &Found)| found.reading().after(demand.cost).remaining();
        let remaining = demands.iter().zip(&found).map(left).min().unwrap_or(u64::MAX);
        Some(Admission::Allowed { debits: SmallVec::new(), remaining, urgent: false })
    }

    /// The denial with the longest wait, if any counter has no room for its demand. Where waiting does not help, the wait
    /// counts as longest; so it does if the request needs a new counter as well, and there is no room for one.
    fn deny(
        &self,
        now: Timestamp,
        demands: &[Demand],
        found: &[Found],
        targets: &[Target<'_>],
    ) -> Option<Admission> {
        let pairs = demands.iter().zip(found);
        let full = pairs.filter(|(demand, found)| !found.fits(demand));
        let (demand, found_full) =
            full.max_by_key(|(demand, found)| found.wait(now, demand).unwrap_or(Duration::MAX))?;
        let denial = found_full.denial(now, demand);
        match denial {
            Admission::Denied { retry_after: Some(_), .. } => {
                Some(self.deny_for_room(demands, found, targets).unwrap_or(denial))
            }
            _ => Some(denial),
        }
    }

    /// The denial for want of a counter, if the request needs more new ones than there is room for.
    fn deny_for_room(
        &self,
        demands: &[Demand],
        found: &[Found],
        targets: &[Target<'_>],
    ) -> Option<Admission> {
        if self.bounds.admit_when_full {
            return None;
        }
        let room = self.room_for(missing(demands, found, targets).map(|(_, key)| key));
        let (demand, _) = missing(demands, found, targets).nth(room)?;
        Some(denied_for_room(demand.limit_index))
    }

    /// Returns what was taken, where the counter is still the one that was charged: to the own cell, which was charged, and
    /// at most what is still there of it. `false`, with nothing changed, when the table is closed.
    pub fn refund(&self, debits: &[Debit], cost: u64) -> bool {
        // All at once: half of a refund must not come after the last checkpoint.
        let mut guards = self.lock_shards(debits.iter().map(|debit| debit.counter.slot.shard()));
        if self.is_closed() {
            return false;
        }
        for Debit { counter, generation } in debits {
            let shard = guards.iter_mut().find(|(number, _)| *number == counter.slot.shard());
            let Some((_, shard)) = shard else { continue };
            let Some(slot_index) = shard.index_of(*counter) else { continue };
            self.note_if_cut(shard, slot_index);
            let slot = shard.slot_mut(slot_index);
            if let Some(slot) = slot.filter(|slot| slot.counter.generation() == *generation)
                && slot.counter.take_back(cost) > 0
            {
                shard.mark_dirty(slot_index);
            }
        }
        true
    }

    /// Locks these shards, each once and in ascending order.
    fn lock_shards(
        &self,
        numbers: impl Iterator<Item = usize>,
    ) -> SmallVec<[(usize, MutexGuard<'_, Shard>); 3]> {
        let mut numbers: SmallVec<[usize; 3]> = numbers.collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.iter().map(|number| (*number, self.lock(*number))).collect()
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
        let mut guards = self.lock_shards(targets.iter().map(|target| target.shard()));
        let find_one = |(demand, target): (&Demand, &Target<'_>)| {
            let guard = guards.binary_search_by_key(&target.shard(), |(number, _)| *number);
            let guard = guard.expect("the shard is locked");
            let shard = &mut guards[guard].1;
            let mut found = find(now, demand, *target, guard, shard)?;
            self.heed_cut(now, demand, *target, &mut found, shard);
            Some(found)
        };
        let found = demands.iter().zip(targets).map(find_one).collect::<Option<_>>()?;
        Some(Locked { guards, found })
    }
}

/// Reads the counter of a demand. `None` if it was found before and is another one by now, or one of another window.
#[inline(always)]
pub(super) fn find(
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
        let (used, room, end) = (0, COUNT_MAX, demand.term.end());
        let allowed = demand.max;
        return Some(Found {
            guard,
            slot_index,
            used,
            allowed,
            room,
            ends_at: end,
            expires_at: end,
        });
    };
    if let (Term::Window(window), Target::Slot(_)) = (demand.term, target)
        && !is_of_window(&slot.key, window)
    {
        return None;
    }
    let ends_at = slot.ends_under(demand.term);
    let (used, room) = match ends_at <= now {
        true => (0, COUNT_MAX),
        false => (slot.counter.value(), slot.counter.room()),
    };
    // A denied request touches what it found, so a wait is told from the end that this makes.
    let expires_at = slot.ends_once_used(demand.term);
    Some(Found { guard, slot_index, used, allowed: demand.max, room, ends_at, expires_at })
}

impl Clock {
    /// Whether a counter that was read may have ended by now, though by this clock it has not.
    #[inline]
    fn may_have_passed(self, now: Timestamp, found: &Found) -> bool {
        let is_exact = self == Clock::Exact || mutant!(CoarseTakenForExact);
        !is_exact && found.ends_at > now && found.ends_at.since(now) <= COARSE_LATE_MAX
    }

    /// Whether one of the counters that have no room for their demands may have.
    fn may_have_passed_one(self, now: Timestamp, demands: &[Demand], found: &[Found]) -> bool {
        let mut pairs = demands.iter().zip(found);
        pairs.any(|(demand, found)| !found.fits(demand) && self.may_have_passed(now, found))
    }
}

impl Found {
    #[inline(always)]
    fn reading(&self) -> Reading {
        Reading { used: self.used, max: self.allowed }
    }

    /// Whether a demand may be charged here: the limit has room for it, and the own cell too.
    #[inline(always)]
    fn fits(&self, demand: &Demand) -> bool {
        rule::judge(self.reading(), demand.cost).is_room() && demand.cost <= self.room
    }

    /// How long until the counter expires; `None` where that does not help, since the cost does not fit in a new one either.
    #[inline]
    fn wait(&self, now: Timestamp, demand: &Demand) -> Option<Duration> {
        let ever_fits = rule::judge(Reading::unused(demand.max), demand.cost).is_room();
        let until_it_ends = || self.expires_at.since(now);
        ever_fits.then(|| match self.is_cut_off(demand) {
            true => until_it_ends().min(LOOK_AGAIN_AFTER),
            false => until_it_ends(),
        })
    }

    /// Whether there would be room if no member were silent.
    fn is_cut_off(&self, demand: &Demand) -> bool {
        let is_room = |reading| rule::judge(reading, demand.cost).is_room();
        is_room(demand.reading(self.used)) && !is_room(self.reading())
    }

    #[inline]
    fn denial(&self, now: Timestamp, demand: &Demand) -> Admission {
        let retry_after = self.wait(now, demand);
        let is_full = !rule::judge(self.reading(), demand.cost).is_room();
        Admission::Denied {
            limit_index: demand.limit_index,
            reason: match retry_after {
                Some(_) if self.is_cut_off(demand) && !mutant!(CutOffUnnamed) => {
                    DenialReason::CutOff
                }
                Some(_) if is_full => DenialReason::LimitReached,
                Some(_) => DenialReason::CounterExhausted,
                None => DenialReason::CostOverMax,
            },
            remaining: self.reading().remaining().min(self.room),
            retry_after,
        }
    }
}

/// The demands that need a new counter, and its key.
fn missing<'a>(
    demands: &'a [Demand],
    found: &'a [Found],
    targets: &'a [Target<'a>],
) -> impl Iterator<Item = (&'a Demand, &'a [u8])> {
    let all = demands.iter().zip(found).zip(targets);
    all.filter_map(|((demand, found), target)| match target {
        Target::Key { key, .. } if found.slot_index.is_none() && demand.cost > 0 => {
            Some((demand, *key))
        }
        _ => None,
    })
}

#[cold]
fn denied_as_closed() -> Admission {
    let reason = DenialReason::Closed;
    Admission::Denied { limit_index: NO_LIMIT, reason, remaining: 0, retry_after: None }
}

fn denied_for_room(limit_index: usize) -> Admission {
    let reason = DenialReason::TooManyCounters;
    Admission::Denied { limit_index, reason, remaining: 0, retry_after: None }
}
