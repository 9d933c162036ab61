//! In which order keys come up.

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Zipf};

/// How often a key comes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Each as often as another.
    Uniform,
    /// The one of rank `r` with a frequency in proportion to `1 / r`.
    Zipf,
}

impl Order {
    /// All there are.
    pub const ALL: [Order; 2] = [Order::Uniform, Order::Zipf];

    /// For a table.
    pub fn name(self) -> &'static str {
        match self {
            Order::Uniform => "uniform",
            Order::Zipf => "Zipf(1.0)",
        }
    }

    /// A sequence of keys below `keys`, the same in every run.
    pub fn sequence(self, keys: usize, length: usize) -> Vec<u32> {
        let mut random = StdRng::seed_from_u64(2);
        // Frequent keys must not lie beside one another in anybody's memory, so ranks are dealt out at random.
        let by_rank = shuffled(keys);
        let zipf =
            Zipf::new(keys as f64, 1.0).expect("there is a key, and the exponent is positive");
        let mut rank = || match self {
            Order::Uniform => random.random_range(0..keys),
            Order::Zipf => zipf.sample(&mut random) as usize - 1,
        };
        (0..length).map(|_| by_rank[rank()]).collect()
    }
}

/// All keys, shuffled, the same way in every run.
pub fn shuffled(keys: usize) -> Vec<u32> {
    let mut all: Vec<u32> = (0..keys as u32).collect();
    all.shuffle(&mut StdRng::seed_from_u64(1));
    all
}

/// The session of a number: 16 bytes.
pub fn session(number: usize) -> String {
    format!("session-{number:08}")
}

/// The tool that all of them call.
pub const TOOL: &str = "book_service";

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: usize = 1_000;
    const LENGTH: usize = 400_000;

    fn frequencies(order: Order) -> Vec<usize> {
        let mut counts = vec![0; KEYS];
        for key in order.sequence(KEYS, LENGTH) {
            counts[key as usize] += 1;
        }
        counts.sort_unstable_by(|one, other| other.cmp(one));
        counts
    }

    #[test]
    fn zipf_frequencies_fall_as_one_over_the_rank() {
        let counts = frequencies(Order::Zipf);
        let harmonic: f64 = (1..=KEYS).map(|rank| 1.0 / rank as f64).sum();
        for rank in [1, 2, 3, 10, 30] {
            let expected = LENGTH as f64 / harmonic / rank as f64;
            let ratio = counts[rank - 1] as f64 / expected;
            assert!((0.9..1.1).contains(&ratio), "rank {rank}: {ratio}");
        }
    }

    #[test]
    fn uniform_frequencies_are_alike() {
        let counts = frequencies(Order::Uniform);
        assert!(counts[0] < 2 * counts[KEYS - 1], "{} and {}", counts[0], counts[KEYS - 1]);
    }

    #[test]
    fn a_sequence_is_the_same_every_time() {
        for order in Order::ALL {
            assert_eq!(order.sequence(KEYS, 100), order.sequence(KEYS, 100));
        }
    }
}
