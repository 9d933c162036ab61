//! What is expected of a cluster without faults. Times are in milliseconds, rates in calls a second.

/// How old, on average, what a node knows of another is, where each node sends to all others each round.
///
/// An update waits for half a round and is then under way. Rounds are drawn from 0.75 to 1.25 of the interval, so that a moment
/// falls more often into a long one and the exact wait is `E[T^2] / (2 E[T])`, a forty-eighth more; docs/replication.md leaves that
/// out, and so does this.
pub fn direct_age_ms(interval_ms: f64, delay_ms: f64) -> f64 {
    interval_ms / 2.0 + delay_ms
}

/// The same where news travels by rounds to `fanout` peers.
///
/// The number of those who know grows with the rate of [`growth_per_ms`] until about all do; as in Demers et al.,
/// "Epidemic algorithms for replicated database maintenance", PODC 1987. The eighth of a round is what was found by
/// simulation to remain.
pub fn epidemic_age_ms(nodes: usize, fanout: usize, interval_ms: f64, delay_ms: f64) -> f64 {
    (nodes as f64).ln() / growth_per_ms(fanout, interval_ms, delay_ms) + interval_ms / 8.0
}

/// How long a single count takes to the last node, where each node sends to all others: half a round, and the longest of as many
/// delays as there are nodes.
pub fn direct_last_ms(nodes: usize, interval_ms: f64, delay_ms: f64) -> f64 {
    interval_ms / 2.0 + delay_ms * (nodes as f64).ln()
}

/// The same where news travels by rounds to `fanout` peers. Both numbers were found by simulation.
pub fn epidemic_last_ms(nodes: usize, fanout: usize, interval_ms: f64, delay_ms: f64) -> f64 {
    1.4 * (nodes as f64).ln() / growth_per_ms(fanout, interval_ms, delay_ms) + interval_ms / 3.0
}

/// What is admitted beyond a limit, in calls.
///
/// A node with a share `s` of the calls misses, of the last `age_ms`, the calls of the others: `1 - s` of them. It takes
/// part in admitting too much by its share; hence `1 - sum of s^2`, which is `1 - 1/N` for equal shares.
pub fn overshoot(calls_per_s: f64, shares: &[f64], age_ms: f64) -> f64 {
    let unseen = 1.0 - shares.iter().map(|share| share * share).sum::<f64>();
    calls_per_s / 1e3 * unseen * age_ms
}

/// The nodes' shares of the calls, if `skew` of them go to the first node and the rest to any.
pub fn shares(nodes: usize, skew: f64) -> Vec<f64> {
    let even = (1.0 - skew) / nodes as f64;
    (0..nodes).map(|place| if place == 0 { skew + even } else { even }).collect()
}

/// The `r` of `r * T = f * exp(-r * d)`: each who knows tells `f` others a round, `d` late.
fn growth_per_ms(fanout: usize, interval_ms: f64, delay_ms: f64) -> f64 {
    let fanout = fanout as f64;
    let (mut low, mut high) = (0.0, fanout / interval_ms);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        let grows = middle * interval_ms < fanout * (-middle * delay_ms).exp();
        if grows { low = middle } else { high = middle }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(one: f64, other: f64) {
        assert!((one - other).abs() < 1e-6, "{one} is not {other}");
    }

    #[test]
    fn equal_shares_leave_one_in_n_seen() {
        close(overshoot(1_000.0, &shares(4, 0.0), 100.0), 75.0);
        close(overshoot(1_000.0, &shares(4, 1.0), 100.0), 0.0);
        close(shares(5, 0.3).iter().sum(), 1.0);
    }

    #[test]
    fn news_spreads_as_fast_as_the_delay_allows() {
        close(growth_per_ms(4, 50.0, 0.0), 0.08);
        let growth = growth_per_ms(4, 50.0, 10.0);
        close(growth * 50.0, 4.0 * (-growth * 10.0).exp());
        // e-fold every 12.5 ms.
        close(epidemic_age_ms(100, 4, 50.0, 0.0), 100.0_f64.ln() * 12.5 + 6.25);
        close(direct_age_ms(50.0, 2.5), 27.5);
    }
}
