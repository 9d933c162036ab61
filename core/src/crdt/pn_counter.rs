//! A PN-counter as one replica holds it: its own cell, which it alone writes, and copies of the peers' cells.

mod counted;

use alloc::vec::Vec;

use super::packed_cells::PackedCells;
use super::{COUNT_MAX, Cell, Marks};
use crate::id::Version;
use crate::mutant::mutant;

/// A replica's number in a table of this process; [`ReplicaIndex::OWN`] is the process itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaIndex(pub u32);

impl ReplicaIndex {
    /// The replica that holds the counter.
    pub const OWN: ReplicaIndex = ReplicaIndex(0);
}

/// What a merge did to a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merged {
    /// The counter changed.
    New,
    /// The very same cell was held already.
    Known,
    /// A newer version, or a newer generation, was held already.
    Superseded,
}

/// A counter that replicas add to and subtract from, and that converges whatever the order of merges.
///
/// `generation` counts the resets: a higher one replaces the lower, cells, marks and all, and equal ones merge. Increments
/// made elsewhere while a reset is under way may be dropped by it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[repr(C)] // What a read needs comes first, to be close to what lies before the counter in memory.
pub struct PnCounter {
    /// The marks `at` and `p0`.
    at: u64,
    p0: u64,
    own: Cell,
    /// `sum p - sum n` over those of `peers` that count, so that a read need not walk them; at its bounds it means nothing.
    peers_net: i64,
    /// In the place of the own replica, whose cell stands apart, is the mark `n0`, if there is one: few counters have it, so
    /// it is no field of all.
    peers: PackedCells,
    generation: u32,
    /// What was added to the own cell since it last got a version.
    unversioned: u32,
}

/// The bound of `peers_net`, either way.
const NET_MAX: i64 = i64::MAX;

impl PnCounter {
    /// A counter that holds these marks, and these cells of other replicas, all of one generation: what merging each of them
    /// would make.
    pub fn of_peers(
        generation: u32,
        marks: Marks,
        mut peers: Vec<(ReplicaIndex, Cell)>,
    ) -> PnCounter {
        assert!(
            peers.iter().all(|(replica, _)| *replica != ReplicaIndex::OWN),
            "only its owner writes a cell"
        );
        // Of several copies of one replica's cell, the highest comes first and is kept.
        peers.sort_unstable_by(|one, other| one.0.cmp(&other.0).then(other.1.cmp(&one.1)));
        peers.dedup_by_key(|(replica, _)| *replica);
        let peers = PackedCells::of_ascending(&peers);
        let mut counter = PnCounter { generation, peers, ..PnCounter::default() };
        counter.recount(|_| true);
        counter.raise(marks);
        counter
    }

    /// `sum p - sum n`, never below zero.
    #[inline]
    pub fn value(&self) -> u64 {
        if self.peers_net.abs() == NET_MAX {
            return self.value_of_cells();
        }
        // An own cell counts far less than an `i64` does.
        let own = (self.own.p as i64).saturating_sub(self.own.n as i64);
        own.saturating_add(self.peers_net).max(0) as u64
    }

    /// Of all cells: so much is in the counted ones alone that the others make no difference to any limit.
    #[cold]
    fn value_of_cells(&self) -> u64 {
        let sum = |of: fn(&Cell) -> u64| {
            self.peers().fold(of(&self.own), |sum, (_, cell)| sum.saturating_add(of(&cell)))
        };
        sum(|cell| cell.p).saturating_sub(sum(|cell| cell.n))
    }

    /// The three numbers that only grow.
    #[inline]
    pub fn marks(&self) -> Marks {
        Marks { at: self.at, p0: self.p0, n0: self.n0() }
    }

    /// The marks `at` and `p0`, without the one that few counters have.
    #[inline(always)]
    pub fn use_marks(&self) -> (u64, u64) {
        (self.at, self.p0)
    }

    fn n0(&self) -> u64 {
        self.peers.get(ReplicaIndex::OWN).map_or(0, |mark| mark.n)
    }

    /// Raises each mark to at least what is given; returns whether one grew. A change of the own node's making must get its
    /// own cell a new version, or no peer hears of it.
    #[inline]
    pub fn raise(&mut self, marks: Marks) -> bool {
        let grew = marks.at > self.at || marks.p0 > self.p0;
        self.at = self.at.max(marks.at);
        self.p0 = self.p0.max(marks.p0);
        if marks.n0 > 0 && marks.n0 > self.n0() {
            self.peers.set(ReplicaIndex::OWN, Cell { n: marks.n0, ..Cell::default() });
            return true;
        }
        grew
    }

    /// How often the counter was reset.
    #[inline]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Copies of the other replicas' cells, by ascending index.
    pub fn peers(&self) -> impl Iterator<Item = (ReplicaIndex, Cell)> {
        self.peers.iter().filter(|(replica, _)| *replica != ReplicaIndex::OWN)
    }

    /// How many other replicas' cells are held.
    #[inline]
    pub fn peers_held(&self) -> usize {
        self.peers.len() - usize::from(self.n0() > 0)
    }

    /// Whether so many cells are held that a checkpoint takes only those that changed, by
    /// [`take_page`](Self::take_page).
    pub fn is_paged(&self) -> bool {
        self.peers.is_paged()
    }

    /// Where there are pages: the peers' cells of the next one past `after` that changed since they were last taken, or `all`
    /// of them. The last replica of the page is where the next one begins; `None` after the last page.
    pub fn take_page(
        &mut self,
        after: Option<ReplicaIndex>,
        all: bool,
    ) -> Option<(ReplicaIndex, Vec<(ReplicaIndex, Cell)>)> {
        let (last, mut cells) = self.peers.pages_mut()?.take_page(after, all)?;
        // The mark that stands in the place of the own cell is no cell.
        cells.retain(|(replica, _)| *replica != ReplicaIndex::OWN);
        Some((last, cells))
    }

    /// The cell of one replica, if held.
    #[inline]
    pub fn cell(&self, replica: ReplicaIndex) -> Option<Cell> {
        if replica == ReplicaIndex::OWN {
            return (self.own != Cell::default()).then_some(self.own);
        }
        self.peers.get(replica)
    }

    /// How much the own cell can still count: once it has counted [`COUNT_MAX`], nothing.
    #[inline]
    pub fn room(&self) -> u64 {
        COUNT_MAX.saturating_sub(self.own.p)
    }

    /// Counts `amount` more in the own cell, as far as there is [`room`](Self::room).
    #[inline]
    pub fn add(&mut self, amount: u64) {
        self.own.p = self.own.p.saturating_add(amount).min(COUNT_MAX);
        let amount = u32::try_from(amount).unwrap_or(u32::MAX);
        self.unversioned = self.unversioned.saturating_add(amount);
    }

    /// Takes away `amount`, whichever replica added it, but never more than is there as far as this replica knows. Returns how much.
    #[inline]
    pub fn take(&mut self, amount: u64) -> u64 {
        let there = if mutant!(TakenBelowZero) { u64::MAX } else { self.value() };
        self.lower(amount.min(there))
    }

    /// Takes back what this replica added itself, at most `amount` and never more than is there of it, so that its cell's `n`
    /// stays within its `p`. Returns how much.
    #[inline]
    pub fn take_back(&mut self, amount: u64) -> u64 {
        self.lower(amount.min(self.own.p.saturating_sub(self.own.n)))
    }

    #[inline]
    fn lower(&mut self, amount: u64) -> u64 {
        let lowered = amount.min(COUNT_MAX.saturating_sub(self.own.n));
        self.own.n = self.own.n.saturating_add(lowered);
        lowered
    }

    /// Gives the own cell's present state its version, which makes it fit to leave the process. Returns the one that it had:
    /// 0 if it is its first in this generation.
    #[inline]
    pub fn stamp_own(&mut self, version: Version) -> Version {
        self.unversioned = 0;
        core::mem::replace(&mut self.own.version, version)
    }

    /// What was added to the own cell since it last got a version, so that no other node can know it: up to `u32::MAX`.
    #[inline]
    pub fn unversioned(&self) -> u64 {
        u64::from(self.unversioned)
    }

    /// Begins the next generation: every cell and every mark is forgotten. The own cell must get a new version before it is
    /// sent, and the marks must be raised so that the counter does not end before it.
    #[inline]
    pub fn reset(&mut self) {
        self.enter(self.generation.saturating_add(1));
    }

    /// What no counter may do, for the mutant `OwnCellZeroed` only: forgets its own count within a generation.
    pub(crate) fn zero_own(&mut self) {
        (self.own.p, self.own.n) = (0, 0);
    }

    /// Takes in the copy of another replica's cell, and the marks that came with it. The second answer is whether a mark grew.
    ///
    /// # Panics
    /// If `replica` is the own one: no other node writes the own cell.
    pub fn merge(
        &mut self,
        replica: ReplicaIndex,
        generation: u32,
        cell: Cell,
        marks: Marks,
    ) -> (Merged, bool) {
        self.merge_where(replica, generation, cell, marks, |_| true)
    }

    /// As [`merge`](Self::merge), where some replicas' cells are held and taken for 0.
    ///
    /// # Panics
    /// As [`merge`](Self::merge).
    pub fn merge_where(
        &mut self,
        replica: ReplicaIndex,
        generation: u32,
        cell: Cell,
        marks: Marks,
        counts: impl Fn(ReplicaIndex) -> bool,
    ) -> (Merged, bool) {
        assert_ne!(replica, ReplicaIndex::OWN, "only its owner writes a cell");
        if generation < self.generation {
            return (Merged::Superseded, false);
        }
        if generation > self.generation {
            self.enter(generation);
        }
        let grew = if mutant!(MarksMergedAsOne) && marks > self.marks() {
            (self.at, self.p0) = (marks.at, marks.p0);
            true
        } else {
            !mutant!(MarksMergedAsOne) && self.raise(marks)
        };
        let held = self.peers.get(replica);
        let merged = held.map_or(cell, |held| held.merge(cell));
        if held != Some(merged) {
            self.peers.set(replica, merged);
            self.sum_up_change(replica, (held.unwrap_or_default(), merged), counts);
            (Merged::New, grew)
        } else if merged == cell {
            (Merged::Known, grew)
        } else {
            (Merged::Superseded, grew)
        }
    }

    fn enter(&mut self, generation: u32) {
        *self = PnCounter { generation, ..PnCounter::default() };
    }

    /// Corrects the sum by one cell; where it is at its bounds, all cells are summed up.
    fn sum_up_change(
        &mut self,
        replica: ReplicaIndex,
        (before, after): (Cell, Cell),
        counts: impl Fn(ReplicaIndex) -> bool,
    ) {
        match self.peers_net.abs() == NET_MAX {
            true => self.recount(counts),
            false if counts(replica) => {
                self.peers_net = bounded(i128::from(self.peers_net) + net(after) - net(before));
            }
            false => {}
        }
    }
}

fn net(cell: Cell) -> i128 {
    i128::from(cell.p) - i128::from(cell.n)
}

fn bounded(sum: i128) -> i64 {
    sum.clamp(-i128::from(NET_MAX), i128::from(NET_MAX)) as i64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One update as a replica would really send it: within a generation, `p` and `n` grow with the version.
    type Update = (ReplicaIndex, u32, Cell, Marks);

    fn update() -> impl Strategy<Value = Update> {
        let number = || prop_oneof![Just(0), 0_u64..30, any::<u64>()];
        let marks = (number(), number(), number()).prop_map(|(at, p0, n0)| Marks { at, p0, n0 });
        (1_u32..5, 0_u32..3, 1_u64..50, marks).prop_map(|(replica, generation, step, marks)| {
            let version = Version(u64::from(generation) * 50 + step);
            let cell = Cell { version, p: step * 3, n: step / 2 };
            (ReplicaIndex(replica), generation, cell, marks)
        })
    }

    fn merged(updates: &[Update]) -> PnCounter {
        let mut counter = PnCounter::default();
        for (replica, generation, cell, marks) in updates {
            counter.merge(*replica, *generation, *cell, *marks);
        }
        counter
    }

    fn join(mut left: PnCounter, right: &PnCounter) -> PnCounter {
        for (replica, cell) in right.peers() {
            left.merge(replica, right.generation(), cell, right.marks());
        }
        left
    }

    proptest! {
        #[test]
        fn merge_is_commutative(updates in prop::collection::vec(update(), 0..20), seed in any::<u64>()) {
            let mut shuffled = updates.clone();
            let length = shuffled.len().max(1) as u64;
            for index in 0..shuffled.len() {
                let other = (seed.rotate_left(index as u32) % length) as usize;
                shuffled.swap(index, other);
            }
            prop_assert_eq!(merged(&updates), merged(&shuffled));
        }

        #[test]
        fn made_of_cells_at_once_it_is_as_if_each_were_merged(
            updates in prop::collection::vec(update(), 1..20)
        ) {
            let one_generation: Vec<Update> =
                updates.into_iter().map(|(replica, _, cell, marks)| (replica, 3, cell, marks)).collect();
            let cells = one_generation.iter().map(|(replica, _, cell, _)| (*replica, *cell)).collect();
            let marks = one_generation.iter().fold(Marks::default(), |all, update| all.merge(update.3));
            prop_assert_eq!(PnCounter::of_peers(3, marks, cells), merged(&one_generation));
        }

        #[test]
        fn merge_is_idempotent(updates in prop::collection::vec(update(), 0..20)) {
            let twice: Vec<Update> = updates.iter().chain(&updates).copied().collect();
            prop_assert_eq!(merged(&updates), merged(&twice));
        }

        #[test]
        fn merge_is_associative(
            a in prop::collection::vec(update(), 0..10),
            b in prop::collection::vec(update(), 0..10),
            c in prop::collection::vec(update(), 0..10),
        ) {
            let (a, b, c) = (merged(&a), merged(&b), merged(&c));
            let left_first = join(join(a.clone(), &b), &c);
            let right_first = join(a, &join(b, &c));
            prop_assert_eq!(left_first, right_first);
        }

        #[test]
        fn the_value_is_the_clamped_sum_of_the_newest_cells(updates in prop::collection::vec(update(), 0..20)) {
            let generation = updates.iter().map(|update| update.1).max().unwrap_or(0);
            let mut newest = std::collections::BTreeMap::new();
            for (replica, _, cell, _) in updates.iter().filter(|update| update.1 == generation) {
                let held = newest.entry(*replica).or_insert(*cell);
                if cell.version > held.version { *held = *cell; }
            }
            let value: u64 = newest.values().map(|cell: &Cell| cell.p - cell.n).sum();
            prop_assert_eq!(merged(&updates).value(), value);
        }

        #[test]
        fn each_mark_is_its_own_maximum_within_the_newest_generation(
            updates in prop::collection::vec(update(), 1..20)
        ) {
            let generation = updates.iter().map(|update| update.1).max().unwrap_or(0);
            let newest = || updates.iter().filter(|update| update.1 == generation).map(|update| update.3);
            let greatest = |of: fn(Marks) -> u64| newest().map(of).max().unwrap_or(0);
            let expected = Marks {
                at: greatest(|marks| marks.at),
                p0: greatest(|marks| marks.p0),
                n0: greatest(|marks| marks.n0),
            };
            let counter = merged(&updates);
            prop_assert_eq!(counter.marks(), expected);
            let writers: std::collections::BTreeSet<_> =
                updates.iter().filter(|update| update.1 == generation).map(|update| update.0).collect();
            prop_assert_eq!(counter.peers_held(), writers.len());
        }
    }

    #[test]
    fn sums_saturate_instead_of_wrapping() {
        let mut counter = PnCounter::default();
        counter.add(COUNT_MAX);
        counter.add(5);
        assert_eq!(counter.value(), COUNT_MAX);
        counter.merge(
            ReplicaIndex(1),
            0,
            Cell { version: Version(1), p: u64::MAX, n: 0 },
            Marks::default(),
        );
        assert_eq!(counter.value(), u64::MAX);
        counter.merge(
            ReplicaIndex(2),
            0,
            Cell { version: Version(1), p: 0, n: u64::MAX },
            Marks::default(),
        );
        assert_eq!(counter.take(1), 1);
        assert_eq!(
            counter.value(),
            COUNT_MAX - 1,
            "what one adds and another subtracts is nothing"
        );
        let far_less = Cell { version: Version(1), p: 0, n: u64::MAX };
        counter.merge(ReplicaIndex(3), 0, far_less, Marks::default());
        assert_eq!(counter.value(), 0);
        counter.merge(
            ReplicaIndex(3),
            0,
            Cell { version: Version(2), p: 0, n: 0 },
            Marks::default(),
        );
        // And they come back from there.
        counter.merge(
            ReplicaIndex(1),
            0,
            Cell { version: Version(2), p: 5, n: 0 },
            Marks::default(),
        );
        counter.merge(
            ReplicaIndex(2),
            0,
            Cell { version: Version(2), p: 0, n: 2 },
            Marks::default(),
        );
        assert_eq!(counter.value(), COUNT_MAX + 5 - 3);
    }

    #[test]
    fn a_merge_tells_new_from_known_from_superseded() {
        let mut counter = PnCounter::default();
        let peer = ReplicaIndex(1);
        let cell = |version, p| Cell { version: Version(version), p, n: 0 };
        assert_eq!(counter.merge(peer, 0, cell(3, 4), Marks::default()).0, Merged::New);
        assert_eq!(counter.merge(peer, 0, cell(3, 4), Marks::default()).0, Merged::Known);
        assert_eq!(counter.merge(peer, 0, cell(2, 9), Marks::default()).0, Merged::Superseded);
        counter.reset();
        assert_eq!(counter.merge(peer, 0, cell(7, 9), Marks::default()).0, Merged::Superseded);
        assert_eq!(counter.value(), 0);
        assert_eq!(counter.merge(peer, 2, cell(8, 1), Marks::default()).0, Merged::New);
        assert_eq!((counter.value(), counter.generation()), (1, 2));
    }
}
