//! What the operator of a cluster says to all of it: a bounded list of entries, of which the latest about each thing counts.
//!
//! Think of a notice board. Each notice says what it is about, since when and until when it hangs there, and is signed. A later
//! notice about the same thing takes the place of an earlier one, so the order in which they arrive does not matter, and who was
//! away reads the board when it is back. What is not signed hangs on the own board alone.
//!
//! Invariant: nothing here knows what a table, a peer or a file is; what an entry brings about is the table's.

mod entry;
mod key;
mod list;
#[cfg(test)]
mod list_tests;

pub use entry::{
    ENTRY_TERM_MAX, InvalidEntry, KIND_BYTES_MAX, OperatorEntry, PAYLOAD_BYTES_MAX,
    SUBJECT_BYTES_MAX,
};
pub use key::{InvalidPublicKey, OperatorPublicKey, SEED_BYTES};
pub use list::{ENTRIES_MAX, EntryError, EntrySource, OperatorList, Standing};
