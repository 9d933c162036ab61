//! Whole runs: with every fault, twice the same, and the scenes that are about one thing.

use tallymesh_sim::sweep::Sweep;
use tallymesh_sim::{Faults, Kind, Options, Scene, run};

#[test]
fn seeds_of_both_kinds_hold_with_every_fault() {
    let sweep = Sweep { seeds: 0..30, nodes: None, faults: Faults::all(), kind: None, jobs: 2 };
    let swept = sweep.run(|| {});
    assert_eq!(swept.failed, None);
    assert!(swept.safety > 5 && swept.liveness > 5, "{swept:?}");
    assert!(swept.calls > 10_000, "a run in which nothing happens proves nothing: {swept:?}");
}

#[test]
fn a_seed_replays_event_for_event() {
    for seed in [3, 14] {
        let options = Options::of_seed(seed, None, Faults::all());
        let (first, second) = (run(&options, false), run(&options, false));
        assert_eq!(first.trace_hash, second.trace_hash);
        assert_eq!(first.events, second.events);
        let other = run(&Options::of_seed(seed + 1, None, Faults::all()), false);
        assert_ne!(first.trace_hash, other.trace_hash);
    }
}

#[test]
fn both_processes_of_a_copied_disk_are_told() {
    for seed in 0..5 {
        let options = Options {
            kind: Kind::Safety,
            scene: Scene::Clone,
            busy_ms: 5_000,
            ..Options::of_seed(seed, Some(3), Faults::none())
        };
        let outcomes = run(&options, false);
        assert_eq!(outcomes.violation, None, "seed {seed}");
        // The copy is a fourth process, after the three.
        assert!(outcomes.conflicts.contains(&0), "seed {seed}: {:?}", outcomes.conflicts);
        assert!(outcomes.conflicts.contains(&3), "seed {seed}: {:?}", outcomes.conflicts);
    }
}

#[test]
fn without_faults_nothing_is_lost_and_halves_come_to_agree() {
    for seed in 0..5 {
        let options = Options {
            kind: Kind::Liveness,
            scene: Scene::Halves { cut_ms: 3_000 },
            ..Options::of_seed(seed, Some(4), Faults::none())
        };
        let outcomes = run(&options, false);
        assert_eq!(outcomes.violation, None, "seed {seed}");
        assert!(outcomes.measured.converged_after.is_some());
    }
}

#[test]
fn thousands_of_cold_keys_and_many_nodes_are_no_trouble() {
    let outcomes = run(&Options::cold(1, 50_000), false);
    assert!(outcomes.violation.is_none() && outcomes.calls > 40_000, "{outcomes:?}");
    assert!(outcomes.measured.converged_after.is_some());
    let outcomes = run(&Options::steady(1, 60, 4), false);
    assert!(outcomes.violation.is_none() && outcomes.calls > 100, "{outcomes:?}");
}

#[test]
fn every_single_count_reaches_all_of_a_large_cluster_within_eight_rounds_and_no_digest_helps() {
    for seed in 0..5 {
        let outcomes = run(&Options::news(seed, 40, 20), false);
        assert_eq!(outcomes.violation, None, "seed {seed}");
        assert_eq!(outcomes.spreads.len(), 20);
        let mean =
            outcomes.spreads.iter().map(|spread| spread.mean).sum::<std::time::Duration>() / 20;
        assert!(mean.as_millis() < 100, "seed {seed}: {mean:?}");
    }
}

#[test]
fn all_sides_of_a_silent_cut_together_hold_a_limit_that_heeds_it() {
    let mut calls = 0;
    for seed in 0..60 {
        let outcomes = run(&Options::cuts(seed), false);
        assert_eq!(outcomes.violation, None, "seed {seed}");
        calls += outcomes.calls;
    }
    assert!(calls > 50_000, "{calls}");
}
