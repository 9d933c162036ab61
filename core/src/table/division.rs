//! How what was left of a limit is divided while members are silent, and how much of it falls to this node's side.
//!
//! Each member has an equal part of what was left when the cut was noticed; of the rest of that division, one unit more goes to
//! each of the first members by rendezvous hash of counter and member (Thaler and Ravishankar, "Using name-based mappings to
//! increase hit rates", IEEE/ACM Transactions on Networking 6(1), 1998), so that a limit smaller than the cluster can be used. A
//! side has the sum of its members, so all sides together have what was left, however many there are.
//!
//! A cut within a side divides what that side may admit, not the limit: see [`Division::set`].

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use siphasher::sip::SipHasher13;
use smallvec::SmallVec;

use crate::mutant::mutant;

/// The names of members; one that was never met has its address for a name.
pub type Names = BTreeSet<Arc<str>>;

/// How many members there are, and how many of them are on this node's side: one word, which decisions read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sides {
    /// Another one after each change.
    pub number: u32,
    /// The members of this node's side, this node included.
    pub side: u16,
    /// All members, those that came after the cut apart.
    pub members: u16,
}

impl Sides {
    #[inline(always)]
    pub(super) fn of_word(word: u64) -> Sides {
        Sides { number: (word >> 32) as u32, side: (word >> 16) as u16, members: word as u16 }
    }

    pub(super) fn word(self) -> u64 {
        u64::from(self.number) << 32 | u64::from(self.side) << 16 | u64::from(self.members)
    }

    /// Whether some member is silent.
    #[inline(always)]
    pub fn is_cut(self) -> bool {
        self.side != self.members
    }

    /// Whether this node's side is no more than half of the members.
    pub fn is_minor(self) -> bool {
        2 * u32::from(self.side) <= u32::from(self.members)
    }
}

/// The cuts that there are now, each within the side that the one before has left.
#[derive(Debug, Default)]
pub(super) struct Division {
    number: u32,
    last_id: u32,
    /// No member was silent at least once since this node has started. Until then it does not know what was left at the cut that it
    /// has started in: of all that it finds or is told of it reckons that its side has used it.
    was_whole: bool,
    cuts: Vec<Cut>,
}

/// Members that were one side, and which of them are on this node's side now.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cut {
    id: u32,
    among: Names,
    side: Names,
}

/// What a counter had when each of the cuts was noticed, and the cap that follows.
#[derive(Debug)]
pub(super) struct Note {
    /// Which counter it is about, in its slot.
    tag: u32,
    generation: u32,
    /// For each cut its id, and the value before the first change after it.
    bases: SmallVec<[(u32, u64); 1]>,
    /// The cap, of which division and limit it is.
    cap: Option<(u32, u64, u64)>,
}

/// The notes of a shard, by slot.
pub(super) type Notes = BTreeMap<u32, Note>;

impl Division {
    /// Takes in which members are heard, this node included, and which are silent. Returns the new word if anything changed.
    ///
    /// - Who fell silent takes its part along: the side that is left divides what it may still admit among all that were on it.
    /// - Who is heard again brings its part back, and counters keep what they had at the cut.
    /// - Who is none of the members any more has no part. A member that came after the cut has none either: the other sides do not
    ///   know of it.
    pub(super) fn set(&mut self, heard: &Names, silent: &Names) -> Option<Sides> {
        self.was_whole |= silent.is_empty();
        if silent.is_empty() && self.cuts.is_empty() {
            return None;
        }
        let before = self.cuts.clone();
        match silent.is_empty() {
            true => self.cuts.clear(),
            false => self.divide(heard, silent),
        }
        if self.cuts == before {
            return None;
        }
        self.number = self.number.wrapping_add(1);
        Some(self.sides())
    }

    fn divide(&mut self, heard: &Names, silent: &Names) {
        let is_member = |name: &Arc<str>| heard.contains(name) || silent.contains(name);
        if !self.was_whole {
            // While it finds its peers, it learns of one after the other.
            let is_same = |cut: &Cut| cut.side == *heard && cut.among.iter().all(is_member);
            if !self
                .cuts
                .first()
                .is_some_and(|cut| is_same(cut) && cut.among.len() == heard.len() + silent.len())
            {
                self.cuts.clear();
                self.push(heard.union(silent).cloned().collect(), heard.clone());
            }
            return;
        }
        for cut in &mut self.cuts {
            cut.among.retain(is_member);
            cut.side.retain(is_member);
        }
        let of_first = |first: &Cut| heard.intersection(&first.among).cloned().collect();
        let side: Names = self.cuts.first().map_or_else(|| heard.clone(), of_first);
        while self.cuts.len() > 1 && self.cuts.last().is_some_and(|cut| !side.is_subset(&cut.among))
        {
            self.cuts.pop();
        }
        match self.cuts.last_mut() {
            Some(last) if side == last.side => {}
            Some(last) if side.is_subset(&last.side) => {
                let among = last.side.clone();
                self.push(among, side);
            }
            Some(last) => last.side = side,
            None => self.push(heard.union(silent).cloned().collect(), side),
        }
        if self.cuts.last().is_some_and(|cut| cut.side == cut.among) {
            self.cuts.pop();
            if self.cuts.is_empty() {
                // All of them are back, and another one is silent.
                self.push(heard.union(silent).cloned().collect(), heard.clone());
            }
        }
    }

    fn push(&mut self, among: Names, side: Names) {
        self.last_id = self.last_id.wrapping_add(1);
        self.cuts.push(Cut { id: self.last_id, among, side });
    }

    pub(super) fn sides(&self) -> Sides {
        let count = |names: &Names| u16::try_from(names.len()).unwrap_or(u16::MAX);
        let side = self.cuts.last().map_or(0, |cut| count(&cut.side));
        let members = self.cuts.first().map_or(0, |cut| count(&cut.among));
        Sides { number: self.number, side, members }
    }

    /// Notes the value of a counter before it changes, for each cut that it did not change after yet.
    pub(super) fn note(&self, notes: &mut Notes, slot_index: u32, counter: (u32, u32), value: u64) {
        let (tag, generation) = counter;
        let value = if self.was_whole { value } else { 0 };
        let fresh = || Note { tag, generation, bases: SmallVec::new(), cap: None };
        let note = notes.entry(slot_index).or_insert_with(fresh);
        if (note.tag, note.generation) != (tag, generation) {
            *note = fresh();
        }
        let held = self.cuts.iter().zip(&note.bases).take_while(|(cut, (id, _))| cut.id == *id);
        let held = held.count();
        if held < note.bases.len() || held < self.cuts.len() {
            note.bases.truncate(held);
            note.bases.extend(self.cuts.iter().skip(held).map(|cut| (cut.id, value)));
            note.cap = None;
        }
    }

    /// What this side may admit of a counter in all, by its note, under a limit that allows this much.
    pub(super) fn cap(&self, note: &mut Note, key: &[u8], allowed: u64) -> u64 {
        if let Some((number, of, cap)) = note.cap
            && (number, of) == (self.number, allowed)
        {
            return cap;
        }
        let cap = self.cap_of_bases(note.bases.iter().map(|(_, base)| *base), key, allowed);
        note.cap = Some((self.number, allowed, cap));
        cap
    }

    /// The same for a counter that has counted nothing yet.
    pub(super) fn cap_of_unused(&self, key: &[u8], allowed: u64) -> u64 {
        self.cap_of_bases(core::iter::repeat(0), key, allowed)
    }

    fn cap_of_bases(&self, bases: impl Iterator<Item = u64>, key: &[u8], allowed: u64) -> u64 {
        self.cuts.iter().zip(bases).fold(allowed, |cap, (cut, base)| {
            base.saturating_add(cut.share(cap.saturating_sub(base), key))
        })
    }
}

impl Note {
    /// The cap, if it was found under this division and limit.
    #[inline]
    pub(super) fn cap_found(&self, counter: (u32, u32), number: u32, allowed: u64) -> Option<u64> {
        let (of_number, of_allowed, cap) = self.cap?;
        let is_it = (self.tag, self.generation) == counter;
        (is_it && (of_number, of_allowed) == (number, allowed)).then_some(cap)
    }
}

impl Cut {
    /// Of what was left of a counter, the part of this node's side.
    fn share(&self, left: u64, key: &[u8]) -> u64 {
        let members = self.among.len().max(1) as u64;
        if mutant!(SideTakesAll) {
            return left;
        }
        let (each, over) = (left / members, left % members);
        each * self.side.len() as u64 + self.units(over as usize, key)
    }

    /// How many members of the side are among the first so many by rank.
    fn units(&self, first: usize, key: &[u8]) -> u64 {
        if first == 0 {
            return 0;
        }
        let mut ranked: Vec<(u64, &Arc<str>)> =
            self.among.iter().map(|name| (rank(key, name), name)).collect();
        ranked.sort_unstable();
        ranked.iter().take(first).filter(|(_, name)| self.side.contains(*name)).count() as u64
    }
}

/// A member's rank for a counter: the same on every node.
fn rank(key: &[u8], name: &str) -> u64 {
    SipHasher13::new().hash(&[&(key.len() as u32).to_le_bytes(), key, name.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(from: usize, to: usize) -> Names {
        (from..to).map(|number| alloc::format!("n{number}").as_str().into()).collect()
    }

    fn cut(heard: &Names, silent: &Names) -> Division {
        let mut division = Division { was_whole: true, ..Division::default() };
        division.set(heard, silent);
        division
    }

    fn noted(division: &Division, notes: &mut Notes, value: u64) -> u64 {
        division.note(notes, 0, (1, 0), value);
        division.cap(notes.get_mut(&0).unwrap(), b"key", 100)
    }

    proptest! {
        /// However the members fall apart, all sides together have what was left.
        #[test]
        fn the_sides_have_what_was_left(
            side_of in prop::collection::vec(0_usize..4, 1..20), left in 0_u64..200, key in any::<u32>(),
        ) {
            let all = names(0, side_of.len());
            let mut sum = 0;
            for side in 0..4 {
                let (ours, others): (Names, Names) = all.iter().cloned().zip(&side_of)
                    .fold(Default::default(), |(mut ours, mut others): (Names, Names), (name, of)| {
                        if *of == side { ours.insert(name); } else { others.insert(name); }
                        (ours, others)
                    });
                sum += match (ours.is_empty(), others.is_empty()) {
                    (true, _) => 0,
                    (_, true) => left,
                    _ => cut(&ours, &others).cap_of_unused(&key.to_le_bytes(), left),
                };
            }
            prop_assert_eq!(sum, left);
        }

        /// Who notices member by member comes to the same as who notices all at once.
        #[test]
        fn it_makes_no_difference_in_how_many_steps_a_cut_is_noticed(
            members in 2_usize..20, left in 0_u64..100, key in any::<u32>(), steps in 1_usize..4,
        ) {
            let side = members.div_ceil(3);
            let at_once = cut(&names(0, side), &names(side, members));
            let mut division = Division::default();
            for step in 0..=steps {
                let heard = members - 1 - (members - 1 - side) * step / steps;
                division.set(&names(0, heard), &names(heard, members));
            }
            let key = key.to_le_bytes();
            prop_assert_eq!(division.cap_of_unused(&key, left), at_once.cap_of_unused(&key, left));
        }
    }

    #[test]
    fn a_limit_smaller_than_the_cluster_goes_to_some_side() {
        let caps: Vec<u64> = (0..10)
            .map(|number| {
                let own = names(number, number + 1);
                let others = names(0, 10).difference(&own).cloned().collect();
                cut(&own, &others).cap_of_unused(b"key", 3)
            })
            .collect();
        assert_eq!(caps.iter().sum::<u64>(), 3);
        assert_eq!(caps.iter().filter(|cap| **cap == 1).count(), 3);
    }

    #[test]
    fn a_second_cut_divides_what_the_first_left() {
        let mut notes = Notes::new();
        let mut division = cut(&names(0, 5), &names(5, 10));
        assert_eq!(noted(&division, &mut notes, 20), 20 + 40);
        // Of these 40 the side has used 10 when one more of its members falls silent.
        division.set(&names(0, 4), &names(4, 10)).unwrap();
        assert_eq!(noted(&division, &mut notes, 30), 30 + 30 / 5 * 4);
        assert_eq!((division.sides().side, division.sides().members), (4, 10));
        // It is back: the first cut is as it was.
        division.set(&names(0, 5), &names(5, 10)).unwrap();
        assert_eq!(noted(&division, &mut notes, 45), 60);
        assert_eq!(division.set(&names(0, 5), &names(5, 10)), None, "nothing has changed");
    }

    #[test]
    fn a_side_that_finds_another_has_the_parts_of_both() {
        let mut notes = Notes::new();
        let mut division = cut(&names(0, 2), &names(2, 10));
        assert_eq!(noted(&division, &mut notes, 0), 20);
        division.set(&names(0, 5), &names(5, 10)).unwrap();
        assert_eq!(noted(&division, &mut notes, 35), 50, "by what it had at the cut");
        let healed = division.set(&names(0, 10), &Names::new()).unwrap();
        assert!(!healed.is_cut());
    }

    #[test]
    fn who_comes_after_the_cut_has_no_part_and_who_left_has_none_any_more() {
        let mut division = cut(&names(0, 2), &names(2, 4));
        let mut heard = names(0, 2);
        heard.extend(names(10, 20));
        assert_eq!(division.set(&heard, &names(2, 4)), None);
        assert!(division.sides().is_minor(), "half of four, however many came");
        division.set(&names(0, 1), &names(2, 4)).unwrap();
        assert_eq!((division.sides().side, division.sides().members), (1, 3));
    }

    #[test]
    fn where_all_are_back_and_a_newcomer_is_silent_that_is_a_cut_of_its_own() {
        let mut division = cut(&names(0, 2), &names(2, 4));
        let sides = division.set(&names(0, 4), &names(10, 11)).unwrap();
        assert_eq!((sides.side, sides.members, sides.is_minor()), (4, 5, false));
    }

    #[test]
    fn who_starts_within_a_cut_does_not_know_what_was_left() {
        let (mut notes, mut division) = (Notes::new(), Division::default());
        division.set(&names(0, 1), &names(1, 2));
        assert_eq!(noted(&division, &mut notes, 40), 50);
        assert!(division.set(&names(0, 2), &Names::new()).is_some());
        division.set(&names(0, 1), &names(1, 2));
        assert_eq!(noted(&division, &mut notes, 40), 70);
    }

    #[test]
    fn a_note_is_of_one_counter_in_its_generation() {
        let (mut notes, division) = (Notes::new(), cut(&names(0, 1), &names(1, 2)));
        assert_eq!(noted(&division, &mut notes, 50), 75);
        assert_eq!(noted(&division, &mut notes, 60), 75, "the first change counts");
        for (counter, value, cap) in [((1, 1), 0, 50), ((2, 0), 10, 55)] {
            division.note(&mut notes, 0, counter, value);
            let note = notes.get_mut(&0).unwrap();
            assert_eq!(division.cap(note, b"key", 100), cap);
            let number = division.sides().number;
            assert_eq!(note.cap_found(counter, number, 100), Some(cap));
            assert_eq!(note.cap_found((9, 9), number, 100), None);
        }
    }

    #[test]
    fn a_word_holds_all_three() {
        let sides = Sides { number: 7, side: 3, members: 500 };
        assert_eq!(Sides::of_word(sides.word()), sides);
    }
}
