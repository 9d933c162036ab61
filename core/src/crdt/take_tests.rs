//! What is taken from a counter, and what is left: never less than nothing, by one replica alone.

use proptest::prelude::*;

use super::{COUNT_MAX, Cell, Marks, PnCounter, ReplicaIndex};
use crate::id::Version;

/// A cell of another replica: within a generation, `p` and `n` grow with the version.
fn heard() -> impl Strategy<Value = (ReplicaIndex, Cell)> {
    (1_u32..5, 1_u64..50).prop_map(|(replica, step)| {
        (ReplicaIndex(replica), Cell { version: Version(step), p: step * 3, n: step / 2 })
    })
}

fn own_cell(counter: &PnCounter) -> Cell {
    counter.cell(ReplicaIndex::OWN).unwrap_or_default()
}

#[derive(Debug, Clone)]
enum Step {
    Add(u64),
    Take(u64),
    TakeBack(u64),
    Hear((ReplicaIndex, Cell)),
}

fn step() -> impl Strategy<Value = Step> {
    let amount = || prop_oneof![4 => 0_u64..20, 1 => Just(COUNT_MAX - 5), 1 => any::<u64>()];
    prop_oneof![
        amount().prop_map(Step::Add),
        amount().prop_map(Step::Take),
        amount().prop_map(Step::TakeBack),
        heard().prop_map(Step::Hear),
    ]
}

proptest! {
    #[test]
    fn one_replica_alone_never_takes_below_zero(steps in prop::collection::vec(step(), 0..60)) {
        let mut counter = PnCounter::default();
        for step in steps {
            let (before, own) = (counter.value(), own_cell(&counter));
            match step {
                Step::Add(amount) => {
                    let added = amount.min(counter.room());
                    counter.add(amount);
                    prop_assert_eq!(own_cell(&counter).p, own.p + added);
                }
                Step::Take(amount) => {
                    let taken = counter.take(amount);
                    prop_assert!(taken <= amount && taken <= before);
                    prop_assert_eq!(counter.value(), before - taken);
                }
                Step::TakeBack(amount) => {
                    let taken = counter.take_back(amount);
                    prop_assert!(taken <= amount && own.n + taken <= own.p.max(own.n));
                }
                Step::Hear((replica, cell)) => {
                    counter.merge(replica, 0, cell, Marks::default());
                }
            }
            let own = own_cell(&counter);
            prop_assert!(own.p <= COUNT_MAX && own.n <= COUNT_MAX);
        }
    }
}

#[test]
fn what_is_taken_is_at_most_what_is_there() {
    let mut counter = PnCounter::default();
    counter.add(5);
    assert_eq!((counter.take(10), counter.value()), (5, 0));
    counter.add(3);
    assert_eq!(counter.value(), 3);
    // What another replica added can be taken, and not taken back.
    counter.merge(ReplicaIndex(1), 0, Cell { version: Version(1), p: 4, n: 0 }, Marks::default());
    assert_eq!((counter.take_back(9), counter.value()), (3, 4));
    assert_eq!((counter.take_back(1), counter.take(9), counter.value()), (0, 4, 0));
}

#[test]
fn what_two_replicas_take_at_once_is_owed_and_no_more() {
    let added = Cell { version: Version(1), p: 5, n: 0 };
    let (mut one, mut other) = (PnCounter::default(), PnCounter::default());
    for counter in [&mut one, &mut other] {
        counter.merge(ReplicaIndex(1), 0, added, Marks::default());
        assert_eq!(counter.take(7), 5);
        counter.stamp_own(Version(2));
    }
    let taken = other.cell(ReplicaIndex::OWN).unwrap();
    one.merge(ReplicaIndex(2), 0, taken, Marks::default());
    assert_eq!(one.value(), 0);
    one.add(7);
    assert_eq!((one.value(), one.take(9)), (2, 2));
}

#[test]
fn a_full_cell_counts_nothing_more() {
    let mut counter = PnCounter::default();
    counter.add(COUNT_MAX - 2);
    assert_eq!((counter.take_back(COUNT_MAX), counter.room()), (COUNT_MAX - 2, 2));
    counter.add(2);
    assert_eq!((counter.value(), counter.room()), (2, 0));
    counter.add(1);
    assert_eq!(counter.take(COUNT_MAX), 2, "never below zero, however full");
}
