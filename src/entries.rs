//! How an instance takes what its operator says: by a call, by the control socket, or signed elsewhere.

use tallymesh_core::operator::{EntryError, EntrySource, OperatorEntry};
use tallymesh_core::table::Taken;

use crate::engine::Engine;
use crate::operator_key::OperatorKey;

impl Engine {
    /// Takes an entry that is given here and now, signed with this key if there is one; returns it as it was taken.
    pub(crate) fn give_entry(
        &self,
        entry: OperatorEntry,
        key: Option<&OperatorKey>,
    ) -> Result<OperatorEntry, EntryError> {
        // What was given within this very millisecond, or by a clock ahead of this one, must not win.
        let entry = match self.table().last_entry_at(&entry) {
            Some(last) => entry.given_after(last),
            None => entry,
        };
        let entry = match key {
            Some(key) => key.sign(entry, self.cluster()),
            None => entry,
        };
        self.take_entry(entry.clone())?;
        Ok(entry)
    }

    /// Takes an entry as it is. Returns whether it is new here.
    pub(crate) fn take_entry(&self, entry: OperatorEntry) -> Result<bool, EntryError> {
        let taken = self.table().take_entry(self.now(), entry.clone(), EntrySource::Here)?;
        if taken == Taken::New {
            self.runtime().operator_said(&entry);
            self.changed();
        }
        Ok(taken == Taken::New)
    }
}
