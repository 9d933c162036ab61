//! The behaviour that every backend owes, as one suite for all of them.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::KvStore;

/// The suite for backends: panics if one does not behave as it owes. `open` opens the same storage each time, at first an empty one. Returns the
/// storage with its few entries, for what is a backend's own choice.
#[expect(clippy::unwrap_used, reason = "a suite of assertions: a backend that fails it panics")]
pub fn conforms(mut open: impl FnMut() -> Box<dyn KvStore>) -> Box<dyn KvStore> {
    let mut storage = open();
    assert_eq!(storage.get(b"a").unwrap(), None);
    assert_eq!(storage.put(b"a", b"1").unwrap(), None);
    assert_eq!(storage.put(b"a", b"2").unwrap(), Some(b"1".to_vec()));
    storage.put(b"b2", b"4").unwrap();
    storage.put(b"b1", b"3").unwrap();
    storage.put(b"c", b"").unwrap();
    storage.remove(b"c").unwrap();
    storage.remove(b"never there").unwrap();
    storage.sync().unwrap();
    drop(storage);
    let storage = open();
    let scan = |prefix: &[u8]| {
        let mut found = Vec::new();
        storage.scan(prefix, &mut |key, value| found.push((key.to_vec(), value.to_vec()))).unwrap();
        found
    };
    let entry = |key: &[u8], value: &[u8]| (key.to_vec(), value.to_vec());
    assert_eq!(scan(b"b"), [entry(b"b1", b"3"), entry(b"b2", b"4")]);
    assert_eq!(scan(b""), [entry(b"a", b"2"), entry(b"b1", b"3"), entry(b"b2", b"4")]);
    assert_eq!(storage.get(b"c").unwrap(), None);
    drop(storage);
    open()
}
