//! Storage that lives as long as the process, for tests: a store without a data directory has none.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::{KvStore, StorageError};

/// Keys and values in memory.
#[derive(Debug, Default, Clone)]
pub struct MemoryStore(BTreeMap<Vec<u8>, Vec<u8>>);

impl KvStore for MemoryStore {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.0.insert(key.to_vec(), value.to_vec()))
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.0.get(key).cloned())
    }

    fn remove(&mut self, key: &[u8]) -> Result<(), StorageError> {
        self.0.remove(key);
        Ok(())
    }

    fn scan(&self, prefix: &[u8], visit: &mut dyn FnMut(&[u8], &[u8])) -> Result<(), StorageError> {
        let from = self.0.range(prefix.to_vec()..);
        for (key, value) in from.take_while(|(key, _)| key.starts_with(prefix)) {
            visit(key, value);
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        Ok(())
    }

    fn is_wasteful(&self, _live_bytes: u64) -> Result<bool, StorageError> {
        Ok(false)
    }
}
