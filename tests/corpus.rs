//! The corpora of the targets `frame` and `config` of `fuzz/`, each file by itself, and changed at random: 200 times, or as often as
//! `TALLYMESH_ROUNDS` says. What the other targets run is private to the library, whose own tests replay them.

use tallymesh_test_support::corpus::{TargetCorpus, rounds};
use tallymesh_test_support::fuzz;

/// Reads bytes, and says whether they are right.
type Target = fn(&[u8]) -> bool;

const TARGETS: [(&str, Target); 2] = [("frame", fuzz::frame), ("config", fuzz::config)];

#[test]
fn each_file_is_read_or_refused_as_its_name_says() {
    for (target, run) in TARGETS {
        TargetCorpus::of(target).each_is_read_or_refused_as_its_name_says(run);
    }
}

#[test]
fn changed_at_random_none_panics() {
    for (target, run) in TARGETS {
        TargetCorpus::of(target).change_at_random(rounds(200), run);
    }
}
