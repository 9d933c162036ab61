//! Everything that a run is made of, derived from its seed.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A kind of fault that a run may inject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Frames are lost, sent twice, delayed and so reordered.
    Loss,
    /// Frames arrive with flipped bits, or cut off.
    Corruption,
    /// Nodes are cut off from each other, in one direction or both.
    Partition,
    /// Processes are killed, lose part of what they had not synced, and start again.
    Crash,
    /// A killed process finds its disk empty.
    Wipe,
    /// Syncs fail.
    DiskError,
    /// Wall clocks are off, and jump.
    Clock,
    /// Processes do nothing for a while.
    Pause,
    /// Counters are reset.
    Reset,
}

impl Fault {
    const ALL: [(Fault, &'static str); 9] = [
        (Fault::Loss, "loss"),
        (Fault::Corruption, "corruption"),
        (Fault::Partition, "partition"),
        (Fault::Crash, "crash"),
        (Fault::Wipe, "wipe"),
        (Fault::DiskError, "disk-error"),
        (Fault::Clock, "clock"),
        (Fault::Pause, "pause"),
        (Fault::Reset, "reset"),
    ];
}

/// Which faults a run may inject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(BTreeSet<Fault>);

impl Faults {
    /// All of them.
    pub fn all() -> Faults {
        Faults(Fault::ALL.iter().map(|(fault, _)| *fault).collect())
    }

    pub fn has(&self, fault: Fault) -> bool {
        self.0.contains(&fault)
    }

    /// These, each time without one of them.
    fn each_without_one(&self) -> impl Iterator<Item = Faults> + '_ {
        self.0
            .iter()
            .map(|gone| Faults(self.0.iter().filter(|fault| *fault != gone).copied().collect()))
    }
}

impl FromStr for Faults {
    type Err = String;

    fn from_str(text: &str) -> Result<Faults, String> {
        match text {
            "all" => return Ok(Faults::all()),
            "none" => return Ok(Faults(BTreeSet::new())),
            _ => {}
        }
        let fault = |name: &str| {
            let known = Fault::ALL.iter().find(|(_, known)| *known == name);
            known.map(|(fault, _)| *fault).ok_or_else(|| {
                let names: Vec<&str> = Fault::ALL.iter().map(|(_, name)| *name).collect();
                format!("{name:?} is no fault; use all, none, or some of {}", names.join(","))
            })
        };
        text.split(',').map(fault).collect::<Result<_, _>>().map(Faults)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = Fault::ALL.iter().filter(|(fault, _)| self.has(*fault));
        let names: Vec<&str> = named.map(|(_, name)| *name).collect();
        f.write_str(if names.is_empty() { "none" } else { "" })?;
        f.write_str(&names.join(","))
    }
}

/// One run.
#[derive(Debug, Clone)]
pub struct Options {
    pub seed: u64,
    pub nodes: usize,
    pub faults: Faults,
    /// How long faults are injected and calls made, in virtual milliseconds.
    pub busy_ms: u64,
    /// Calls in a virtual second, all nodes together.
    pub calls_per_s: u64,
    /// The share of frames lost, and of frames sent twice.
    pub loss: f64,
    pub delay_ms_max: u64,
    pub gossip_interval_ms: u64,
    /// Up to how many nodes everybody tells everybody.
    pub direct_up_to: usize,
    pub sessions: u64,
    pub frame_bytes_max: usize,
}

impl Options {
    /// The run of this seed.
    pub fn of_seed(seed: u64, nodes: Option<usize>, faults: Faults) -> Options {
        let mut random = StdRng::seed_from_u64(seed);
        let drawn = random.random_range(3..=7);
        let loss = if faults.has(Fault::Loss) { random.random_range(0.0..0.2) } else { 0.0 };
        let delay_ms_max = random.random_range(1..40);
        Options {
            seed,
            nodes: nodes.unwrap_or(drawn),
            busy_ms: random.random_range(4_000..12_000),
            calls_per_s: random.random_range(20..200),
            loss,
            delay_ms_max,
            gossip_interval_ms: random.random_range(10..100),
            direct_up_to: if random.random_bool(0.3) { 2 } else { 32 },
            sessions: random.random_range(2..60),
            frame_bytes_max: if random.random_bool(0.3) { 16_384 } else { 65_536 },
            faults,
        }
    }
}

impl Options {
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
        (self.faults.0.len(), self.nodes, self.busy_ms / 100, self.calls_per_s, self.sessions)
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
