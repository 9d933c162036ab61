//! The checker is itself checked: each classic mistake of replicated counters, made on purpose, must be caught.

use tallymesh_core::mutant::Mutant;
use tallymesh_sim::{Kind, Options, run};

/// Within how many seeds each mistake must be caught. Most take a handful; these are bounds, not averages. Some are made where
/// only these faults happen, and progress is required: among all others their harm is rarely left to be seen. With `rounds`, each
/// node hears of most others through third ones. `news` is a large cluster without faults, in which single counts are
/// followed; `cuts` a small one with nothing but silent, clean cuts.
const CAUGHT_WITHIN: [(Mutant, u64, &str); 27] = [
    (Mutant::ReplicaIdReused, 10, "all"),
    (Mutant::WatermarkMovedByPush, 20, "all"),
    (Mutant::WatermarkMovedByPart, 60, "all"),
    (Mutant::DirtyClearedAtSend, 20, "all"),
    (Mutant::OwnCellZeroed, 10, "all"),
    (Mutant::ExpiredRecreated, 20, "all"),
    (Mutant::ForgedCellMerged, 10, "all"),
    (Mutant::ClockStepsBack, 10, "all"),
    (Mutant::CoarseTakenForExact, 5, "all"),
    (Mutant::TakenBelowZero, 10, "all"),
    (Mutant::CellBelowZeroMerged, 10, "all"),
    (Mutant::MarksMergedAsOne, 20, "all"),
    (Mutant::SessionCutAtMerge, 10, "all"),
    (Mutant::WatermarkBeforeCells, 60, "all"),
    (Mutant::WatermarkOfFutureBelieved, 60, "rounds clock,crash,wipe"),
    (Mutant::LoweredNodeVouches, 60, "all"),
    (Mutant::ReplicaNeverForgotten, 10, "late,crash"),
    (Mutant::CountsWhenClosed, 20, "all"),
    (Mutant::GoodbyeFirst, 60, "close"),
    (Mutant::NewsLeftToChance, 3, "news"),
    (Mutant::CutOffUnnamed, 10, "cuts"),
    (Mutant::SideTakesAll, 60, "cuts"),
    (Mutant::CutNeverNoticed, 10, "cuts"),
    (Mutant::VersionUnbounded, 60, "lie"),
    (Mutant::GenerationUnbounded, 10, "lie"),
    (Mutant::OwnWordWithheld, 60, "lie"),
    (Mutant::HearsayBelieved, 20, "lie"),
];

/// The first seed that catches a mistake, and by which invariant.
fn caught_by(mutant: Mutant, seeds: u64, faults: &str) -> Option<(u64, &'static str)> {
    (0..seeds).find_map(|seed| {
        let of_seed = |faults: &str| Options::of_seed(seed, None, faults.parse().unwrap());
        let options = match faults {
            "news" => Options::news(seed, 40, 10),
            "cuts" => Options::cuts(seed),
            "all" => of_seed("all"),
            some => match some.strip_prefix("rounds ") {
                Some(some) => {
                    let options = of_seed(some).of_kind(Kind::Liveness);
                    Options { direct_up_to: 2, ..options }
                }
                None => of_seed(some).of_kind(Kind::Liveness),
            },
        };
        let options = Options { mutant: Some(mutant), ..options };
        let found = run(&options, false).violation?;
        Some((seed, found.invariant))
    })
}

#[test]
fn every_deliberate_mistake_is_caught() {
    assert_eq!(CAUGHT_WITHIN.map(|(mutant, ..)| mutant), Mutant::ALL);
    let hunts: Vec<_> = CAUGHT_WITHIN
        .into_iter()
        .map(|(mutant, seeds, faults)| {
            (mutant, seeds, std::thread::spawn(move || caught_by(mutant, seeds, faults)))
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
