//! The record of a counter, or of a page of its cells: an array of fixed places, whose zeroes at the end are left out.
//!
//! ```text
//! counter     [epoch, replaced, generation, [cell, ...], at, p0, n0, pages since]
//! page        [epoch, replaced, generation, [cell, ...], at, p0, n0]
//! tombstone   [epoch, replaced]
//! cell        [replica number, version, p, n]
//! ```
//!
//! A counter of many cells has most of them in pages. A page is as good a part of a counter as any: whatever became of the
//! other records in a crash, the counter is what the parts of the newest generation make together.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::crdt::{COUNT_MAX, Cell, Marks, without_trailing_zeroes};
use crate::id::Version;
use crate::key::{Ends, ends_of};
use crate::limit::WINDOW_MAX;

/// A stored counter, or a page of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::storage) struct CounterRecord {
    /// The checkpoint that wrote it.
    pub checkpoint: u64,
    /// The checksum of the live record that it replaced, so that the totals of the checkpoint before can be checked even
    /// when a crash left this one half written.
    pub replaced: Option<u32>,
    /// `None` is a tombstone, which a later checkpoint removes.
    pub state: Option<StateRecord>,
}

/// What is kept of a counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::storage) struct StateRecord {
    pub generation: u32,
    /// Each with the number of its replica.
    pub cells: Vec<(u32, Cell)>,
    pub marks: Marks,
    /// In a counter's own record: the first checkpoint that wrote a page of it, so that pages of an earlier counter with its key
    /// are no part of it; 0 if it has no pages.
    pub pages_since: u64,
}

impl StateRecord {
    /// What no version writes under this key, if it is that.
    pub(in crate::storage) fn fault(&self, key: &[u8]) -> Option<&'static str> {
        let mut numbers = BTreeSet::new();
        for (number, Cell { version, p, n }) in &self.cells {
            if *p > COUNT_MAX || *n > COUNT_MAX {
                return Some("a cell counts more than 2^53 - 1");
            }
            if *version == Version::ZERO {
                return Some("a cell has no version");
            }
            if !numbers.insert(*number) {
                return Some("two cells are of one replica");
            }
        }
        let Marks { at, p0, .. } = self.marks;
        if at > Marks::AT_MAX {
            return Some("its time is over 2^63 - 1");
        }
        let ends_after_use = matches!(ends_of(key), Ok(Ends::AfterUse));
        let is_long = ends_after_use && u128::from(p0) > WINDOW_MAX.as_millis();
        is_long.then_some("it lives for more than 366 days after its use")
    }
}

/// The epoch and the checksum that was replaced, of a record whose rest may be anything.
pub(in crate::storage) fn head_of(record: &[u8]) -> Option<(u64, Option<u32>)> {
    struct Reader<'a>(&'a mut Option<(u64, Option<u32>)>);

    impl<'de> Visitor<'de> for Reader<'_> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a counter's record")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<(), A::Error> {
            *self.0 = Some((next(&mut from)?, next(&mut from)?));
            Ok(())
        }
    }
    let mut head = None;
    let mut from = rmp_serde::Deserializer::from_read_ref(record);
    // The rest is not read; that it is left over is an error, which does not matter.
    let _ = from.deserialize_any(Reader(&mut head));
    head
}

impl Serialize for CounterRecord {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let CounterRecord { checkpoint, replaced, state } = self;
        let Some(StateRecord { generation, cells, marks, pages_since }) = state else {
            return (checkpoint, replaced).serialize(to);
        };
        let Marks { at, p0, n0 } = *marks;
        let numbers = [at, p0, n0, *pages_since];
        let numbers = without_trailing_zeroes(&numbers);
        let mut to = to.serialize_tuple(4 + numbers.len())?;
        to.serialize_element(checkpoint)?;
        to.serialize_element(replaced)?;
        to.serialize_element(generation)?;
        to.serialize_element(&Cells(cells))?;
        numbers.iter().try_for_each(|number| to.serialize_element(number))?;
        to.end()
    }
}

struct Cells<'a>(&'a [(u32, Cell)]);

impl Serialize for Cells<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.0.iter().map(CellRecord))
    }
}

struct CellRecord<'a>(&'a (u32, Cell));

impl Serialize for CellRecord<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let (number, Cell { version, p, n }) = self.0;
        let counts = [*p, *n];
        let counts = without_trailing_zeroes(&counts);
        let mut to = to.serialize_tuple(2 + counts.len())?;
        to.serialize_element(number)?;
        to.serialize_element(version)?;
        counts.iter().try_for_each(|count| to.serialize_element(count))?;
        to.end()
    }
}

impl<'de> Deserialize<'de> for CounterRecord {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<CounterRecord, D::Error> {
        from.deserialize_seq(RecordReader)
    }
}

struct RecordReader;

impl<'de> Visitor<'de> for RecordReader {
    type Value = CounterRecord;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a counter's record")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<CounterRecord, A::Error> {
        let (checkpoint, replaced) = (next(&mut from)?, next(&mut from)?);
        let Some(generation) = from.next_element()? else {
            return Ok(CounterRecord { checkpoint, replaced, state: None });
        };
        let cells: Vec<CellOnDisk> = next(&mut from)?;
        let cells = cells.into_iter().map(|CellOnDisk(number, cell)| (number, cell)).collect();
        let (at, p0) = (or_zero(&mut from)?, or_zero(&mut from)?);
        let marks = Marks { at, p0, n0: or_zero(&mut from)? };
        let pages_since = or_zero(&mut from)?;
        let state = Some(StateRecord { generation, cells, marks, pages_since });
        Ok(CounterRecord { checkpoint, replaced, state })
    }
}

struct CellOnDisk(u32, Cell);

impl<'de> Deserialize<'de> for CellOnDisk {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<CellOnDisk, D::Error> {
        from.deserialize_seq(CellReader)
    }
}

struct CellReader;

impl<'de> Visitor<'de> for CellReader {
    type Value = CellOnDisk;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a cell")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<CellOnDisk, A::Error> {
        let (number, version) = (next(&mut from)?, next(&mut from)?);
        let (p, n) = (or_zero(&mut from)?, or_zero(&mut from)?);
        Ok(CellOnDisk(number, Cell { version, p, n }))
    }
}

fn next<'de, A: SeqAccess<'de>, T: Deserialize<'de>>(from: &mut A) -> Result<T, A::Error> {
    from.next_element()?.ok_or_else(|| A::Error::custom("it is too short"))
}

fn or_zero<'de, A: SeqAccess<'de>>(from: &mut A) -> Result<u64, A::Error> {
    Ok(from.next_element()?.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;

    fn bytes(record: &CounterRecord) -> Vec<u8> {
        rmp_serde::to_vec_named(record).unwrap()
    }

    fn cell(version: u64, p: u64, n: u64) -> Cell {
        Cell { version: Version(version), p, n }
    }

    #[test]
    fn zeroes_at_the_end_are_left_out() {
        let state = StateRecord {
            generation: 0,
            cells: vec![(0, cell(2, 5, 1)), (1, cell(3, 4, 0)), (2, cell(1, 0, 0))],
            marks: Marks { at: 7, p0: 0, n0: 0 },
            pages_since: 0,
        };
        let record = CounterRecord { checkpoint: 9, replaced: None, state: Some(state) };
        let expected =
            [&[0x95, 9, 0xc0, 0, 0x93][..], &[0x94, 0, 2, 5, 1, 0x93, 1, 3, 4, 0x92, 2, 1], &[7]];
        assert_eq!(bytes(&record), expected.concat());
        let tombstone = CounterRecord { checkpoint: 9, replaced: Some(8), state: None };
        assert_eq!(bytes(&tombstone), [0x92, 9, 8]);
    }

    #[test]
    fn what_no_version_writes_is_a_fault() {
        let key = crate::key::CounterKey::new("l", &[]).unwrap();
        let days = |days: u64| days * 24 * 3_600_000;
        let state = |cells, at| {
            let marks = Marks { at, p0: days(366), n0: u64::MAX };
            StateRecord { generation: 0, cells, marks, pages_since: 0 }
        };
        let fault = |state: &StateRecord| state.fault(key.as_bytes());
        assert_eq!(fault(&state(vec![(0, cell(1, COUNT_MAX, 0))], Marks::AT_MAX)), None);
        let mut long = state(vec![], 0);
        long.marks.p0 = days(367);
        assert!(fault(&long).is_some_and(|fault| fault.contains("366 days")));
        for (faulty, part) in [
            (state(vec![(0, cell(1, COUNT_MAX + 1, 0))], 0), "2^53"),
            (state(vec![(0, cell(1, 0, COUNT_MAX + 1))], 0), "2^53"),
            (state(vec![(0, cell(0, 1, 0))], 0), "version"),
            (state(vec![(0, cell(1, 1, 0)), (0, cell(2, 1, 0))], 0), "one replica"),
            (state(vec![], Marks::AT_MAX + 1), "2^63"),
        ] {
            assert!(fault(&faulty).is_some_and(|fault| fault.contains(part)), "{faulty:?}");
        }
    }

    #[test]
    fn the_head_is_read_whatever_follows() {
        assert_eq!(head_of(&[0x93, 5, 6, 0xc1]), Some((5, Some(6))));
        assert_eq!(head_of(&[0x93, 5, 0xc0, 0xa1, b'x']), Some((5, None)));
        for bad in [&[0x91, 5][..], &[0xc0], &[], &[0xa1, b'x'], &[0x92, 0xff, 1]] {
            assert_eq!(head_of(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_record_is_read_as_it_was_written(
            checkpoint in any::<u64>(),
            replaced in any::<Option<u32>>(),
            state in prop::option::of((
                any::<u32>(),
                prop::collection::vec((any::<u32>(), any::<u64>(), any::<u64>(), any::<u64>()), 0..4),
                any::<[u64; 4]>(),
            )),
        ) {
            let state = state.map(|(generation, cells, [at, p0, n0, pages_since])| {
                let cells = cells.into_iter().map(|(number, version, p, n)| (number, cell(version, p, n)));
                let marks = Marks { at, p0, n0 };
                StateRecord { generation, cells: cells.collect(), marks, pages_since }
            });
            let record = CounterRecord { checkpoint, replaced, state };
            let written = bytes(&record);
            prop_assert_eq!(head_of(&written), Some((checkpoint, replaced)));
            let read: CounterRecord = rmp_serde::from_slice(&written).unwrap();
            prop_assert_eq!(read, record);
        }
    }
}
