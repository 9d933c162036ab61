//! What a harness draws its cases from.

use rand::rngs::{StdRng, SysRng};
use rand::{SeedableRng, TryRng};

/// A generator from the seed in `TALLYMESH_SEED`, or from a new one. A failure prints the seed, so that the same cases can
/// be drawn again.
pub fn generator() -> (u64, StdRng) {
    let drawn = || SysRng.try_next_u64().unwrap();
    let seed = number("TALLYMESH_SEED").unwrap_or_else(drawn);
    eprintln!("TALLYMESH_SEED={seed}");
    (seed, StdRng::seed_from_u64(seed))
}

/// A number in the environment, if it is set.
pub fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text:?} is not a number")))
}
