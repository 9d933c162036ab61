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
