//! Many seeds, up to the first that fails.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::{Faults, Kind, Options, Outcomes, run};

/// Which seeds to run, and how.
#[derive(Debug, Clone)]
pub struct Sweep {
    /// From the first up to, but not including, the second.
    pub seeds: Range<u64>,
    /// How many nodes; drawn from the seed if `None`.
    pub nodes: Option<usize>,
    pub faults: Faults,
    /// Which kind of runs; drawn from the seed if `None`.
    pub kind: Option<Kind>,
    /// How many run at a time.
    pub jobs: usize,
}

/// How a sweep went.
#[derive(Debug, Clone, Copy, Default)]
pub struct Swept {
    /// The first seed that failed.
    pub failed: Option<u64>,
    /// How many runs were of each kind.
    pub safety: u64,
    /// As `safety`.
    pub liveness: u64,
    /// How many calls were decided.
    pub calls: u64,
    /// How many seeds were run twice, to compare their traces.
    pub replayed: u64,
}

/// Every so many seeds, one is run twice.
const REPLAY_EVERY: u64 = 50;

impl Sweep {
    /// The options of one seed.
    pub fn options(&self, seed: u64) -> Options {
        let options = Options::of_seed(seed, self.nodes, self.faults.clone());
        let kind = self.kind.unwrap_or(options.kind);
        options.of_kind(kind)
    }

    /// Runs the seeds; `done` is called after each.
    pub fn run(&self, done: impl Fn() + Sync) -> Swept {
        let next = AtomicU64::new(self.seeds.start);
        let swept = Mutex::new(Swept::default());
        let lock = || swept.lock().unwrap_or_else(PoisonError::into_inner);
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= self.seeds.end || lock().failed.is_some_and(|first| first < seed)
                        {
                            return;
                        }
                        let options = self.options(seed);
                        let one = run_one(&options, seed.is_multiple_of(REPLAY_EVERY));
                        lock().add(seed, options.kind, one);
                        done();
                    }
                });
            }
        });
        swept.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What tells two runs of one seed apart, if anything does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    pub seed: u64,
    pub hash: u32,
    pub events: u64,
    pub calls: u64,
}

impl Sweep {
    /// The traces of all seeds, by seed: equal before and after a change that is not to change behaviour.
    pub fn traces(&self) -> Vec<Trace> {
        let next = AtomicU64::new(self.seeds.start);
        let traces = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= self.seeds.end {
                            return;
                        }
                        let outcomes = run(&self.options(seed), false);
                        let Outcomes { trace_hash: hash, events, calls, .. } = outcomes;
                        let mut traces = traces.lock().unwrap_or_else(PoisonError::into_inner);
                        traces.push(Trace { seed, hash, events, calls });
                    }
                });
            }
        });
        let mut traces = traces.into_inner().unwrap_or_else(PoisonError::into_inner);
        traces.sort_by_key(|trace| trace.seed);
        traces
    }
}

struct One {
    failed: bool,
    calls: u64,
    replayed: bool,
}

fn run_one(options: &Options, twice: bool) -> One {
    let run_both = || {
        let first = run(options, false);
        let same = !twice || run(options, false).trace_hash == first.trace_hash;
        (first.violation.is_some() || !same, first.calls)
    };
    // A panic of a machine is a finding like any other.
    let (failed, calls) = std::panic::catch_unwind(run_both).unwrap_or((true, 0));
    One { failed, calls, replayed: twice }
}

impl Swept {
    fn add(&mut self, seed: u64, kind: Kind, one: One) {
        match kind {
            Kind::Safety => self.safety += 1,
            Kind::Liveness => self.liveness += 1,
        }
        self.calls += one.calls;
        self.replayed += u64::from(one.replayed);
        if one.failed {
            self.failed = Some(self.failed.map_or(seed, |first| first.min(seed)));
        }
    }
}
