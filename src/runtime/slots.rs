//! Opening as one of several processes: in the slot that was given, or in the first that is free.

use std::io::ErrorKind;

use super::{OpenError, Runtime};
use crate::config::Config;
use tallymesh_core::storage::StorageError;

/// Opens the node. Returns the config of its slot, and the slot, if it has one.
///
/// The lock of its directory makes a slot one process's own, and in memory its port. The end of a process lets go of both.
pub(crate) async fn open_in_slot(
    config: &Config,
) -> Result<(Runtime, Config, Option<usize>), OpenError> {
    let Some(slots) = config.slots else {
        return Ok((Runtime::open(config).await?, config.clone(), None));
    };
    let mut taken = Vec::new();
    for slot in slots.candidates() {
        let config = config.in_slot(slot);
        match Runtime::open(&config).await {
            Ok(runtime) => return Ok((runtime, config, Some(slot))),
            Err(error) if !is_taken(&error) => return Err(error),
            Err(error) if slots.own.is_some() => {
                return Err(OpenError::SlotTaken { slot, source: Box::new(error) });
            }
            Err(error) => taken.push(error),
        }
    }
    Err(OpenError::NoFreeSlot { taken })
}

/// Whether another one holds what the slot needs.
fn is_taken(error: &OpenError) -> bool {
    match error {
        OpenError::Storage(StorageError::Held { .. }) => true,
        OpenError::Listen { source, .. } => source.kind() == ErrorKind::AddrInUse,
        _ => false,
    }
}
