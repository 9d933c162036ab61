//! Chains of deltas, as they are sent and as they arrive.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use crate::crdt::{Begun, Delta};
use crate::id::{ReplicaId, Version};
use crate::table::Table;
use crate::time::Timestamp;

/// A chain on its way out.
#[derive(Debug)]
pub(super) struct OutgoingChain {
    from: Version,
    chain: u32,
    part: u32,
    sent: Version,
    /// Set once more was sent than is known without holes: what fills a hole while the chain is under way may be behind what
    /// was sent, so the chain cannot vouch for more than this.
    vouches_to: Option<Version>,
}

impl OutgoingChain {
    /// A chain that sends what follows `from`; `chain` is its number.
    pub(super) fn new(from: Version, chain: u32) -> OutgoingChain {
        OutgoingChain { from, chain, part: 0, sent: from, vouches_to: None }
    }

    /// The next part; `None` when there is nothing to send. The part with a watermark is the last.
    pub(super) fn next_delta(
        &mut self,
        table: &Table,
        replica: &ReplicaId,
        bytes_max: usize,
    ) -> Option<Delta> {
        let part = table.updates_after(replica, self.sent, bytes_max)?;
        if part.to > part.complete_to {
            self.vouches_to.get_or_insert(part.complete_to);
        }
        let vouches_to = self.vouches_to;
        let watermark = part.watermark.map(|held| vouches_to.map_or(held, |most| held.min(most)));
        let delta = Delta {
            replica: replica.clone(),
            from: self.from,
            chain: self.chain,
            part: self.part,
            watermark,
            as_of: None,
            begun: Vec::new(),
            updates: part.updates,
        };
        self.sent = part.to;
        self.part += 1;
        Some(delta)
    }
}

/// What comes in over a link: at most one chain about each replica.
#[derive(Debug, Default)]
pub(super) struct IncomingChains {
    under_way: BTreeMap<ReplicaId, IncomingChain>,
    /// What whole chains vouch for that is not believed yet ...
    waiting: BTreeMap<ReplicaId, Vouched>,
    /// ... before of these replicas everything is here up to a version: see [`Delta::begun`].
    needs: BTreeMap<ReplicaId, Version>,
    /// Since when it is put off.
    since: Duration,
}

/// More chains than this are not taken in over a link at a time: those beyond are void, and asked for again.
const UNDER_WAY_MAX: usize = 1_024;
/// More parts of a chain than this do not wait for one before them; a chain with more stays void.
const BEYOND_MAX: usize = 1_024;
/// More replicas than this are not waited for.
const NEEDS_MAX: usize = 256;
/// For longer than this nothing is put off: what is waited for may have ended, or be lost with all who had it.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a whole chain vouches for: all of a replica from a version to a watermark, by a time. See [`Delta`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Vouched {
    pub from: Version,
    pub watermark: Version,
    pub as_of: Option<Timestamp>,
}

/// What a part of a chain has led to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Every part is here, and the chain leads to this watermark.
    Whole(Version),
    /// Further parts of the chain are still to come.
    UnderWay,
    /// It leads to nothing: it has a hole, or is of an older chain than the one that is coming in.
    Void,
}

impl IncomingChains {
    /// Notes a part that was applied. `has_hole` says that some of its updates were refused: then all of its chain is void.
    pub(super) fn arrived(&mut self, delta: &Delta, has_hole: bool) -> Arrival {
        if let Some(watermark) = delta.watermark
            && delta.part == 0
            && !has_hole
        {
            // A chain of one part, as most are: whole by itself, whatever else is under way.
            return Arrival::Whole(watermark);
        }
        let mut chain = match self.under_way.remove(&delta.replica) {
            Some(chain) if chain.includes(delta) => chain,
            Some(newer) if newer.is_after(delta) => {
                self.under_way.insert(delta.replica.clone(), newer);
                return Arrival::Void;
            }
            _ => IncomingChain::of(delta),
        };
        match chain.arrived(delta) {
            _ if has_hole => Arrival::Void,
            Some(watermark) => Arrival::Whole(watermark),
            None if self.under_way.len() >= UNDER_WAY_MAX => Arrival::Void,
            None => {
                self.under_way.insert(delta.replica.clone(), chain);
                Arrival::UnderWay
            }
        }
    }

    /// Puts off what a whole chain vouches for until these are here. `false` if that is too much to wait for.
    pub(super) fn wait(
        &mut self,
        now: Duration,
        (replica, vouched): (&ReplicaId, Vouched),
        begun: &[Begun],
    ) -> bool {
        let new = begun.iter().filter(|Begun(needed, _)| !self.needs.contains_key(needed));
        if self.needs.len() + new.count() > NEEDS_MAX {
            return false;
        }
        for Begun(needed, version) in begun {
            let needs = self.needs.entry(needed.clone()).or_default();
            *needs = (*needs).max(*version);
        }
        if self.waiting.is_empty() {
            self.since = now;
        }
        self.waiting.insert(replica.clone(), vouched);
        true
    }

    /// Takes what was put off, if all is here that it waits for, or is itself among what was put off.
    pub(super) fn take_believed(
        &mut self,
        now: Duration,
        table: &Table,
    ) -> BTreeMap<ReplicaId, Vouched> {
        if self.waiting.is_empty() {
            return BTreeMap::new();
        }
        self.needs.retain(|needed, version| !table.reaches(needed, *version));
        let comes_with = |(needed, version): (&ReplicaId, &Version)| {
            self.waiting.get(needed).is_some_and(|vouched| {
                vouched.watermark >= *version && vouched.from <= table.watermark(needed)
            })
        };
        let is_over = now.saturating_sub(self.since) >= PATIENCE;
        if !is_over && !self.needs.iter().all(comes_with) {
            return BTreeMap::new();
        }
        self.needs.clear();
        core::mem::take(&mut self.waiting)
    }
}

/// A chain on its way in. Its parts may come in any order, and more than once.
#[derive(Debug)]
struct IncomingChain {
    chain: u32,
    /// All parts before this number are here ...
    complete_to: u32,
    /// ... and these.
    beyond: BTreeSet<u32>,
    last: Option<(u32, Version)>,
}

impl IncomingChain {
    fn of(delta: &Delta) -> IncomingChain {
        IncomingChain { chain: delta.chain, complete_to: 0, beyond: BTreeSet::new(), last: None }
    }

    /// Whether the delta is of this chain; another one's parts must not be counted into it, since cells may have moved from
    /// one part to another between the two.
    fn includes(&self, delta: &Delta) -> bool {
        self.chain == delta.chain
    }

    /// Whether the delta is of a chain that was begun on this link before this one.
    fn is_after(&self, delta: &Delta) -> bool {
        let is_of_this_link = self.chain >> 16 == delta.chain >> 16;
        is_of_this_link && (self.chain as u16).wrapping_sub(delta.chain as u16) as i16 > 0
    }

    /// Notes a part that was applied; returns the new watermark once all parts are here.
    fn arrived(&mut self, delta: &Delta) -> Option<Version> {
        if delta.part >= self.complete_to && self.beyond.len() < BEYOND_MAX {
            self.beyond.insert(delta.part);
        }
        while self.beyond.remove(&self.complete_to) {
            self.complete_to += 1;
        }
        if let Some(watermark) = delta.watermark {
            self.last = Some((delta.part, watermark));
        }
        let (last, watermark) = self.last?;
        (self.complete_to > last).then_some(watermark)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;
    use crate::id::Incarnation;
    use crate::key::CounterKey;
    use crate::limit::Lifetime;
    use crate::table::{Bounds, DirtySet, Op};

    fn delta(chain: u32, part: u32, watermark: Option<u64>) -> Delta {
        let incarnation = Incarnation { boot: 1, nonce: 1 };
        let replica = ReplicaId { node: "a".parse().unwrap(), incarnation };
        let watermark = watermark.map(Version);
        Delta {
            replica,
            from: Version::ZERO,
            chain,
            part,
            watermark,
            as_of: None,
            begun: Vec::new(),
            updates: Vec::new(),
        }
    }

    #[test]
    fn a_chain_is_whole_when_every_part_is_here_in_any_order() {
        let mut chain = IncomingChain::of(&delta(7, 2, None));
        assert_eq!(chain.arrived(&delta(7, 2, None)), None);
        assert_eq!(chain.arrived(&delta(7, 3, Some(9))), None);
        assert_eq!(chain.arrived(&delta(7, 0, None)), None);
        assert_eq!(chain.arrived(&delta(7, 0, None)), None);
        assert_eq!(chain.arrived(&delta(7, 1, None)), Some(Version(9)));
        assert!(chain.includes(&delta(7, 0, None)) && !chain.includes(&delta(8, 0, None)));
        assert!(chain.is_after(&delta(6, 0, None)) && !chain.is_after(&delta(8, 0, None)));
        assert!(!chain.is_after(&delta(6 + (5 << 16), 0, None)), "it strayed from another link");
    }

    #[test]
    fn of_two_chains_about_a_replica_the_newer_counts_and_a_hole_voids_one() {
        let mut chains = IncomingChains::default();
        assert_eq!(chains.arrived(&delta(7, 0, None), false), Arrival::UnderWay);
        assert_eq!(chains.arrived(&delta(6, 1, Some(4)), false), Arrival::Void);
        assert_eq!(chains.arrived(&delta(5, 0, Some(3)), false), Arrival::Whole(Version(3)));
        assert_eq!(chains.arrived(&delta(7, 1, Some(9)), false), Arrival::Whole(Version(9)));
        assert_eq!(chains.arrived(&delta(8, 0, None), true), Arrival::Void);
        assert_eq!(chains.arrived(&delta(8, 1, Some(9)), false), Arrival::UnderWay);
        assert!(!chains.under_way.is_empty());
    }

    #[test]
    fn chains_and_parts_that_nothing_completes_are_bounded() {
        let mut chains = IncomingChains::default();
        for number in 0..2 * UNDER_WAY_MAX {
            let node = number.to_string().parse().unwrap();
            let replica = ReplicaId { node, incarnation: Incarnation { boot: 1, nonce: 1 } };
            let arrival = chains.arrived(&Delta { replica, ..delta(7, 0, None) }, false);
            assert_eq!(arrival == Arrival::UnderWay, number < UNDER_WAY_MAX);
        }
        assert_eq!(chains.arrived(&delta(7, 0, Some(9)), false), Arrival::Whole(Version(9)));

        let mut chain = IncomingChain::of(&delta(7, 1, None));
        for part in 1..2 * BEYOND_MAX as u32 {
            assert_eq!(chain.arrived(&delta(7, part, None)), None);
        }
        assert_eq!(chain.beyond.len(), BEYOND_MAX);
    }

    /// The middle table has of `a` what its peers pushed, and learns what is missing while it tells a third of it.
    #[test]
    fn what_fills_a_hole_behind_a_chain_is_not_vouched_for() {
        let table = |node: &str| {
            let incarnation = Incarnation { boot: 1, nonce: 1 };
            let own = ReplicaId { node: node.parse().unwrap(), incarnation };
            Table::new(own, Bounds::default(), [1, 2, 3, 4])
        };
        let (writer, middle, reader) = (table("a"), table("b"), table("c"));
        let own = writer.own_replica();
        for number in 0..100 {
            let key = CounterKey::new("x", &[&number.to_string()]).unwrap();
            let lifetime = Lifetime::new(Duration::from_secs(90_000));
            writer.execute(Timestamp(1), &key, Op::Add(1), lifetime).unwrap();
            writer.harvest(DirtySet::All);
        }
        let all = writer.updates_after(&own, Version::ZERO, usize::MAX).unwrap();
        let (missed, pushed) = all.updates.split_at(50);
        middle.apply(Timestamp(1), &own, pushed);

        let tell_the_rest = |chain: &mut OutgoingChain| {
            while let Some(delta) = chain.next_delta(&middle, &own, 1_000) {
                reader.apply(Timestamp(1), &own, &delta.updates);
                let Some(watermark) = delta.watermark else { continue };
                assert!(reader.complete(&own, Version::ZERO, watermark));
                break;
            }
        };

        let mut chain = OutgoingChain::new(Version::ZERO, 1);
        let first = chain.next_delta(&middle, &own, 1_000).unwrap();
        assert_eq!(first.watermark, None);
        reader.apply(Timestamp(1), &own, &first.updates);
        middle.apply(Timestamp(1), &own, missed);
        assert!(middle.complete(&own, Version::ZERO, Version(100)));
        tell_the_rest(&mut chain);
        assert_eq!((reader.len(), reader.watermark(&own)), (50, Version::ZERO));

        tell_the_rest(&mut OutgoingChain::new(Version::ZERO, 2));
        assert_eq!((reader.len(), reader.watermark(&own)), (100, Version(100)));
    }
}
