//! The list of entries that are held: at most so many, of each kind and subject the latest.
//!
//! Which entry of two stays depends on the two alone, and which of too many goes, on all of them: so nodes that have heard the same
//! entries hold the same list, in whatever order they came. Signed ones come before those that hold here only, then the later
//! one wins, then the greater bytes.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use siphasher::sip::SipHasher13;

use super::entry::OperatorEntry;
use super::key::OperatorPublicKey;
use crate::id::{NodeId, ReplicaId};
use crate::time::Timestamp;

/// The most entries that are held.
pub const ENTRIES_MAX: usize = 1024;

/// Where an entry comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntrySource {
    /// From this node itself: who calls it may do with it as it likes.
    Here,
    /// From a peer, which may lie.
    Peer,
}

/// Why an entry was not taken.
///
/// ```
/// use tallymesh::EntryError;
///
/// /// Whether another key, or another signature, would help.
/// fn is_about_the_key(error: &EntryError) -> bool {
///     matches!(error, EntryError::NotSigned | EntryError::WrongSignature | EntryError::NoKey)
/// }
/// assert!(is_about_the_key(&EntryError::NoKey) && !is_about_the_key(&EntryError::Full));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryError {
    /// It is not signed, and must be.
    #[error(
        "the entry is not signed: with operator.public_key in the config, sign it with the private key of that"
    )]
    NotSigned,
    /// Its signature is not that of the operator of this cluster.
    #[error(
        "the entry's signature is not by the private key of operator.public_key, or is for a cluster of another name"
    )]
    WrongSignature,
    /// It is signed, and this node cannot tell by whom.
    #[error("the entry is signed, and this node has no operator.public_key to check it with")]
    NoKey,
    /// It was given at a time that is far ahead of this node's.
    #[error("the entry was given at {at}, and it is {now}: check the clocks")]
    #[non_exhaustive]
    Future {
        /// When it was given.
        at: Timestamp,
        /// The time here.
        now: Timestamp,
    },
    /// Its time is over.
    #[error("the entry ended at {end}")]
    #[non_exhaustive]
    Ended {
        /// Until when it was kept.
        end: Timestamp,
    },
    /// A later one about the same thing is held already.
    #[error("an entry about the same, given at {at}, is held already")]
    #[non_exhaustive]
    Superseded {
        /// When that was given.
        at: Timestamp,
    },
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
    /// There are as many as are held.
    #[error("there are {ENTRIES_MAX} entries of the operator already, and no more are held")]
    Full,
}

/// What a thing is called in the list: the kind of its entries, and the subject.
type Name = (Box<str>, Box<str>);

/// What follows from all entries that are in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// The nodes whose counts are taken for 0.
    pub quarantined: BTreeSet<NodeId>,
    /// The replicas of which nothing is held or taken in.
    pub forgotten: BTreeSet<ReplicaId>,
}

#[derive(Debug)]
struct Held {
    entry: OperatorEntry,
    /// It is signed by the key of the config, so that others believe it too.
    is_signed: bool,
    hash: u64,
}

impl Held {
    fn rank(&self) -> (bool, Timestamp, Vec<u8>) {
        (self.is_signed, self.entry.at(), self.entry.content())
    }
}

/// The entries that a node holds.
#[derive(Debug)]
pub struct OperatorList {
    key: Option<OperatorPublicKey>,
    cluster: Arc<str>,
    future_max: Duration,
    grace: Duration,
    held: BTreeMap<Name, Held>,
    /// What storage has to be told of: entries that are new, and those that are gone.
    unwritten: BTreeSet<Name>,
    has_storage: bool,
    /// When something begins or ends next; `None` if only a new entry changes anything.
    next_look: Option<Timestamp>,
}

impl OperatorList {
    /// An empty list of a node without the operator's key.
    pub fn new(future_max: Duration, grace: Duration) -> OperatorList {
        OperatorList {
            key: None,
            cluster: "".into(),
            future_max,
            grace,
            held: BTreeMap::new(),
            unwritten: BTreeSet::new(),
            has_storage: true,
            next_look: None,
        }
    }

    /// Nothing is stored: no list is kept of what would have to be.
    pub fn forget_storage(&mut self) {
        self.has_storage = false;
    }

    /// Entries that this key has signed for the cluster of this name are believed from now on, and told to others.
    pub fn set_key(&mut self, key: Option<OperatorPublicKey>, cluster: Arc<str>) {
        (self.key, self.cluster) = (key, cluster);
        for held in self.held.values_mut() {
            held.is_signed = is_signed(&self.key, &self.cluster, &held.entry);
        }
    }

    /// Whether there is a key to believe others by.
    pub fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// Takes an entry that was stored: it was checked when it came.
    pub fn restore(&mut self, entry: OperatorEntry) {
        let held = Held { is_signed: false, hash: hash_of(&entry), entry };
        self.put(held);
        self.unwritten.clear();
    }

    /// Takes in an entry. `Ok(false)` if it is held already.
    ///
    /// # Errors
    /// When it is not believed, is too late, or there is no room for it.
    pub fn take(
        &mut self,
        now: Timestamp,
        entry: OperatorEntry,
        source: EntrySource,
    ) -> Result<bool, EntryError> {
        let end = entry.kept();
        if end.plus(self.grace) <= now {
            return Err(EntryError::Ended { end });
        }
        if entry.at() > now.plus(self.future_max) {
            return Err(EntryError::Future { at: entry.at(), now });
        }
        match (&self.key, entry.is_signed(), source) {
            (None, false, EntrySource::Here) | (Some(_), true, _) => {}
            (_, false, _) => return Err(EntryError::NotSigned),
            (None, true, _) => return Err(EntryError::NoKey),
        }
        let name = name_of(&entry);
        let hash = hash_of(&entry);
        // Checking a signature takes longer than all else, and what is known was checked.
        if let Some(held) = self.held.get(&name).filter(|held| held.is_signed || !self.has_key()) {
            if held.hash == hash && held.entry.content() == entry.content() {
                return Ok(false);
            }
            if (held.entry.at(), held.entry.content()) > (entry.at(), entry.content()) {
                return Err(EntryError::Superseded { at: held.entry.at() });
            }
        }
        let is_signed = is_signed(&self.key, &self.cluster, &entry);
        if self.has_key() && !is_signed {
            return Err(EntryError::WrongSignature);
        }
        let held = Held { entry, is_signed, hash };
        let has_room = self.held.len() < ENTRIES_MAX || self.held.contains_key(&name);
        if !has_room && (source == EntrySource::Here || !self.make_room(&held)) {
            return Err(EntryError::Full);
        }
        self.put(held);
        Ok(true)
    }

    fn put(&mut self, held: Held) {
        let name = name_of(&held.entry);
        self.note_unwritten(name.clone());
        self.held.insert(name, held);
        self.next_look = Some(Timestamp(0));
    }

    /// Drops the least of all entries, if it is less than this one.
    fn make_room(&mut self, newcomer: &Held) -> bool {
        let least = self.held.iter().min_by_key(|(_, held)| held.rank());
        let Some((name, held)) = least else { return true };
        if held.rank() > newcomer.rank() {
            return false;
        }
        let name = name.clone();
        self.held.remove(&name);
        self.note_unwritten(name);
        true
    }

    fn note_unwritten(&mut self, name: Name) {
        if self.has_storage {
            self.unwritten.insert(name);
        }
    }

    /// Drops what is over, and returns what follows from the rest, if that may have changed since the last call.
    pub fn look(&mut self, now: Timestamp) -> Option<Standing> {
        if self.next_look.is_none_or(|at| now < at) {
            return None;
        }
        let grace = self.grace;
        let is_over = |held: &Held| held.entry.kept().plus(grace) <= now;
        let over = self.held.iter().filter(|(_, held)| is_over(held));
        for name in over.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
            self.held.remove(&name);
            self.note_unwritten(name);
        }
        let mut standing = Standing::default();
        let mut next = None;
        for Held { entry, .. } in self.held.values() {
            let is_in_force = now < entry.until();
            let changes_at = if is_in_force { entry.until() } else { entry.kept().plus(grace) };
            next = Some(next.map_or(changes_at, |next: Timestamp| next.min(changes_at)));
            if is_in_force {
                standing.quarantined.extend(entry.quarantines());
                standing.forgotten.extend(entry.forgets());
            }
        }
        self.next_look = next;
        Some(standing)
    }

    /// All entries, and whether each is signed by the key of the config.
    pub fn iter(&self) -> impl Iterator<Item = (&OperatorEntry, bool)> {
        self.held.values().map(|held| (&held.entry, held.is_signed))
    }

    fn told(&self, now: Timestamp) -> impl Iterator<Item = &Held> {
        self.held.values().filter(move |held| held.is_signed && now < held.entry.kept())
    }

    /// The latest entry about the same thing as this one.
    pub fn held(&self, like: &OperatorEntry) -> Option<&OperatorEntry> {
        self.held.get(&name_of(like)).map(|held| &held.entry)
    }

    /// A checksum over all entries that are told to others; `None` if there are none.
    pub fn checksum(&self, now: Timestamp) -> Option<u64> {
        self.told(now).map(|held| held.hash).reduce(u64::wrapping_add)
    }

    /// What tells each entry from others that is told.
    pub fn hashes(&self, now: Timestamp) -> Vec<u64> {
        self.told(now).map(|held| held.hash).collect()
    }

    /// The entries that are told and are not among these, as bytes: as many as fit, and at least one.
    pub fn missing(&self, now: Timestamp, among: &[u64], bytes_max: usize) -> Vec<Vec<u8>> {
        let known: BTreeSet<u64> = among.iter().copied().collect();
        let mut bytes = 0;
        let missing = self.told(now).filter(|held| !known.contains(&held.hash));
        let missing = missing.map(|held| held.entry.to_bytes()).enumerate();
        let fits = missing.take_while(|(index, entry)| {
            bytes += entry.len() + 5;
            *index == 0 || bytes <= bytes_max
        });
        fits.map(|(_, entry)| entry).collect()
    }

    /// Takes what storage has to be told of: the kind and the subject, with the entry, or `None` where it is gone.
    pub fn take_unwritten(&mut self) -> Vec<(Box<str>, Box<str>, Option<OperatorEntry>)> {
        let unwritten = core::mem::take(&mut self.unwritten).into_iter();
        let with_entry = unwritten.map(|name| {
            let entry = self.held.get(&name).map(|held| held.entry.clone());
            (name.0, name.1, entry)
        });
        with_entry.collect()
    }

    /// Lists all entries for a storage that is empty.
    pub fn unwrite_all(&mut self) {
        self.unwritten = self.held.keys().cloned().collect();
    }
}

fn name_of(entry: &OperatorEntry) -> Name {
    (entry.kind().into(), entry.subject().into())
}

fn hash_of(entry: &OperatorEntry) -> u64 {
    SipHasher13::new().hash(&entry.content())
}

fn is_signed(key: &Option<OperatorPublicKey>, cluster: &str, entry: &OperatorEntry) -> bool {
    key.as_ref().is_some_and(|key| entry.is_signed_by(key, cluster))
}
