//! Randomness of the system: for seeds, keys, and names of lives.

use std::io;

use rand::TryRng;
use rand::rngs::SysRng;

/// Bytes that cannot be foreseen.
///
/// # Errors
/// When the system has no randomness to give.
pub(crate) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    SysRng.try_fill_bytes(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}
