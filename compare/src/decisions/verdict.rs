//! Ratios of the decisions, beside what they are to be.

use super::contenders::{
    GOVERNOR, GOVERNOR_KEY_MADE, HANDLES, HANDLES_IN_MEMORY, LIMITADOR, REDIS, SHARDED_MAP,
    TALLYMESH, TALLYMESH_IN_MEMORY,
};
use super::rounds::{Scenario, thousands};
use crate::keys::Order;
use crate::size::Size;
use crate::table::Table;
use crate::target::{self, Target};

/// All targets, for tallymesh as it is used and in memory. Keys come up uniformly, which is the hardest on all of them.
pub fn table(scenarios: &[Scenario], hot: &[(&'static str, f64)], size: &Size) -> Table {
    let (fewest, most) = (size.keys[0], size.keys[size.keys.len() - 1]);
    let mut targets = Vec::new();
    for ours in [HANDLES, TALLYMESH, HANDLES_IN_MEMORY, TALLYMESH_IN_MEMORY] {
        let beside = [
            (fewest, GOVERNOR_KEY_MADE, 0.8),
            (fewest, GOVERNOR, 0.8),
            (most, GOVERNOR_KEY_MADE, 0.7),
            (most, GOVERNOR, 0.7),
            (most, SHARDED_MAP, 1.3),
        ];
        for (keys, peer, bound) in beside {
            for scenario in uniform(scenarios, keys, 1) {
                let what = described(ours, &format!("times {peer}'s time"), scenario);
                let measured = ratio(scenario, ours, peer);
                targets.extend(measured.map(|ratio| Target::at_most(what, bound, "x", ratio)));
            }
        }
        for (peer, bound) in [(REDIS, 1_000.0), (LIMITADOR, 20.0)] {
            for scenario in uniform(scenarios, fewest, 1) {
                let what = described(ours, &format!("times {peer}'s decisions"), scenario);
                let measured = ratio(scenario, peer, ours);
                targets.extend(measured.map(|ratio| Target::at_least(what, bound, "x", ratio)));
            }
        }
        for (one, two) in uniform(scenarios, most, 1).zip(uniform(scenarios, most, 2)) {
            let times = |name| Some(one.of(name)? / two.of(name)?);
            // What the machine had left for a second thread.
            let map = times(SHARDED_MAP).map_or(String::new(), |map| format!("{map:.2}x"));
            let what = format!("two threads beside one ({SHARDED_MAP}: {map})");
            let what = described(ours, &what, one);
            targets.extend(times(ours).map(|times| Target::at_least(what, 1.7, "x", times)));
        }
    }
    let handles = [HANDLES, HANDLES_IN_MEMORY];
    for (name, nanoseconds) in hot.iter().filter(|(name, _)| handles.contains(name)) {
        targets.push(Target::at_most(
            format!("{name}, one hot key, p50"),
            20.0,
            " ns",
            *nanoseconds,
        ));
    }
    target::table(&targets)
}

fn uniform(scenarios: &[Scenario], keys: usize, callers: usize) -> impl Iterator<Item = &Scenario> {
    scenarios.iter().filter(move |scenario| {
        (scenario.keys, scenario.callers, scenario.order) == (keys, callers, Order::Uniform)
    })
}

fn ratio(scenario: &Scenario, numerator: &str, denominator: &str) -> Option<f64> {
    Some(scenario.of(numerator)? / scenario.of(denominator)?)
}

fn described(ours: &str, what: &str, scenario: &Scenario) -> String {
    format!("{ours}, {} keys, {}: {what}", thousands(scenario.keys), scenario.answer.name())
}
