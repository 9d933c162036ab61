//! The checker is itself checked: each classic mistake of replicated counters, made on purpose, must be caught.

use tallymesh_core::mutant::Mutant;
use tallymesh_sim::{Faults, Options, run};

/// Within how many seeds each mistake must be caught. Most take a handful; these are bounds, not averages.
const CAUGHT_WITHIN: [(Mutant, u64); 15] = [
    (Mutant::ReplicaIdReused, 10),
    (Mutant::WatermarkMovedByPush, 20),
    (Mutant::WatermarkMovedByPart, 60),
    (Mutant::DirtyClearedAtSend, 20),
    (Mutant::OwnCellZeroed, 10),
    (Mutant::ExpiredRecreated, 20),
    (Mutant::ForgedCellMerged, 10),
    (Mutant::ClockStepsBack, 10),
    (Mutant::CoarseTakenForExact, 5),
    (Mutant::TakenBelowZero, 10),
    (Mutant::CellBelowZeroMerged, 10),
    (Mutant::MarksMergedAsOne, 20),
    (Mutant::SessionCutAtMerge, 60),
    (Mutant::WatermarkBeforeCells, 60),
    (Mutant::CountsWhenClosed, 20),
];

/// The first seed that catches a mistake, and by which invariant.
fn caught_by(mutant: Mutant, seeds: u64) -> Option<(u64, &'static str)> {
    (0..seeds).find_map(|seed| {
        let options = Options::of_seed(seed, None, Faults::all());
        let options = Options { mutant: Some(mutant), ..options };
        let found = run(&options, false).violation?;
        Some((seed, found.invariant))
    })
}

#[test]
fn every_deliberate_mistake_is_caught() {
    assert_eq!(CAUGHT_WITHIN.map(|(mutant, _)| mutant), Mutant::ALL);
    let hunts: Vec<_> = CAUGHT_WITHIN
        .into_iter()
        .map(|(mutant, seeds)| {
            (mutant, seeds, std::thread::spawn(move || caught_by(mutant, seeds)))
        })
        .collect();
    let mut missed = Vec::new();
    for (mutant, seeds, hunt) in hunts {
        match hunt.join().unwrap() {
            Some((seed, invariant)) => println!("{mutant:?}: {invariant} is broken at seed {seed}"),
            None => missed.push((mutant, seeds)),
        }
    }
    assert!(missed.is_empty(), "not caught within so many seeds: {missed:?}");
}
