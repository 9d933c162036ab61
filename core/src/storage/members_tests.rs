//! Members outlive the process, are written no more often than need be, and cost nothing when they are damaged.

use alloc::string::ToString;
use alloc::vec::Vec;

use super::members::StoredMembers;
use super::{KvStore, MemoryStore};
use crate::gossip::{KnownMember, PeerSource};
use crate::id::{Incarnation, ReplicaId};
use crate::time::Timestamp;

fn member(node: &str, heard_s: u64) -> KnownMember {
    KnownMember {
        replica: ReplicaId {
            node: node.parse().unwrap(),
            incarnation: Incarnation { boot: 3, nonce: 7 },
        },
        since: Timestamp(1_000),
        heard: Timestamp(heard_s * 1_000),
        address: Some("10.0.0.7:7946".to_string()),
        source: PeerSource::Exchange,
    }
}

/// What is read back, and how many records were told to be bad.
fn read(store: &mut MemoryStore) -> (Vec<KnownMember>, usize) {
    let mut bad = 0;
    let members = StoredMembers::read(store, &mut |_| bad += 1).unwrap();
    (members.known(), bad)
}

#[test]
fn members_are_read_as_they_were_written_and_rarely_written() {
    let mut store = MemoryStore::default();
    let mut members = StoredMembers::default();
    members.set(&[member("a", 5), member("b", 5)]);
    assert!(members.write(&mut store).unwrap());
    assert_eq!(read(&mut store), ([member("a", 5), member("b", 5)].into(), 0));
    members.set(&[member("a", 64), member("b", 5)]);
    assert!(!members.write(&mut store).unwrap(), "that it was heard is no news yet");
    members.set(&[member("a", 65), member("b", 5)]);
    assert!(members.write(&mut store).unwrap());
    let elsewhere = KnownMember { address: None, ..member("b", 6) };
    members.set(&[member("a", 65), elsewhere.clone()]);
    assert!(members.write(&mut store).unwrap());
    assert_eq!(read(&mut store).0, [member("a", 65), elsewhere]);
    members.set(&[member("a", 65)]);
    assert!(members.write(&mut store).unwrap());
    assert_eq!(read(&mut store).0, [member("a", 65)]);
    assert!(!members.write(&mut store).unwrap());
    // Of a new database nothing is relied upon.
    members.forget_written();
    let mut store = MemoryStore::default();
    assert!(members.write(&mut store).unwrap());
    assert_eq!(read(&mut store).0, [member("a", 65)]);
}

#[test]
fn a_record_that_cannot_be_read_is_told_and_removed_and_the_others_stay() {
    let mut store = MemoryStore::default();
    let mut members = StoredMembers::default();
    members.set(&[member("a", 5), member("b", 5)]);
    members.write(&mut store).unwrap();
    let mut bytes = store.get(b"na").unwrap().unwrap();
    bytes[9] ^= 1;
    store.put(b"na", &bytes).unwrap();
    store.put(b"nnot a name", b"").unwrap();
    assert_eq!(read(&mut store), ([member("b", 5)].into(), 2));
    assert_eq!(read(&mut store), ([member("b", 5)].into(), 0));
}
