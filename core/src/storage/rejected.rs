//! What becomes of a record whose checksum is right and whose content no version writes: it is copied, in words, to where a
//! person finds it, and told of.

use alloc::format;
use alloc::string::String;

use super::record::{COUNTER_PREFIX, ENTRY_PREFIX, MARKS_PREFIX, PAGE_PREFIX, counter_of_page};
use super::state_store::OpenEvent;
use super::walk::{Rejected, number_of};
use super::{Files, StorageError};
use crate::key::CounterKey;

/// How much of a value is copied.
const COPIED_BYTES_MAX: usize = 16 * 1024;

/// Copies the records, and tells of each.
///
/// # Errors
/// When the file system returns an error.
pub(super) fn report(
    rejected: &[Rejected],
    files: &mut dyn Files,
    tell: &mut impl FnMut(OpenEvent<'_>),
) -> Result<(), StorageError> {
    for Rejected { key, value, crc, why, .. } in rejected {
        let what = name_of(key);
        let copied = value.get(..COPIED_BYTES_MAX).unwrap_or(value);
        let text = format!("{what}\n{why}\nkey {}\nvalue {}\n", hex(key), hex(copied));
        // A start that was interrupted finds the same record again, and copies it to the same place.
        let name = format!("{:08x}-{crc:08x}", crc32fast::hash(key));
        let copy = files.keep_rejected(&name, &text)?;
        tell(OpenEvent::Rejected { what: &what, why, copy: copy.as_deref() });
    }
    Ok(())
}

/// A record by its key, in words.
pub(super) fn name_of(key: &[u8]) -> String {
    let (what, counter_key) = match key.first() {
        Some(&COUNTER_PREFIX) => ("", key.get(1..)),
        Some(&PAGE_PREFIX) => ("cells of ", counter_of_page(key)),
        Some(&ENTRY_PREFIX) => return format!("operator's entry {}", hex(key)),
        Some(&MARKS_PREFIX) => return format!("watermark record {}", hex(key)),
        _ => {
            return match number_of(key) {
                Some(number) => format!("replica {number}"),
                None => format!("replica record {}", hex(key)),
            };
        }
    };
    match CounterKey::from_bytes(counter_key.unwrap_or_default()) {
        Ok(key) => format!("{what}counter {key}"),
        Err(_) => format!("counter record {}", hex(key)),
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
