//! A disk that forgets: what was written and not synced may or may not survive a crash, write by write.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::RngExt;
use rand::rngs::StdRng;
use tallymesh::StorageError;
use tallymesh::simulation::Storage;

/// A handle of one node's disk; clones share it, as the lives of a node do.
#[derive(Debug, Clone, Default)]
pub struct SimDisk(Arc<Mutex<Platter>>);

#[derive(Debug, Default)]
struct Platter {
    durable: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Later writes, in order; `None` removes.
    pending: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// What reads show: durable and pending together.
    shown: BTreeMap<Vec<u8>, Vec<u8>>,
    fails: bool,
}

impl SimDisk {
    /// Loses each write since the last sync by the toss of a coin.
    pub fn crash(&self, random: &RefCell<StdRng>) {
        let mut platter = self.platter();
        for (key, value) in std::mem::take(&mut platter.pending) {
            if random.borrow_mut().random::<bool>() {
                platter.apply(key, value);
            }
        }
        platter.shown = platter.durable.clone();
        platter.fails = false;
    }

    /// Loses everything.
    pub fn wipe(&self) {
        *self.platter() = Platter::default();
    }

    /// From now on, every sync fails.
    pub fn break_down(&self) {
        self.platter().fails = true;
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Platter {
    fn apply(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        match value {
            Some(value) => self.durable.insert(key, value),
            None => self.durable.remove(&key),
        };
    }
}

impl Storage for SimDisk {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        let mut platter = self.platter();
        platter.pending.push((key.to_vec(), Some(value.to_vec())));
        Ok(platter.shown.insert(key.to_vec(), value.to_vec()))
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.platter().shown.get(key).cloned())
    }

    fn remove(&mut self, key: &[u8]) -> Result<(), StorageError> {
        let mut platter = self.platter();
        platter.pending.push((key.to_vec(), None));
        platter.shown.remove(key);
        Ok(())
    }

    fn scan(&self, prefix: &[u8], visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), StorageError> {
        let shown = self.platter().shown.clone();
        for (key, value) in shown.range(prefix.to_vec()..) {
            if !key.starts_with(prefix) {
                break;
            }
            visit(key, value);
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        let mut platter = self.platter();
        if platter.fails {
            return Err(StorageError::Panicked("the simulated disk broke down".to_owned()));
        }
        for (key, value) in std::mem::take(&mut platter.pending) {
            platter.apply(key, value);
        }
        Ok(())
    }

    fn compact(&mut self) -> Result<bool, StorageError> {
        Ok(false)
    }
}
