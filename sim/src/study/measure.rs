//! Runs of the simulator, and what they come to on average.

use std::io;
use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tallymesh_core::limit::WhenCutOff;

use crate::faults::Faults;
use crate::options::{Checks, Kind, Limits, Options, Scene, Workload};
use crate::world::{Measured, Outcomes, Spread, run};

/// The least delay of a link is drawn up to this, in milliseconds.
const DELAY_MS_MAX: u64 = 1;
/// What comes on top of it, on average, in milliseconds.
const DELAY_TAIL_MS: f64 = 2.0;
/// How long a frame takes on average, in milliseconds.
pub const DELAY_MS: f64 = DELAY_MS_MAX as f64 / 2.0 + DELAY_TAIL_MS;
/// Calls a second, all nodes together: many in each round of each node, so that the mean means something.
pub const CALLS_PER_S: u64 = 5_000;
/// The length of the window in which a cluster is cut, and when all nodes have met.
const WINDOW_MS: u64 = 60_000;
const SETTLED_MS: u64 = 1_000;
/// Never urgent, however near the limit.
pub const NEVER: f64 = f64::INFINITY;

/// One figure over many runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    pub mean: f64,
    /// Twice the standard error: the true mean is within so much of `mean`, 19 times out of 20.
    pub uncertainty: f64,
    /// A tenth of the runs were below.
    pub low: f64,
    /// A tenth of the runs were above.
    pub high: f64,
    /// One run in a hundred was above.
    pub p99: f64,
}

/// A cluster without faults and without digests, at a steady load.
pub fn cluster(nodes: usize) -> Options {
    Options {
        kind: Kind::Safety,
        workload: Workload::HotKey,
        limits: Limits::Single { max: 1 << 40 },
        scene: Scene::None,
        calls_per_s: CALLS_PER_S,
        skew: 0.0,
        sessions: 1,
        loss: 0.0,
        delay_ms_max: DELAY_MS_MAX,
        delay_tail_ms: DELAY_TAIL_MS,
        gossip_interval_ms: 50,
        // Beyond the end of the runs: what the rounds do is to be seen.
        digest_interval_ms: 60_000,
        direct_up_to: usize::MAX,
        fanout: 4,
        peers_known: None,
        urgent_fraction: NEVER,
        when_cut_off: [WhenCutOff::Allow; 4],
        presumed_dead_ms: None,
        frame_bytes_max: 65_536,
        checkpoint_ms: 3_600_000,
        counters_max: 1_000_000,
        checks: Checks::Few,
        mutant: None,
        ..Options::of_seed(0, Some(nodes), Faults::none())
    }
}

/// What is admitted beyond the limit, in calls.
pub fn overshoot(options: &Options, runs: u64) -> io::Result<Sample> {
    // All links stand by then, and the rounds have left the beat that they began with.
    let before_ms = 500 + 5 * options.gossip_interval_ms;
    let after_ms = 400 + 5 * options.gossip_interval_ms;
    let max = options.calls_per_s * before_ms / 1_000;
    let options = Options {
        limits: Limits::Single { max },
        busy_ms: before_ms + after_ms,
        ..options.clone()
    };
    sample(runs, |seed| {
        let measured = measure(&Options { seed, ..options.clone() })?;
        Ok(measured.admitted as f64 - max as f64)
    })
}

/// What is admitted beyond a limit in a window of 60 s, as a percentage of it, where sides of these sizes, and the rest, are cut off from
/// each other from a random moment to the end of the window.
pub fn over_when_cut(options: &Options, sides: [usize; 2], runs: u64) -> io::Result<Sample> {
    let Limits::Single { max } = options.limits else {
        return Err(io::Error::other("one limit is meant"));
    };
    let used_up_ms = max * 1_000 / options.calls_per_s * 13 / 10 + 1_000;
    sample(runs, |seed| {
        let at_ms = StdRng::seed_from_u64(seed).random_range(SETTLED_MS..WINDOW_MS);
        // Where nothing was left at the cut, nothing comes of it.
        let busy_ms = if at_ms > used_up_ms { used_up_ms } else { WINDOW_MS };
        let scene = Scene::Sides { at_ms, sides };
        let measured = measure(&Options { seed, scene, busy_ms, ..options.clone() })?;
        Ok(measured.admitted.saturating_sub(max) as f64 / max as f64 * 100.0)
    })
}

/// From the end of a partition into halves until all nodes hold the same and know it, in milliseconds.
pub fn convergence_ms(options: &Options, cut_ms: u64, runs: u64) -> io::Result<Sample> {
    let options = Options {
        kind: Kind::Liveness,
        scene: Scene::Halves { cut_ms },
        // The halves are cut off at one second; calls end as soon as they are not.
        busy_ms: 1_000 + cut_ms + 1,
        look_every_ms: 5,
        ..options.clone()
    };
    sample(runs, |seed| {
        let measured = measure(&Options { seed, ..options.clone() })?;
        let after = measured.converged_after.ok_or_else(|| io::Error::other("no agreement"))?;
        Ok(after.as_secs_f64() * 1e3)
    })
}

/// How long single counts take to become known, in milliseconds: on average over the nodes, and to the last of them.
pub fn news_ms(options: &Options, runs: u64) -> io::Result<(Sample, Sample)> {
    const TRIES: u64 = 10;
    // Time for each to reach the last node, and too little to rest: who is about to rest tells sooner.
    let (every_ms, began_ms) = (10 * options.gossip_interval_ms, 2_000);
    let options = Options {
        scene: Scene::News { every_ms },
        busy_ms: began_ms + TRIES * every_ms + 1,
        ..options.clone()
    };
    let average = |figure: fn(&Spread) -> Duration| {
        sample(runs, |seed| {
            let outcomes = lived(&Options { seed, ..options.clone() })?;
            let took = outcomes.spreads.iter().map(figure).sum::<Duration>();
            Ok(took.as_secs_f64() * 1e3 / outcomes.spreads.len().max(1) as f64)
        })
    };
    // Each one has reached the last node, or the run would have broken an invariant.
    Ok((average(|spread| spread.mean)?, average(|spread| spread.last.unwrap_or_default())?))
}

/// Bytes on the network for each update and each node that is to receive it, all frames counted.
pub fn bytes_per_update(options: &Options, runs: u64) -> io::Result<Sample> {
    // Two runs that are the same at first: their difference is without the connecting.
    let shorter = Options { busy_ms: 1_500, ..options.clone() };
    let longer = Options { busy_ms: 3_500, ..options.clone() };
    sample(runs, |seed| {
        let shorter = measure(&Options { seed, ..shorter.clone() })?;
        let longer = measure(&Options { seed, ..longer.clone() })?;
        let bytes = longer.bytes_sent - shorter.bytes_sent;
        let received = (longer.updates - shorter.updates) * (options.nodes as u64 - 1);
        Ok(bytes as f64 / received as f64)
    })
}

fn measure(options: &Options) -> io::Result<Measured> {
    Ok(lived(options)?.measured)
}

fn lived(options: &Options) -> io::Result<Outcomes> {
    let outcomes = run(options, false);
    match outcomes.violation {
        None => Ok(outcomes),
        Some(violation) => {
            let (seed, what) = (options.seed, violation.what);
            Err(io::Error::other(format!("seed {seed} breaks {}: {what}", violation.invariant)))
        }
    }
}

/// Measures that many seeds, on all processors.
fn sample(runs: u64, measured: impl Fn(u64) -> io::Result<f64> + Sync) -> io::Result<Sample> {
    let next = AtomicU64::new(0);
    let figures = Mutex::new(Vec::new());
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= runs {
                        return;
                    }
                    let figure = measured(seed);
                    figures.lock().unwrap_or_else(PoisonError::into_inner).push((seed, figure));
                }
            });
        }
    });
    let mut figures = figures.into_inner().unwrap_or_else(PoisonError::into_inner);
    // Sums of fractions depend on the order, and equal studies are to give equal pages.
    figures.sort_by_key(|(seed, _)| *seed);
    let figures: Vec<f64> =
        figures.into_iter().map(|(_, figure)| figure).collect::<io::Result<_>>()?;
    Ok(Sample::of(figures))
}

impl Sample {
    fn of(mut figures: Vec<f64>) -> Sample {
        let count = figures.len() as f64;
        let mean = figures.iter().sum::<f64>() / count;
        let squares: f64 = figures.iter().map(|figure| (figure - mean).powi(2)).sum();
        let variance = squares / (count - 1.0).max(1.0);
        figures.sort_by(f64::total_cmp);
        let at = |share: f64| figures[((count - 1.0) * share).round() as usize];
        let uncertainty = 2.0 * (variance / count).sqrt();
        Sample { mean, uncertainty, low: at(0.1), high: at(0.9), p99: at(0.99) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_tells_middle_and_spread() {
        let sample = Sample::of((0..=10).rev().map(f64::from).collect());
        assert_eq!((sample.low, sample.mean, sample.high), (1.0, 5.0, 9.0));
        assert!((sample.uncertainty - 2.0).abs() < 1e-9, "{}", sample.uncertainty);
    }
}
