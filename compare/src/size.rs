//! How much of each there is to do.

use std::time::Duration;

/// A run is as long as this says.
pub struct Size {
    /// How many keys the decisions are spread over, one after the other.
    pub keys: &'static [usize],
    /// Rounds of the decisions; the median is taken.
    pub rounds: usize,
    /// Decisions in a round.
    pub operations: usize,
    /// Counters that change again and again while decisions are watched for stalls, and new ones of a burst.
    pub counters: usize,
    /// How long stalls are watched for, and an idle cluster for its use of the processor and of the network.
    pub watch: Duration,
    /// Changes that are followed from one node to another.
    pub changes: usize,
    /// Counters in memory.
    pub counters_in_memory: usize,
    /// Short-lived nodes.
    pub lives: usize,
}

impl Size {
    /// What the pages in docs/benchmarks show.
    pub const FULL: Size = Size {
        keys: &[1_000, 10_000, 100_000],
        rounds: 15,
        operations: 300_000,
        counters: 100_000,
        watch: Duration::from_secs(10),
        changes: 500,
        counters_in_memory: 1_000_000,
        lives: 10_000,
    };

    /// To see that it runs.
    pub const QUICK: Size = Size {
        keys: &[1_000, 10_000],
        rounds: 3,
        operations: 10_000,
        counters: 5_000,
        watch: Duration::from_secs(1),
        changes: 20,
        counters_in_memory: 20_000,
        lives: 200,
    };
}
