//! What an operator does to the nodes of a cluster: quarantine and release, and forgetting replicas.

use std::time::Duration;

use tallymesh_core::id::{NodeId, ReplicaId};
use tallymesh_core::operator::{EntryError, OperatorEntry};

use crate::operator_key::OperatorKey;
use crate::store::CounterStore;

impl CounterStore {
    /// Takes what a node counted, in whichever incarnation, for 0 from now on, for this long (at most 735 days). Its cells are kept,
    /// merged and told as ever, so [`release`](Self::release) brings them back. How far that has come,
    /// [`Status::operator`](crate::Status::operator) says; it takes at most 20 s.
    ///
    /// A node with `operator.public_key` takes only what is signed with the private `key` of that, and all other nodes with it
    /// follow. A node without one takes no key, and what it is told holds on this node alone. The node in quarantine itself goes on
    /// counting what it counted, and says so.
    ///
    /// # Errors
    /// When the key is not that of `operator.public_key`, or is missing, or there is none to check it with; when there are 1,024
    /// entries already; or when the store is closed.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tallymesh::{Config, CounterStore, OperatorKey};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let key = OperatorKey::generate()?;
    /// let config = Config::builder("a").in_memory().operator_public_key(key.public().to_string());
    /// let store = CounterStore::open(config.build()?).await?;
    /// let b = "b".parse()?;
    /// assert!(store.quarantine(&b, Duration::from_secs(3600), None).is_err());
    /// store.quarantine(&b, Duration::from_secs(3600), Some(&key))?;
    /// assert!(store.status().operator[0].is_in_force);
    /// store.release(&b, Some(&key))?;
    /// # store.close().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn quarantine(
        &self,
        node: &NodeId,
        term: Duration,
        key: Option<&OperatorKey>,
    ) -> Result<OperatorEntry, EntryError> {
        let now = self.engine().now();
        self.give(OperatorEntry::quarantine(node, now, term), key)
    }

    /// Counts what a node counted again. Who may, is as for [`quarantine`](Self::quarantine).
    ///
    /// # Errors
    /// As [`quarantine`](Self::quarantine).
    pub fn release(
        &self,
        node: &NodeId,
        key: Option<&OperatorKey>,
    ) -> Result<OperatorEntry, EntryError> {
        self.give(OperatorEntry::release(node, self.engine().now()), key)
    }

    /// Removes all that a replica counted, and refuses it from now on, for 735 days: after that nothing of it can be left anywhere.
    /// What it brought beside its counts stays: resets of counters, and later ends of sessions. Who may, is as for
    /// [`quarantine`](Self::quarantine).
    ///
    /// A replica that is alive and hears it goes on as a new one: what it had told by then is gone, what it counts afterwards is not.
    ///
    /// # Errors
    /// As [`quarantine`](Self::quarantine).
    ///
    /// ```
    /// # use tallymesh::{Config, CounterStore, ReplicaId};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = CounterStore::open(Config::builder("a").in_memory().build()?).await?;
    /// // Without operator.public_key: on this node alone.
    /// let forged: ReplicaId = "b#1.00000000000000ff".parse()?;
    /// store.forget(&forged, None)?;
    /// assert!(!store.status().operator[0].is_told);
    /// # store.close().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn forget(
        &self,
        replica: &ReplicaId,
        key: Option<&OperatorKey>,
    ) -> Result<OperatorEntry, EntryError> {
        self.give(OperatorEntry::forget(replica, self.engine().now()), key)
    }

    /// Takes an entry that was made elsewhere, and signed where the private key is. Returns whether it is new here.
    ///
    /// # Errors
    /// As [`quarantine`](Self::quarantine); also when its time is over or far ahead, or a later one about the same thing is held.
    ///
    /// ```
    /// # use tallymesh::{Config, CounterStore, OperatorEntry, OperatorKey};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let key = OperatorKey::generate()?;
    /// # let config = Config::builder("a").in_memory().operator_public_key(key.public().to_string());
    /// # let store = CounterStore::open(config.build()?).await?;
    /// let forged = "b#1.00000000000000ff".parse()?;
    /// // Where the private key is:
    /// let bytes = key.sign(OperatorEntry::forget(&forged, store.now()), "default").to_bytes();
    /// // On any node:
    /// assert!(store.take_entry(OperatorEntry::from_bytes(&bytes)?)?);
    /// # store.close().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn take_entry(&self, entry: OperatorEntry) -> Result<bool, EntryError> {
        self.engine().take_entry(entry)
    }

    fn give(
        &self,
        entry: OperatorEntry,
        key: Option<&OperatorKey>,
    ) -> Result<OperatorEntry, EntryError> {
        self.engine().give_entry(entry, key)
    }
}
