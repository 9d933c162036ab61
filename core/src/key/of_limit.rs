//! Whose counter a key names: a limit's, or one that any instance may lower.

use super::{CounterKind, InvalidKey, NO_LIMIT, Reader};

/// Whether a key is of a limit's counter, of a kind that counts what was charged less what was refunded.
pub(crate) fn is_of_limit(key: &[u8]) -> bool {
    let mut reader = Reader(key);
    let mut kind_and_tag = || {
        let (kind, _) = reader.head()?;
        reader.text()?;
        Ok::<_, InvalidKey>((kind, reader.tag()?))
    };
    let counts = |kind| matches!(kind, CounterKind::Session | CounterKind::FixedWindow);
    kind_and_tag().is_ok_and(|(kind, tag)| counts(kind) && tag != NO_LIMIT)
}
