//! Everything that a run is made of, derived from its seed.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tallymesh_core::limit::WhenCutOff;
use tallymesh_core::mutant::Mutant;

use crate::faults::{Fault, Faults};

/// What a run is to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing forbidden happens, with faults to the very end.
    Safety,
    /// What is repaired makes progress: first a part of the cluster while the rest stays broken, then all of it.
    Liveness,
}

/// What the calls look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// Tool calls of some sessions, one of them busier than the others.
    Sessions,
    /// Nearly all calls in one session.
    HotKey,
    /// Calls crowd around the edges of windows.
    WindowEdges,
    /// Every call is a session of its own.
    ColdKeys,
}

/// Which limits are in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limits {
    /// Sessions long and short, a window, and one counter for everything.
    Varied,
    /// The same, but the long sessions are of seconds too, so that all counters of a life can end within a run.
    Brief,
    /// One limit for each session.
    PerSession,
    /// One counter for everything, with this limit.
    Single {
        /// The limit.
        max: u64,
    },
}

impl Limits {
    /// Whether there are many, of all kinds.
    pub fn are_varied(self) -> bool {
        matches!(self, Limits::Varied | Limits::Brief)
    }

    /// How long the longest session lives without use.
    pub fn long(self) -> Duration {
        Duration::from_secs(if self == Limits::Brief { 3 } else { 3_600 })
    }
}

/// How much is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checks {
    /// Every invariant, at every step where it is meant.
    All,
    /// Only what costs nothing; for large clusters.
    Few,
}

/// What is done to the cluster beside faults drawn by chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scene {
    /// Nothing.
    None,
    /// At one second, the first node's disk is copied and a second process started on the copy.
    Clone,
    /// From one second on, two halves are cut off from each other for so long.
    Halves {
        /// Length of the partition.
        cut_ms: u64,
    },
    /// From here on, sides of so many nodes, and of the rest, are cut off from each other.
    Sides {
        /// When, in virtual milliseconds.
        at_ms: u64,
        /// How many nodes the first two sides have.
        sides: [usize; 2],
    },
    /// Sides, cascades, flapping, pauses and crashes, drawn by chance, each silent and clean: what all sides admit is looked at.
    Cuts,
    /// From two seconds on, single counts and no other calls, each followed until every node has heard of it.
    News {
        /// Time from one to the next.
        every_ms: u64,
    },
}

/// How many new keys come in a virtual second, where all that matters is their number.
const COLD_KEYS_PER_S: u64 = 50_000;

/// One run.
#[derive(Debug, Clone)]
pub struct Options {
    pub seed: u64,
    pub kind: Kind,
    pub nodes: usize,
    pub faults: Faults,
    pub workload: Workload,
    pub limits: Limits,
    pub scene: Scene,
    /// How long faults are injected and calls made, in virtual milliseconds.
    pub busy_ms: u64,
    /// Calls in a virtual second, all nodes together.
    pub calls_per_s: u64,
    /// The share of calls that go to the first node, beyond its even share.
    pub skew: f64,
    pub sessions: u64,
    /// The share of frames lost, and of frames sent twice.
    pub loss: f64,
    /// The least delay of a link is drawn up to this.
    pub delay_ms_max: u64,
    /// What comes on top of the least delay, on average (exponential).
    pub delay_tail_ms: f64,
    pub gossip_interval_ms: u64,
    pub digest_interval_ms: u64,
    /// Up to how many links each node sends to all others.
    pub direct_up_to: usize,
    pub fanout: usize,
    /// How many others each node is told of, all of them if `None`.
    pub peers_known: Option<usize>,
    pub urgent_fraction: f64,
    /// What the limits do when members are silent, by turns.
    pub when_cut_off: [WhenCutOff; 4],
    /// After what silence a member is presumed dead; `None` for never.
    pub presumed_dead_ms: Option<u64>,
    pub frame_bytes_max: usize,
    /// Time between two checkpoints, at the least.
    pub checkpoint_ms: u64,
    pub counters_max: usize,
    pub checks: Checks,
    /// How often the nodes are looked at as a whole, and so how finely convergence is measured.
    pub look_every_ms: u64,
    /// A deliberate mistake in the production code.
    pub mutant: Option<Mutant>,
}

impl Options {
    /// The run of this seed.
    pub fn of_seed(seed: u64, nodes: Option<usize>, faults: Faults) -> Options {
        let mut random = StdRng::seed_from_u64(seed);
        let drawn = random.random_range(3..=7);
        let loss = if faults.has(Fault::Loss) { random.random_range(0.0..0.2) } else { 0.0 };
        let workload = match random.random_range(0..8_u32) {
            0 => Workload::HotKey,
            1 | 2 => Workload::WindowEdges,
            3 => Workload::ColdKeys,
            _ => Workload::Sessions,
        };
        let kind = if random.random_bool(0.5) { Kind::Safety } else { Kind::Liveness };
        // Nodes without room for all counters need not come to agree.
        let is_small = random.random_bool(0.2) && kind == Kind::Safety;
        let (busy_ms, calls_per_s) =
            (random.random_range(4_000..12_000), random.random_range(20..200));
        // Lives are then forgotten while others go on, for which there must be time.
        let is_brief = faults.has(Fault::Pods) && random.random_bool(0.2);
        let (limits, busy_ms, calls_per_s) = match is_brief {
            true => (Limits::Brief, busy_ms * 3, calls_per_s / 2),
            false => (Limits::Varied, busy_ms, calls_per_s),
        };
        Options {
            seed,
            kind,
            nodes: nodes.unwrap_or(drawn),
            workload,
            limits,
            scene: Scene::None,
            busy_ms,
            calls_per_s,
            skew: random.random_range(0.0..0.5),
            sessions: random.random_range(2..60),
            loss,
            delay_ms_max: random.random_range(1..40),
            delay_tail_ms: random.random_range(0.0..10.0),
            gossip_interval_ms: random.random_range(10..100),
            digest_interval_ms: 500,
            direct_up_to: if random.random_bool(0.3) { 2 } else { 32 },
            fanout: 3,
            peers_known: None,
            urgent_fraction: 0.7,
            when_cut_off: draw_when_cut_off(seed),
            presumed_dead_ms: (!seed.is_multiple_of(3)).then_some(2_000 + seed % 7 * 1_000),
            // Small frames split what is otherwise sent whole.
            frame_bytes_max: match random.random_range(0..10_u32) {
                0..3 => 2_048,
                3..6 => 16_384,
                _ => 65_536,
            },
            checkpoint_ms: 20,
            counters_max: if is_small { 60 } else { 1_000_000 },
            checks: Checks::All,
            look_every_ms: 200,
            mutant: None,
            faults,
        }
    }

    /// The same run, to show this.
    pub fn of_kind(self, kind: Kind) -> Options {
        // Nodes without room for all counters need not come to agree.
        let room = if kind == Kind::Liveness { 1_000_000 } else { 0 };
        Options { kind, counters_max: self.counters_max.max(room), ..self }
    }

    /// A large cluster under steady load, as the speed of the simulator is measured by.
    pub fn steady(seed: u64, nodes: usize, seconds: u64) -> Options {
        Options {
            kind: Kind::Safety,
            workload: Workload::Sessions,
            limits: Limits::PerSession,
            busy_ms: seconds * 1_000,
            calls_per_s: 50,
            skew: 0.0,
            sessions: 200,
            delay_ms_max: 5,
            delay_tail_ms: 1.0,
            gossip_interval_ms: 200,
            digest_interval_ms: 10_000,
            direct_up_to: 0,
            fanout: 2,
            peers_known: Some(8),
            checkpoint_ms: 10_000,
            checks: Checks::Few,
            counters_max: 1_000_000,
            ..Options::of_seed(seed, Some(nodes), Faults::none())
        }
    }

    /// A large cluster that passes news on, in which so many single counts are followed; digests are too rare to help.
    pub fn news(seed: u64, nodes: usize, tries: u64) -> Options {
        const EVERY_MS: u64 = 2_000;
        Options {
            kind: Kind::Safety,
            scene: Scene::News { every_ms: EVERY_MS },
            busy_ms: 2_000 + tries * EVERY_MS + 1,
            delay_ms_max: 1,
            delay_tail_ms: 2.0,
            gossip_interval_ms: 50,
            digest_interval_ms: 3_600_000,
            direct_up_to: 0,
            fanout: 4,
            // All in all, links take the memory: where nodes are very many, each knows only some.
            peers_known: (nodes > 200).then_some(8),
            checkpoint_ms: 3_600_000,
            ..Options::steady(seed, nodes, 0)
        }
    }

    /// A small cluster with one counter whose limit heeds cuts, with silent and clean cuts and nothing else.
    pub fn cuts(seed: u64) -> Options {
        let mut random = StdRng::seed_from_u64(seed ^ 0x0C07);
        let nodes = random.random_range(2..=8);
        let (busy_ms, calls_per_s) =
            (random.random_range(5_000..14_000), random.random_range(100..600));
        let demand = busy_ms * calls_per_s / 1_000;
        let max = match random.random_bool(0.15) {
            true => random.random_range(1..=nodes as u64),
            false => demand * random.random_range(20..70) / 100,
        };
        let deny = random.random_bool(0.3);
        let when = if deny { WhenCutOff::Deny } else { WhenCutOff::Share };
        Options {
            kind: Kind::Safety,
            workload: Workload::HotKey,
            limits: Limits::Single { max },
            scene: Scene::Cuts,
            busy_ms,
            calls_per_s,
            loss: 0.0,
            delay_ms_max: random.random_range(1..20),
            delay_tail_ms: random.random_range(0.0..3.0),
            gossip_interval_ms: random.random_range(10..60),
            direct_up_to: if random.random_bool(0.3) { 2 } else { 32 },
            when_cut_off: [when; 4],
            presumed_dead_ms: None,
            counters_max: 1_000_000,
            look_every_ms: 5,
            ..Options::of_seed(seed, Some(nodes), Faults::none())
        }
    }

    /// Three nodes that count so many keys once each, and come to agree.
    pub fn cold(seed: u64, keys: u64) -> Options {
        Options {
            kind: Kind::Liveness,
            workload: Workload::ColdKeys,
            busy_ms: keys / COLD_KEYS_PER_S * 1_000 + 100,
            calls_per_s: COLD_KEYS_PER_S,
            checkpoint_ms: 1_000,
            ..Options::steady(seed, 3, 0)
        }
    }

    /// Simpler runs that may fail as this one does, the much simpler ones first.
    fn simpler(&self) -> Vec<Options> {
        let fewer_faults = self.faults.each_without_one();
        let mut simpler: Vec<Options> =
            fewer_faults.map(|faults| Options { faults, ..self.clone() }).collect();
        simpler.push(Options { nodes: self.nodes.saturating_sub(1).max(2), ..self.clone() });
        for share in [2, 4] {
            let busy_ms = self.busy_ms - self.busy_ms / share;
            simpler.push(Options { busy_ms, ..self.clone() });
        }
        let calls_per_s = (self.calls_per_s / 2).max(5);
        simpler.push(Options { calls_per_s, ..self.clone() });
        simpler.push(Options { sessions: (self.sessions / 2).max(1), ..self.clone() });
        simpler.retain(|options| options.size() < self.size());
        simpler
    }

    /// What is to become less.
    fn size(&self) -> (usize, usize, u64, u64, u64) {
        (self.faults.len(), self.nodes, self.busy_ms / 100, self.calls_per_s, self.sessions)
    }

    /// The simplest run found that `fails` as this one does: fewer faults and nodes, shorter, calmer.
    pub fn minimise(self, fails: impl Fn(&Options) -> bool) -> Options {
        let mut smallest = self;
        while let Some(simpler) = smallest.simpler().into_iter().find(&fails) {
            smallest = simpler;
        }
        smallest
    }
}

/// Half of the limits allow less when members are silent. Drawn apart from all else, so that what is drawn for a seed stays.
fn draw_when_cut_off(seed: u64) -> [WhenCutOff; 4] {
    let mut random = StdRng::seed_from_u64(seed ^ 0x51DE);
    std::array::from_fn(|_| match random.random_range(0..4_u32) {
        0 => WhenCutOff::Share,
        1 => WhenCutOff::Deny,
        _ => WhenCutOff::Allow,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_run_is_reduced_to_what_makes_it_fail() {
        let needs = |options: &Options| {
            options.faults.has(Fault::Crash) && options.nodes >= 3 && options.busy_ms >= 1_000
        };
        for seed in 0..20 {
            let options = Options::of_seed(seed, None, Faults::all()).minimise(needs);
            assert_eq!(options.faults.to_string(), "crash");
            assert_eq!(options.nodes, 3);
            assert!((1_000..1_400).contains(&options.busy_ms), "{}", options.busy_ms);
        }
    }
}
