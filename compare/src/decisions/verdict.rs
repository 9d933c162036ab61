//! Ratios of the decisions, beside what they are to be.

use super::contenders::{
    GOVERNOR, HANDLES, HANDLES_IN_MEMORY, LIMITADOR, REDIS, SHARDED_MAP, TALLYMESH,
    TALLYMESH_IN_MEMORY,
};
use super::rounds::{Scenario, thousands};
use crate::keys::Order;
use crate::size::Size;
use crate::table::Table;
use crate::target::{self, Target};

/// All targets, for tallymesh as it is used and in memory. Keys come up uniformly, which is the hardest on everybody.
pub fn table(scenarios: &[Scenario], hot: &[(&'static str, f64)], size: &Size) -> Table {
    let mut targets = Vec::new();
    let uniform = |keys: usize, callers: usize| {
        scenarios.iter().filter(move |scenario| {
            (scenario.keys, scenario.callers) == (keys, callers) && scenario.order == Order::Uniform
        })
    };
    let (fewest, most) = (size.keys[0], size.keys[size.keys.len() - 1]);
    for ours in [TALLYMESH, TALLYMESH_IN_MEMORY] {
        for (keys, bound) in [(fewest, 0.8), (most, 0.7)] {
            for scenario in uniform(keys, 1) {
                let what = described(ours, "of governor's time", scenario);
                ratio(scenario, ours, GOVERNOR)
                    .map(|ratio| targets.push(Target::at_most(what, bound, "x", ratio)));
            }
        }
        for scenario in uniform(most, 1) {
            let what = described(ours, "of the sharded map's time", scenario);
            ratio(scenario, ours, SHARDED_MAP)
                .map(|ratio| targets.push(Target::at_most(what, 1.3, "x", ratio)));
        }
        for (one, two) in uniform(most, 1).zip(uniform(most, 2)) {
            let what = described(ours, "one thread's throughput by two", one);
            let times = one.of(ours).zip(two.of(ours)).map(|(one, two)| one / two);
            times.map(|times| targets.push(Target::at_least(what, 1.7, "x", times)));
        }
        for (peer, bound) in [(REDIS, 1_000.0), (LIMITADOR, 20.0)] {
            for scenario in uniform(fewest, 1) {
                let what = described(ours, &format!("{peer}'s throughput"), scenario);
                ratio(scenario, peer, ours)
                    .map(|ratio| targets.push(Target::at_least(what, bound, "x", ratio)));
            }
        }
    }
    for (handle, nanoseconds) in
        hot.iter().filter(|(name, _)| [HANDLES, HANDLES_IN_MEMORY].contains(name))
    {
        targets.push(Target::at_most(
            format!("{handle}, one hot key, p50"),
            20.0,
            " ns",
            *nanoseconds,
        ));
    }
    target::table(&targets)
}

fn ratio(scenario: &Scenario, numerator: &str, denominator: &str) -> Option<f64> {
    Some(scenario.of(numerator)? / scenario.of(denominator)?)
}

fn described(ours: &str, what: &str, scenario: &Scenario) -> String {
    format!("{ours}, {} keys, {}: {what}", thousands(scenario.keys), scenario.answer.name())
}
