//! Reading back what was stored, and telling whether it is all there.

use std::collections::BTreeMap;

use super::record::{
    COUNTER_PREFIX, CounterRecord, FORMAT, META_KEY, Meta, REPLICA_PREFIX, Totals, decode,
};
use super::{Storage, StorageError};
use tallymesh_core::crdt::Cell;
use tallymesh_core::id::{NodeId, ReplicaId, Version};
use tallymesh_core::table::ReadCounter;
use tallymesh_core::time::Timestamp;

/// What storage holds besides the counters.
#[derive(Debug)]
pub struct Recovered {
    pub meta: Meta,
    /// Number of the last completed checkpoint.
    pub checkpoint: u64,
    /// Every replica by its number.
    pub replicas: Vec<(u32, ReplicaId)>,
    /// Keys of tombstones that are still to be removed.
    pub tombstones: Vec<Vec<u8>>,
    /// Bytes of keys and values of counters.
    pub live_bytes: u64,
}

impl Recovered {
    /// No clock of this node may fall behind this.
    pub fn clock(&self) -> Timestamp {
        self.meta.clock
    }

    /// The watermark of every replica that has one.
    pub fn watermarks(&self) -> impl Iterator<Item = (ReplicaId, Version)> {
        let by_number: BTreeMap<u32, &ReplicaId> =
            self.replicas.iter().map(|(number, replica)| (*number, replica)).collect();
        let named = self.meta.watermarks.iter().filter_map(move |(number, watermark)| {
            Some(((*by_number.get(number)?).clone(), *watermark))
        });
        named.collect::<Vec<_>>().into_iter()
    }
}

/// Why what is stored cannot be trusted.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    #[error("the entry of the last checkpoint is damaged")]
    Meta,
    #[error("the entry of the last checkpoint is missing")]
    NoMeta,
    #[error("{damaged} of {all} records are damaged")]
    Records { damaged: u64, all: u64 },
    #[error(
        "the last checkpoint counted {expected} counters and {found} are there, or some of them are older than it says"
    )]
    Totals { expected: u64, found: u64 },
    #[error(
        "the database ends at checkpoint {found}, and checkpoint {expected} had been completed"
    )]
    Older { expected: u64, found: u64 },
    #[error("the database cannot be read: {0}")]
    Unreadable(#[source] StorageError),
}

/// Why nothing was recovered.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    #[error("{0}")]
    Damage(#[from] Damage),
    #[error("it has format {found}, and this version reads format {FORMAT}")]
    OtherFormat { found: u32 },
}

/// Reads everything and hands each live counter to `visit`; `None` when nothing was ever stored.
///
/// # Errors
/// When any of it is damaged or missing; what was visited by then must be thrown away.
pub fn recover(
    storage: &dyn Storage,
    mut visit: impl FnMut(ReadCounter<'_>),
) -> Result<Option<Recovered>, RecoverError> {
    let unreadable = |error| RecoverError::Damage(Damage::Unreadable(error));
    let Some(bytes) = storage.get(META_KEY).map_err(unreadable)? else {
        let mut entries = 0_u64;
        storage.scan(&[], &mut |_, _| entries += 1).map_err(unreadable)?;
        return if entries == 0 { Ok(None) } else { Err(Damage::NoMeta.into()) };
    };
    let (mut meta, _) = decode::<Meta>(META_KEY, &bytes).map_err(|_| Damage::Meta)?;
    if meta.format != FORMAT {
        return Err(RecoverError::OtherFormat { found: meta.format });
    }
    let (mut damaged, mut all) = (0_u64, 0_u64);
    let mut replicas = Vec::new();
    storage
        .scan(&[REPLICA_PREFIX], &mut |key, value| {
            all += 1;
            let number = key.get(1..).and_then(|number| number.try_into().ok());
            match (number, decode::<ReplicaId>(key, value)) {
                (Some(number), Ok((replica, _))) => {
                    replicas.push((u32::from_be_bytes(number), replica));
                }
                _ => damaged += 1,
            }
        })
        .map_err(unreadable)?;
    let by_number: BTreeMap<u32, &ReplicaId> =
        replicas.iter().map(|(number, replica)| (*number, replica)).collect();

    let mut found = Found::default();
    let mut cells = Vec::new();
    storage
        .scan(&[COUNTER_PREFIX], &mut |key, value| {
            all += 1;
            match found.counter(&meta, &by_number, (key, value), &mut cells) {
                Some(Some(counter)) => visit(counter),
                Some(None) => {}
                None => damaged += 1,
            }
        })
        .map_err(unreadable)?;
    if damaged > 0 {
        return Err(Damage::Records { damaged, all }.into());
    }
    if found.at_checkpoint != meta.totals {
        let (expected, found) = (meta.totals.count, found.at_checkpoint.count);
        return Err(Damage::Totals { expected, found }.into());
    }
    let checkpoint = meta.epoch;
    meta.totals = found.now;
    meta.epoch = meta.epoch.max(found.last_epoch);
    let Found { tombstones, live_bytes, .. } = found;
    Ok(Some(Recovered { meta, checkpoint, replicas, tombstones, live_bytes }))
}

/// The highest boot number among a node's incarnations in storage, as far as it can be read.
pub fn boots_of(storage: &dyn Storage, node: &NodeId) -> u64 {
    let mut boot = 0;
    // What cannot be read is found out, and dealt with, when everything is read.
    let _ = storage.scan(&[REPLICA_PREFIX], &mut |key, value| {
        if let Ok((replica, _)) = decode::<ReplicaId>(key, value)
            && replica.node == *node
        {
            boot = boot.max(replica.incarnation.boot);
        }
    });
    boot
}

#[derive(Default)]
struct Found {
    /// The totals as of the last completed checkpoint: where a later, half written one has replaced a record, by what the
    /// record says of the one it replaced.
    at_checkpoint: Totals,
    /// The totals as things stand.
    now: Totals,
    last_epoch: u64,
    tombstones: Vec<Vec<u8>>,
    live_bytes: u64,
}

impl Found {
    /// Reads one record: `None` if it is damaged, `Some(None)` if it is a tombstone. `cells` is room that is used again.
    fn counter<'a, 'r: 'a>(
        &mut self,
        meta: &Meta,
        replicas: &BTreeMap<u32, &'r ReplicaId>,
        (key, value): (&'a [u8], &[u8]),
        cells: &'a mut Vec<(&'r ReplicaId, Cell)>,
    ) -> Option<Option<ReadCounter<'a>>> {
        let (record, crc) = decode::<CounterRecord>(key, value).ok()?;
        let counted = match record.epoch > meta.epoch {
            true => record.replaced,
            false => record.state.is_some().then_some(crc),
        };
        if let Some(crc) = counted {
            self.at_checkpoint.add(crc);
        }
        self.last_epoch = self.last_epoch.max(record.epoch);
        self.live_bytes += (key.len() + value.len()) as u64;
        let Some(state) = record.state else {
            self.tombstones.push(key.to_vec());
            return Some(None);
        };
        self.now.add(crc);
        let key = key.get(1..)?;
        tallymesh_core::key::CounterKey::check(key).ok()?;
        cells.clear();
        for (number, version, p, n) in state.cells {
            cells.push((*replicas.get(&number)?, Cell { version, p, n }));
        }
        let (generation, expires_at) = (state.generation, state.expires_at);
        Some(Some(ReadCounter { key, generation, expires_at, cells }))
    }
}
