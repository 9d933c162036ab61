//! Merging, bounds and ends of the operator's entries.

use alloc::{format, vec::Vec};
use core::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::time::Timestamp;

const SEED: [u8; SEED_BYTES] = [5; SEED_BYTES];
const NOW: Timestamp = Timestamp(1_000_000);
const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

fn list() -> OperatorList {
    let mut list = OperatorList::new(MINUTE, MINUTE);
    list.set_key(Some(OperatorPublicKey::of_seed(&SEED)), "c".into());
    list
}

fn quarantine(node: &str, at: u64) -> OperatorEntry {
    let entry = OperatorEntry::quarantine(&node.parse().unwrap(), Timestamp(at), HOUR);
    entry.signed(&SEED, "c")
}

fn release(node: &str, at: u64) -> OperatorEntry {
    OperatorEntry::release(&node.parse().unwrap(), Timestamp(at)).signed(&SEED, "c")
}

fn from_peer(list: &mut OperatorList, entry: &OperatorEntry) -> Result<bool, EntryError> {
    list.take(NOW, entry.clone(), EntrySource::Peer)
}

fn contents(list: &OperatorList) -> Vec<Vec<u8>> {
    list.iter().map(|(entry, _)| entry.to_bytes()).collect()
}

/// Entries about few nodes at few times, so that many are about the same.
fn entries() -> impl Strategy<Value = Vec<OperatorEntry>> {
    let entry = (0_u32..4, 1_u64..6, any::<bool>()).prop_map(|(node, at, lifts)| {
        let node = format!("n{node}");
        if lifts { release(&node, at) } else { quarantine(&node, at) }
    });
    prop::collection::vec(entry, 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn in_whatever_order_entries_come_the_list_is_the_same(entries in entries(), seed in any::<u64>()) {
        let mut shuffled = entries.clone();
        for index in 0..shuffled.len() {
            let other = (seed.rotate_left(index as u32) % shuffled.len() as u64) as usize;
            shuffled.swap(index, other);
        }
        let (mut one, mut other) = (list(), list());
        entries.iter().for_each(|entry| drop(from_peer(&mut one, entry)));
        shuffled.iter().chain(&entries).for_each(|entry| drop(from_peer(&mut other, entry)));
        prop_assert_eq!(contents(&one), contents(&other));
        prop_assert_eq!(one.checksum(NOW), other.checksum(NOW));
        prop_assert_eq!(one.look(NOW), other.look(NOW));
    }
}

#[test]
fn the_later_of_two_counts_and_an_earlier_one_does_not_come_back() {
    let mut list = list();
    let (first, lifted) = (quarantine("b", 10), release("b", 20));
    assert_eq!(from_peer(&mut list, &first), Ok(true));
    assert_eq!(from_peer(&mut list, &first), Ok(false), "it is held already");
    assert_eq!(from_peer(&mut list, &lifted), Ok(true));
    assert_eq!(list.look(NOW).unwrap(), Standing::default());
    // Played back.
    let replayed = from_peer(&mut list, &first);
    assert_eq!(replayed, Err(EntryError::Superseded { at: Timestamp(20) }));
    // A release outlasts the quarantine, also where that was to be longer.
    let long = OperatorEntry::quarantine(&"b".parse().unwrap(), Timestamp(15), ENTRY_TERM_MAX);
    let far = Timestamp(15).plus(ENTRY_TERM_MAX);
    let late = list.take(far, long.signed(&SEED, "c"), EntrySource::Peer);
    assert_eq!(late, Err(EntryError::Superseded { at: Timestamp(20) }));
}

#[test]
fn an_entry_is_kept_for_the_grace_and_then_gone_and_refused() {
    let mut list = list();
    let entry = quarantine("b", 10);
    from_peer(&mut list, &entry).unwrap();
    assert_eq!(list.look(NOW).unwrap().quarantined.len(), 1);
    assert_eq!(list.look(NOW), None, "nothing changes before its end");
    let until = Timestamp(10).plus(HOUR);
    assert_eq!(list.look(until).unwrap(), Standing::default());
    let kept = entry.kept();
    assert!(list.checksum(Timestamp(kept.0 - 1)).is_some());
    assert_eq!(list.checksum(kept), None, "it is told to its end");
    assert_eq!(list.iter().count(), 1, "and held longer, for clocks that differ");
    let gone = kept.plus(MINUTE);
    list.look(gone);
    assert_eq!(list.iter().count(), 0);
    assert_eq!(list.take(gone, entry, EntrySource::Peer), Err(EntryError::Ended { end: kept }));
    let unwritten = list.take_unwritten();
    assert!(unwritten.iter().all(|(_, _, entry)| entry.is_none()) && unwritten.len() == 1);
}

#[test]
fn an_entry_of_the_future_is_refused() {
    let mut list = list();
    let at = NOW.plus(MINUTE);
    assert_eq!(from_peer(&mut list, &quarantine("b", at.0)), Ok(true));
    let refused = from_peer(&mut list, &quarantine("c", at.0 + 1));
    assert_eq!(refused, Err(EntryError::Future { at: Timestamp(at.0 + 1), now: NOW }));
}

#[test]
fn there_are_at_most_so_many_and_all_nodes_keep_the_same() {
    let entries: Vec<_> = (0..ENTRIES_MAX as u64 + 20)
        .map(|n| quarantine(&format!("n{n}"), 1 + n * 7 % 4_001))
        .collect();
    let (mut one, mut other) = (list(), list());
    entries.iter().for_each(|entry| drop(from_peer(&mut one, entry)));
    entries.iter().rev().for_each(|entry| drop(from_peer(&mut other, entry)));
    assert_eq!(one.iter().count(), ENTRIES_MAX);
    assert_eq!(contents(&one), contents(&other));
    // Who gives one here is told, instead of losing another.
    let more = quarantine("more", NOW.0);
    assert_eq!(one.take(NOW, more, EntrySource::Here), Err(EntryError::Full));
    let known = one.iter().next().unwrap().0.subject().parse().unwrap();
    let known = OperatorEntry::release(&known, NOW).signed(&SEED, "c");
    assert_eq!(one.take(NOW, known, EntrySource::Here), Ok(true), "about what is there already");
}

#[test]
fn a_list_tells_what_a_peer_lacks_as_much_as_fits() {
    let mut list = list();
    let entries: Vec<_> = (0..50).map(|n| quarantine(&format!("n{n}"), 1)).collect();
    entries.iter().for_each(|entry| drop(from_peer(&mut list, entry)));
    let known: Vec<u64> = list.hashes(NOW).split_off(10);
    assert_eq!(list.missing(NOW, &known, 60_000).len(), 10);
    assert_eq!(list.missing(NOW, &list.hashes(NOW), 60_000).len(), 0);
    let bytes: usize = list.missing(NOW, &[], 1_000).iter().map(Vec::len).sum();
    assert!((500..=1_000).contains(&bytes), "{bytes}");
    assert_eq!(list.missing(NOW, &[], 1).len(), 1, "at least one, or none ever came");
}

#[test]
fn without_a_storage_nothing_is_listed_for_it() {
    let mut list = list();
    list.forget_storage();
    from_peer(&mut list, &quarantine("b", 10)).unwrap();
    list.look(quarantine("b", 10).kept().plus(MINUTE));
    assert_eq!((list.iter().count(), list.take_unwritten().len()), (0, 0));
}

#[test]
fn what_was_signed_by_a_former_key_holds_here_and_is_told_to_none() {
    let mut list = list();
    from_peer(&mut list, &quarantine("b", 10)).unwrap();
    list.set_key(Some(OperatorPublicKey::of_seed(&[6; SEED_BYTES])), "c".into());
    assert_eq!(list.checksum(NOW), None);
    assert_eq!(list.look(NOW).unwrap().quarantined.len(), 1);
    // One by the present key takes its place, whenever it was given.
    let again = OperatorEntry::release(&"b".parse().unwrap(), Timestamp(5));
    assert_eq!(from_peer(&mut list, &again.signed(&[6; SEED_BYTES], "c")), Ok(true));
    assert_eq!(list.look(NOW).unwrap(), Standing::default());
}
