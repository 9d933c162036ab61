//! Which studies there are.

use std::io;

use tallymesh_core::limit::WhenCutOff;

use super::formula::{direct_age_ms, direct_last_ms, epidemic_age_ms, epidemic_last_ms, shares};
use super::measure::{self, CALLS_PER_S, DELAY_MS, cluster};
use super::{Axis, Point, Series, Study, formula};
use crate::options::{Limits, Options};

/// How much to run.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// For each point of a small cluster; fewer for a large one.
    pub runs: u64,
    /// The largest cluster.
    pub nodes_max: usize,
}

impl Effort {
    pub const QUICK: Effort = Effort { runs: 20, nodes_max: 32 };
    pub const THOROUGH: Effort = Effort { runs: 200, nodes_max: 100 };

    fn runs(self, nodes: usize) -> u64 {
        (self.runs * 10 / (nodes as u64).max(10)).max(2)
    }

    fn sizes(self, all: &[usize]) -> impl Iterator<Item = usize> {
        all.iter().copied().filter(move |nodes| *nodes <= self.nodes_max)
    }
}

/// What answers a question.
type Answer = fn(Effort) -> io::Result<Study>;

pub const ALL: [(&str, Answer); 9] = [
    ("interval", by_interval),
    ("size", by_size),
    ("skew", by_skew),
    ("urgent", with_urgent_pushes),
    ("news", news),
    ("partition", after_partition),
    ("traffic", traffic),
    ("cut-off", when_cut_off),
    ("cut-off-limit", cut_off_by_limit),
];

const INTERVALS_MS: [u64; 5] = [10, 20, 50, 100, 200];
const NODES: usize = 5;
const FANOUT: usize = 4;

fn by_interval(effort: Effort) -> io::Result<Study> {
    Ok(Study {
        name: "interval",
        title: "Overshoot and the gossip interval",
        setting: format!("{NODES} nodes, direct, {}", load()),
        formula: Some("E[O] = L * (1 - 1/N) * (T/2 + d)"),
        finding: "Overshoot grows with the interval, in a straight line. Rounds are drawn between 0.75 and 1.25 of T, \
                  which adds 2% to T/2 and is left out of the formula.",
        x: Axis { label: "gossip interval T (ms)", is_logarithmic: false },
        y: OVERSHOOT,
        series: vec![unpushed_by_interval("direct", effort)?],
    })
}

fn by_size(effort: Effort) -> io::Result<Study> {
    let direct = effort.sizes(&[2, 3, 5, 8, 16, 32]).map(|nodes| overshoot_of_size(nodes, effort));
    let epidemic = effort.sizes(&[10, 32, 100]).map(|nodes| {
        let options = epidemic(nodes);
        let age_ms = epidemic_age_ms(nodes, FANOUT, 50.0, DELAY_MS);
        overshoot(nodes as f64, &options, age_ms, effort)
    });
    Ok(Study {
        name: "size",
        title: "Overshoot and the size of the cluster",
        setting: format!("T = 50 ms; epidemic: {FANOUT} peers a round; {}", load()),
        formula: Some(
            "direct: E[O] = L * (1 - 1/N) * (T/2 + d); \
             epidemic: E[O] = L * (1 - 1/N) * (ln N / r + T/8), r*T = f * exp(-r*d)",
        ),
        finding: "Where each node sends to all others, size hardly matters. By rounds, overshoot grows with its logarithm. \
                  The formula for rounds is for very many nodes, as it lets a node draw itself, and for a delay that is \
                  always the same. So it says somewhat too much, most of all of a small cluster.",
        x: Axis { label: "nodes N", is_logarithmic: true },
        y: OVERSHOOT,
        series: vec![
            Series { label: "direct", points: direct.collect::<io::Result<_>>()? },
            Series { label: "epidemic", points: epidemic.collect::<io::Result<_>>()? },
        ],
    })
}

fn overshoot_of_size(nodes: usize, effort: Effort) -> io::Result<Point> {
    overshoot(nodes as f64, &cluster(nodes), direct_age_ms(50.0, DELAY_MS), effort)
}

fn by_skew(effort: Effort) -> io::Result<Study> {
    let point = |skew| {
        let options = Options { skew, ..cluster(NODES) };
        overshoot(skew, &options, direct_age_ms(50.0, DELAY_MS), effort)
    };
    let points = [0.0, 0.2, 0.4, 0.6, 0.8, 0.9].map(point);
    Ok(Study {
        name: "skew",
        title: "Overshoot and uneven load",
        setting: format!(
            "{NODES} nodes, direct, T = 50 ms; a share of the calls goes to the first node, the rest to all alike; {}",
            load()
        ),
        formula: Some("E[O] = L * (1 - sum of s^2) * (T/2 + d), s: each node's share of the calls"),
        finding: "A node sees its own calls at once: the more of them it has, the less is overshot.",
        x: Axis { label: "share of calls sent to the first node", is_logarithmic: false },
        y: OVERSHOOT,
        series: vec![Series {
            label: "direct",
            points: points.into_iter().collect::<io::Result<_>>()?,
        }],
    })
}

fn with_urgent_pushes(effort: Effort) -> io::Result<Study> {
    let pushed = INTERVALS_MS.into_iter().map(|interval_ms| {
        let options =
            Options { gossip_interval_ms: interval_ms, urgent_fraction: 0.7, ..cluster(NODES) };
        let measured = measure::overshoot(&options, effort.runs(NODES))?;
        Ok(Point { x: interval_ms as f64, measured, expected: None })
    });
    Ok(Study {
        name: "urgent",
        title: "Overshoot with and without urgent pushes",
        setting: format!("{NODES} nodes, direct; urgent from 0.7 of the limit; {}", load()),
        formula: Some("without: E[O] = L * (1 - 1/N) * (T/2 + d)"),
        finding: "Near the limit nodes do not wait for their rounds, whose interval no longer matters: what remains is \
                  about what is called while a message is under way.",
        x: Axis { label: "gossip interval T (ms)", is_logarithmic: false },
        y: OVERSHOOT,
        series: vec![
            unpushed_by_interval("without", effort)?,
            Series { label: "with urgent pushes", points: pushed.collect::<io::Result<_>>()? },
        ],
    })
}

fn news(effort: Effort) -> io::Result<Study> {
    let point = |options: Options, age_ms: f64, last_ms: f64| {
        let nodes = options.nodes as f64;
        let (mean, last) = measure::news_ms(&options, effort.runs(options.nodes).min(20))?;
        let point = |measured, expected| Point { x: nodes, measured, expected: Some(expected) };
        Ok((point(mean, age_ms), point(last, last_ms)))
    };
    let direct = effort.sizes(&[3, 5, 10, 32, 100]).map(|nodes| {
        let last_ms = direct_last_ms(nodes, 50.0, DELAY_MS);
        point(cluster(nodes), direct_age_ms(50.0, DELAY_MS), last_ms)
    });
    let (direct_mean, direct_last) = direct.collect::<io::Result<_>>()?;
    let epidemic = effort.sizes(&[10, 32, 100]).map(|nodes| {
        let age_ms = epidemic_age_ms(nodes, FANOUT, 50.0, DELAY_MS);
        point(epidemic(nodes), age_ms, epidemic_last_ms(nodes, FANOUT, 50.0, DELAY_MS))
    });
    let (epidemic_mean, epidemic_last) = epidemic.collect::<io::Result<_>>()?;
    Ok(Study {
        name: "news",
        title: "How old news is at the nodes, and at the last of them",
        setting: format!(
            "single counts, T = 50 ms, d = {DELAY_MS} ms, no digests; epidemic: {FANOUT} peers a round"
        ),
        formula: Some(
            "direct: E[A] = T/2 + d, E[last] = T/2 + d * ln N; \
             epidemic: E[A] = ln N / r + T/8, E[last] = 1.4 * ln N / r + T/3, r*T = f * exp(-r*d)",
        ),
        finding: "Every count reaches every node. By rounds, the last node hears of it about half as late again as the others.",
        x: Axis { label: "nodes N", is_logarithmic: true },
        y: Axis { label: "time until it is known (ms)", is_logarithmic: false },
        series: vec![
            Series { label: "direct, mean", points: direct_mean },
            Series { label: "direct, last node", points: direct_last },
            Series { label: "epidemic, mean", points: epidemic_mean },
            Series { label: "epidemic, last node", points: epidemic_last },
        ],
    })
}

fn after_partition(effort: Effort) -> io::Result<Study> {
    let options = Options { calls_per_s: 500, digest_interval_ms: 1_000, ..cluster(NODES) };
    let points = [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000].map(|cut_ms| {
        let measured = measure::convergence_ms(&options, cut_ms, effort.runs(NODES))?;
        Ok(Point { x: cut_ms as f64 / 1e3, measured, expected: None })
    });
    Ok(Study {
        name: "partition",
        title: "Time to converge after a partition",
        setting: format!(
            "{NODES} nodes, direct, T = 50 ms, a digest each 1 s, a peer unheard for 3 s is dropped, d = {DELAY_MS} ms"
        ),
        formula: None,
        finding: "While links survive, what was lost is found by anti-entropy: at the next digest, half of the time \
                  between two on average. After more than 3 s, links were dropped and are dialed again, after a wait \
                  that grows with the length of the partition, up to 5 s.",
        x: Axis { label: "length of the partition (s)", is_logarithmic: true },
        y: Axis { label: "time to converge (ms)", is_logarithmic: false },
        series: vec![Series {
            label: "direct",
            points: points.into_iter().collect::<io::Result<_>>()?,
        }],
    })
}

fn traffic(effort: Effort) -> io::Result<Study> {
    let point = |options: Options| {
        let nodes = options.nodes;
        let options =
            Options { calls_per_s: 100 * nodes as u64, digest_interval_ms: 1_000, ..options };
        let measured = measure::bytes_per_update(&options, effort.runs(nodes).min(20))?;
        Ok(Point { x: nodes as f64, measured, expected: None })
    };
    let direct = effort.sizes(&[2, 3, 5, 8, 16, 32]).map(|nodes| point(cluster(nodes)));
    let epidemic = effort.sizes(&[5, 10, 32, 100]).map(|nodes| point(epidemic(nodes)));
    Ok(Study {
        name: "traffic",
        title: "Traffic and the size of the cluster",
        setting: format!(
            "one counter, 100 calls a second on each node, T = 50 ms, a digest each 1 s; \
             epidemic: {FANOUT} peers a round"
        ),
        formula: None,
        finding: "All frames are counted, with digests, pings and acknowledgements. Direct, an update reaches each node \
                  once; what grows are the digests, which name every node. By rounds, news reaches a node more than \
                  once, but in larger clusters more of it shares a frame.",
        x: Axis { label: "nodes N", is_logarithmic: true },
        y: Axis { label: "bytes per update and receiving node", is_logarithmic: false },
        series: vec![
            Series { label: "direct", points: direct.collect::<io::Result<_>>()? },
            Series { label: "epidemic", points: epidemic.collect::<io::Result<_>>()? },
        ],
    })
}

/// A limit of 10 s of the load, in a cluster that sends what is urgent at once.
fn cuttable(nodes: usize, max: u64, when: WhenCutOff) -> Options {
    Options {
        limits: Limits::Single { max },
        calls_per_s: (max / 10).max(1),
        urgent_fraction: 0.7,
        when_cut_off: [when; 4],
        ..cluster(nodes)
    }
}

fn when_cut_off(effort: Effort) -> io::Result<Study> {
    const POLICIES: [(&str, WhenCutOff); 3] =
        [("allow", WhenCutOff::Allow), ("share", WhenCutOff::Share), ("deny", WhenCutOff::Deny)];
    let nodes = 10.min(effort.nodes_max);
    let series = POLICIES.map(|(label, when)| {
        let points = [1, nodes / 2].map(|side| {
            let options = cuttable(nodes, 10_000, when);
            let measured = measure::over_when_cut(&options, [side, nodes - side], effort.runs)?;
            Ok(Point { x: side as f64, measured, expected: None })
        });
        Ok(Series { label, points: points.into_iter().collect::<io::Result<_>>()? })
    });
    Ok(Study {
        name: "cut-off",
        title: "Overshoot of a cut, by what the limit does when it is cut off",
        setting: format!(
            "{nodes} nodes, direct, T = 50 ms, a limit of 10,000 in a window of 60 s, 1,000 calls/s, d = {DELAY_MS} ms; two sides, silent \
             to each other from a random moment to the end of the window"
        ),
        formula: None,
        finding: "With `allow`, each side goes on to the whole limit by itself. With `share` and `deny`, what is overshot is about \
                  what sides admit before they notice.",
        x: Axis { label: "nodes on the lesser side", is_logarithmic: false },
        y: OVER,
        series: series.into_iter().collect::<io::Result<_>>()?,
    })
}

fn cut_off_by_limit(effort: Effort) -> io::Result<Study> {
    let sides_of = |label, options: fn(u64) -> Options, sides: [usize; 2], runs: u64| {
        let points = [10, 100, 1_000].map(|max| {
            let measured = measure::over_when_cut(&options(max), sides, runs)?;
            Ok(Point { x: max as f64, measured, expected: None })
        });
        Ok(Series { label, points: points.into_iter().collect::<io::Result<_>>()? })
    };
    let ten: fn(u64) -> Options = |max| cuttable(10, max, WhenCutOff::Share);
    let many: fn(u64) -> Options =
        |max| Options { direct_up_to: 0, fanout: FANOUT, ..cuttable(64, max, WhenCutOff::Share) };
    let mut series = vec![
        sides_of("5 and 5", ten, [5, 5], effort.runs),
        sides_of("1 and 9", ten, [1, 9], effort.runs),
        sides_of("3, 3 and 4", ten, [3, 3], effort.runs),
    ];
    if effort.nodes_max >= 64 {
        series.push(sides_of("32 and 32, by rounds", many, [32, 32], effort.runs(64).min(10)));
    }
    Ok(Study {
        name: "cut-off-limit",
        title: "Overshoot of a cut with share, and the size of the limit",
        setting: format!(
            "10 nodes direct, 64 by rounds to {FANOUT} peers; T = 50 ms, a window of 60 s, the limit used up in 10 s, d = {DELAY_MS} ms"
        ),
        formula: None,
        finding: "A limit smaller than the cluster is divided as well: each unit belongs to one member.",
        x: Axis { label: "limit", is_logarithmic: true },
        y: OVER,
        series: series.into_iter().collect::<io::Result<_>>()?,
    })
}

const OVER: Axis = Axis { label: "over the limit (%)", is_logarithmic: false };

const OVERSHOOT: Axis = Axis { label: "overshoot O (calls)", is_logarithmic: false };

fn load() -> String {
    format!("L = {CALLS_PER_S} calls/s, d = {DELAY_MS} ms")
}

fn epidemic(nodes: usize) -> Options {
    Options { direct_up_to: 0, fanout: FANOUT, ..cluster(nodes) }
}

fn unpushed_by_interval(label: &'static str, effort: Effort) -> io::Result<Series> {
    let points = INTERVALS_MS.map(|interval_ms| {
        let options = Options { gossip_interval_ms: interval_ms, ..cluster(NODES) };
        let age_ms = direct_age_ms(interval_ms as f64, DELAY_MS);
        overshoot(interval_ms as f64, &options, age_ms, effort)
    });
    Ok(Series { label, points: points.into_iter().collect::<io::Result<_>>()? })
}

fn overshoot(x: f64, options: &Options, age_ms: f64, effort: Effort) -> io::Result<Point> {
    let shares = shares(options.nodes, options.skew);
    let expected = formula::overshoot(options.calls_per_s as f64, &shares, age_ms);
    let measured = measure::overshoot(options, effort.runs(options.nodes))?;
    Ok(Point { x, measured, expected: Some(expected) })
}
