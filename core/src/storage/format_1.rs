//! The reader of disk format 1, which nothing writes any more. It is frozen: it shares no shape of a record with the present
//! format, so that a change there does not change what it reads.
//!
//! ```text
//! counter      [epoch, replaced, [generation, expires_at, [[replica number, version, p, n], ...]]], or nil for the last: a tombstone
//! its key      window text(limit) number(count of values) text(value)*
//! replica      [node, [boot, nonce]]
//! checkpoint   [1, node, epoch, [count, sum], clock, [[replica number, watermark], ...]]
//! ```

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use serde::Deserialize;

use super::record::{COUNTER_PREFIX, DamagedRecord, META_KEY, REPLICA_PREFIX, Totals, decode};
use super::recover::Damage;
use super::{KvStore, StorageError};
use crate::crdt::Cell;
use crate::id::{Incarnation, NodeId, ReplicaId, Version};
use crate::time::Timestamp;
use crate::varint;

/// What a database of format 1 holds beside its counters.
#[derive(Debug)]
pub(super) struct OldContents {
    pub node: NodeId,
    /// The last completed checkpoint, and the latest that any record names.
    pub checkpoint: u64,
    pub latest: u64,
    pub clock: Timestamp,
    pub replicas: BTreeMap<u32, ReplicaId>,
    pub watermarks: Vec<(u32, Version)>,
}

/// One counter, each of its cells with the number of its replica.
#[derive(Debug)]
pub(super) struct OldCounter<'a> {
    /// `None` if it is a key that no version should have written.
    pub key: Option<OldKey<'a>>,
    pub generation: u32,
    pub expires_at: Timestamp,
    pub cells: Vec<(u32, Cell)>,
}

/// What such a counter counts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OldKey<'a> {
    /// Length in milliseconds, and how many windows of it have passed since 1970.
    pub window: Option<(u64, u64)>,
    pub limit: &'a str,
    pub values: Vec<&'a str>,
}

#[derive(Deserialize)]
struct OldMeta(u32, NodeId, u64, (u64, u64), Timestamp, Vec<(u32, Version)>);

#[derive(Deserialize)]
struct OldReplica(NodeId, (u64, u64));

#[derive(Deserialize)]
struct OldRecord(u64, Option<u32>, Option<OldState>);

#[derive(Deserialize)]
struct OldState(u32, Timestamp, Vec<(u32, Version, u64, u64)>);

/// Whether a checkpoint's entry is one of format 1.
pub(super) fn is_meta(record: &[u8]) -> bool {
    super::record::read::<OldMeta>(record).is_ok_and(|meta| meta.0 == 1)
}

/// Reads a database of format 1, and passes each live counter to `visit`.
///
/// # Errors
/// When any of it is damaged or missing; what was visited by then must be thrown away.
pub(super) fn read(
    store: &dyn KvStore,
    mut visit: impl FnMut(OldCounter<'_>),
) -> Result<OldContents, Damage> {
    let meta = store.get(META_KEY).map_err(Damage::Unreadable)?.ok_or(Damage::NoMeta)?;
    let (meta, _) = decode::<OldMeta>(META_KEY, &meta).map_err(|_| Damage::Meta)?;
    let OldMeta(_, node, checkpoint, (count, sum), clock, watermarks) = meta;
    let (mut all, mut damaged) = (0, 0);
    let replicas = read_replicas(store, |_| damaged += 1).map_err(Damage::Unreadable)?;
    all += replicas.len() as u64 + damaged;
    let (mut totals, mut latest) = (Totals::default(), checkpoint);
    let scanned = store.scan(&[COUNTER_PREFIX], &mut |key, value| {
        all += 1;
        let Ok((OldRecord(epoch, replaced, state), crc)) = decode::<OldRecord>(key, value) else {
            damaged += 1;
            return;
        };
        latest = latest.max(epoch);
        let counted = if epoch > checkpoint { replaced } else { state.as_ref().map(|_| crc) };
        counted.into_iter().for_each(|crc| totals.add(crc));
        let Some(OldState(generation, expires_at, cells)) = state else { return };
        let cells = cells.into_iter();
        let cells = cells.map(|(number, version, p, n)| (number, Cell { version, p, n }));
        let cells: Vec<(u32, Cell)> = cells.collect();
        if cells.iter().any(|(number, _)| !replicas.contains_key(number)) {
            damaged += 1;
            return;
        }
        let key = key.get(1..).and_then(OldKey::read);
        visit(OldCounter { key, generation, expires_at, cells });
    });
    scanned.map_err(Damage::Unreadable)?;
    if damaged > 0 {
        return Err(Damage::Records { damaged, all });
    }
    if totals != (Totals { count, sum }) {
        return Err(Damage::Totals { expected: count, found: totals.count });
    }
    Ok(OldContents { node, checkpoint, latest, clock, replicas, watermarks })
}

/// Every replica by its number.
pub(super) fn read_replicas(
    store: &dyn KvStore,
    mut damaged: impl FnMut(DamagedRecord),
) -> Result<BTreeMap<u32, ReplicaId>, StorageError> {
    let mut replicas = BTreeMap::new();
    store.scan(&[REPLICA_PREFIX], &mut |key, value| {
        let number = key.get(1..).and_then(|number| number.try_into().ok());
        match (number, decode::<OldReplica>(key, value)) {
            (Some(number), Ok((OldReplica(node, (boot, nonce)), _))) => {
                let replica = ReplicaId { node, incarnation: Incarnation { boot, nonce } };
                replicas.insert(u32::from_be_bytes(number), replica);
            }
            (_, read) => damaged(read.err().unwrap_or(DamagedRecord::Content)),
        }
    })?;
    Ok(replicas)
}

/// The most values a key had.
const VALUES_MAX: u64 = 32;

impl<'a> OldKey<'a> {
    /// Reads a key's bytes; `None` if they are none.
    pub(super) fn read(bytes: &'a [u8]) -> Option<OldKey<'a>> {
        let mut rest = bytes;
        let window = match number(&mut rest)? {
            0 => None,
            length_ms => Some((length_ms, number(&mut rest)?)),
        };
        let limit = text(&mut rest)?;
        let count = number(&mut rest).filter(|count| *count <= VALUES_MAX)?;
        let values = (0..count).map(|_| text(&mut rest)).collect::<Option<Vec<&str>>>()?;
        rest.is_empty().then_some(OldKey { window, limit, values })
    }
}

fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let length = usize::try_from(number(rest)?).ok()?;
    let (text, after) = rest.split_at_checked(length)?;
    *rest = after;
    core::str::from_utf8(text).ok()
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    varint::read(rest).ok()
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_documented() {
        let session = b"\x00\x11calls per session\x01\x02s0";
        let key = OldKey { window: None, limit: "calls per session", values: vec!["s0"] };
        assert_eq!(OldKey::read(session), Some(key));
        let minute = b"\xe0\xd4\x03\x05\x01l\x02\x01a\x00";
        let key = OldKey { window: Some((60_000, 5)), limit: "l", values: vec!["a", ""] };
        assert_eq!(OldKey::read(minute), Some(key));
        for bad in [&b""[..], b"\x00", b"\x00\x01l\x21", b"\x00\x01l\x00x", b"\x00\x02l\x00"] {
            assert_eq!(OldKey::read(bad), None, "{bad:?}");
        }
    }
}
