//! The members of the cluster on disk, so that a node that starts again knows how many there are and where they were.
//!
//! They are hints beside the counters: a record that cannot be read is left out and written again when that member is met, and a
//! checkpoint without anything else to write does not wait for them.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::record::{MEMBER_PREFIX, decode, encode};
use super::{Fields, KvStore, OpenEvent, StorageError};
use crate::gossip::{KnownMember, PeerSource};
use crate::id::{Incarnation, NodeId, ReplicaId};
use crate::time::Timestamp;

/// That a member was heard again is worth a write only so often.
const HEARD_EVERY: Duration = Duration::from_secs(60);

/// A member, under its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct MemberRecord {
    boot: u64,
    nonce: u64,
    since: Timestamp,
    heard: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    source: String,
    /// What a newer version added.
    #[serde(flatten)]
    others: Fields,
}

/// What the database holds of members, and what is still to be written.
#[derive(Debug, Default)]
pub(super) struct StoredMembers {
    written: BTreeMap<NodeId, MemberRecord>,
    /// Fields that this version does not know stay with a member.
    wanted: BTreeMap<NodeId, MemberRecord>,
}

impl StoredMembers {
    /// Reads what is there, but for records that cannot be read: those are told, and removed.
    pub(super) fn read(
        store: &mut dyn KvStore,
        tell: &mut impl FnMut(OpenEvent<'_>),
    ) -> Result<StoredMembers, StorageError> {
        let (mut written, mut bad) = (BTreeMap::new(), Vec::new());
        store.scan(&[MEMBER_PREFIX], &mut |key, value| {
            let node = key.get(1..).and_then(|name| core::str::from_utf8(name).ok()?.parse().ok());
            match (node, decode::<MemberRecord>(key, value)) {
                (Some(node), Ok((record, _))) if source_of(&record.source).is_some() => {
                    written.insert(node, record);
                }
                _ => bad.push(key.to_owned()),
            }
        })?;
        for key in bad {
            let name = String::from_utf8_lossy(key.get(1..).unwrap_or_default()).into_owned();
            let what = format!("member {name:?}");
            tell(OpenEvent::Rejected { what: &what, why: "it cannot be read", copy: None });
            store.remove(&key)?;
        }
        Ok(StoredMembers { wanted: written.clone(), written })
    }

    /// The members as they were when the node ran last.
    pub(super) fn known(&self) -> Vec<KnownMember> {
        let known = self.written.iter().filter_map(|(node, record)| {
            let incarnation = Incarnation { boot: record.boot, nonce: record.nonce };
            Some(KnownMember {
                replica: ReplicaId { node: node.clone(), incarnation },
                since: record.since,
                heard: record.heard,
                address: record.address.clone(),
                source: source_of(&record.source)?,
            })
        });
        known.collect()
    }

    /// These are the members from now on.
    pub(super) fn set(&mut self, members: &[KnownMember]) {
        let wanted = members.iter().map(|member| {
            let node = member.replica.node.clone();
            let others = self.wanted.get(&node).map(|record| record.others.clone());
            let Incarnation { boot, nonce } = member.replica.incarnation;
            let record = MemberRecord {
                boot,
                nonce,
                since: member.since,
                heard: member.heard,
                address: member.address.clone(),
                source: format!("{}", member.source),
                others: others.unwrap_or_default(),
            };
            (node, record)
        });
        self.wanted = wanted.collect();
    }

    /// Writes what has changed, but for when a member was heard, unless that is a while ago; says whether there was anything.
    pub(super) fn write(&mut self, store: &mut dyn KvStore) -> Result<bool, StorageError> {
        let mut wrote = false;
        let gone: Vec<NodeId> =
            self.written.keys().filter(|node| !self.wanted.contains_key(*node)).cloned().collect();
        for node in gone {
            store.remove(&key_of(&node))?;
            self.written.remove(&node);
            wrote = true;
        }
        for (node, wanted) in &self.wanted {
            let is_written = self.written.get(node).is_some_and(|written| {
                wanted.heard.since(written.heard) < HEARD_EVERY
                    && MemberRecord { heard: written.heard, ..wanted.clone() } == *written
            });
            if !is_written {
                let key = key_of(node);
                store.put(&key, &encode(&key, wanted).0)?;
                self.written.insert(node.clone(), wanted.clone());
                wrote = true;
            }
        }
        Ok(wrote)
    }

    /// The database is a new one, with none of them.
    pub(super) fn forget_written(&mut self) {
        self.written.clear();
    }
}

fn key_of(node: &NodeId) -> Vec<u8> {
    [&[MEMBER_PREFIX], node.as_str().as_bytes()].concat()
}

fn source_of(name: &str) -> Option<PeerSource> {
    let sources = [PeerSource::Config, PeerSource::Exchange, PeerSource::DialedUs];
    sources.into_iter().find(|source| format!("{source}") == name)
}
