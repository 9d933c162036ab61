//! Which bounds were reached lately, and what an operator is told of each.

use std::time::Duration;

use tallymesh_core::table::{Bound, Claimant, Rejections, Share};

#[cfg(unix)]
use crate::config::{Config, PEERS_MAX};

/// So long after something was refused over a bound, that is a reason in the health.
const LATELY: Duration = Duration::from_secs(60);

/// When something was last refused over each bound.
#[derive(Debug, Default)]
pub(crate) struct BoundsWatch {
    seen: Rejections,
    refused_at: Vec<(Bound, Duration)>,
}

impl BoundsWatch {
    /// Takes note of what was refused so far, and returns the bounds over which something was refused lately.
    pub(crate) fn look(&mut self, now: Duration, rejections: Rejections) -> Vec<Bound> {
        for bound in grown(&self.seen, &rejections) {
            self.refused_at.retain(|(known, _)| *known != bound);
            self.refused_at.push((bound, now));
        }
        self.seen = rejections;
        self.refused_at.retain(|(_, at)| now.saturating_sub(*at) < LATELY);
        self.refused_at.iter().map(|(bound, _)| *bound).collect()
    }
}

/// The bounds over which something was refused between two looks.
pub(super) fn grown(before: &Rejections, now: &Rejections) -> impl Iterator<Item = Bound> {
    let (before, now) = (*before, *now);
    Bound::ALL.into_iter().filter(move |bound| now.refused(*bound) > before.refused(*bound))
}

/// What an operator is told of a bound over which something was refused: in the log, and as a reason in the health.
pub(crate) fn words(bound: Bound) -> &'static str {
    match bound {
        Bound::Counters => {
            "counters.max_counters is reached, or all of it that is not kept for others: what needs a new counter is refused or \
             not counted, as counters.when_full says, and new counters of peers are not taken in; raise it, or count less finely"
        }
        Bound::Replicas => {
            "counters.max_replicas is reached: counts of nodes that are new here are not taken in, so limits may be overshot; \
             raise it on all nodes"
        }
        Bound::ReplicasPerCounter => {
            "counters.max_replicas_per_counter is reached in some counter: counts of further nodes are not taken in there, so \
             its limit may be overshot; raise it on all nodes"
        }
        Bound::Connections => {
            "gossip.max_connections is reached: further connections are closed at once; raise it, or name fewer peers"
        }
        Bound::FrameBytes => {
            "a frame was longer than gossip.max_frame_bytes, and its connection was closed; give the setting one value on all \
             nodes"
        }
        Bound::FramesQueued => {
            "gossip.max_frames_queued frames have waited for a peer for a second or more: that node or the network takes in \
             less than there is to send. Nothing is lost, it gets later, merged deltas; if it goes on, look at the load there \
             and at the network"
        }
        Bound::Addresses => {
            "gossip.peers lead to more addresses than the 4,096 that a node takes: the rest is left out; name fewer"
        }
        _ => "a bound is reached: see the rejections in the status",
    }
}

/// A bound, how much of it is taken, and what to do once it was reached.
#[cfg(unix)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BoundReport {
    pub name: &'static str,
    /// How much there is; `None` where that is not counted.
    pub held: Option<usize>,
    pub max: usize,
    /// How often something was refused over it since the start.
    pub refused: u64,
    /// `None` as long as it was not reached.
    pub what_to_do: Option<&'static str>,
}

#[cfg(unix)]
impl BoundReport {
    /// The bounds of this config, of a node that holds so much and has refused so much.
    pub(super) fn all(
        config: &Config,
        held: impl Fn(Bound) -> Option<usize>,
        rejections: &Rejections,
    ) -> Vec<BoundReport> {
        let (bounds, gossip) = (&config.bounds, &config.gossip);
        let report = |bound: Bound| {
            let (name, max) = match bound {
                Bound::Counters => ("counters.max_counters", bounds.counters_max),
                Bound::Replicas => ("counters.max_replicas", bounds.replicas_max),
                Bound::ReplicasPerCounter => {
                    ("counters.max_replicas_per_counter", bounds.replicas_per_counter_max)
                }
                Bound::Connections => ("gossip.max_connections", gossip.links_max),
                Bound::FrameBytes => ("gossip.max_frame_bytes", gossip.frame_bytes_max),
                Bound::FramesQueued => ("gossip.max_frames_queued", gossip.frames_queued_max),
                Bound::Addresses => ("addresses of gossip.peers", PEERS_MAX),
                _ => return None,
            };
            let (held, refused) = (held(bound), rejections.refused(bound));
            let is_reached = refused > 0 || held.is_some_and(|held| held >= max);
            let what_to_do = is_reached.then(|| words(bound));
            Some(BoundReport { name, held, max, refused, what_to_do })
        };
        Bound::ALL.into_iter().filter_map(report).collect()
    }
}

/// So many of those without room are named.
const CROWDED_NAMED: usize = 3;

/// For whom there was no room for a counter, and how many counters each has.
pub(crate) fn for_whom(crowded: &[Share]) -> String {
    let named = crowded.iter().take(CROWDED_NAMED).map(|share| {
        let Share { held, kept, refused, .. } = share;
        let whom = whose(&share.claimant);
        format!("; {whom}: {held} of them, {kept} kept for it, {refused} times without room")
    });
    let more = crowded.len().saturating_sub(CROWDED_NAMED);
    let more = if more > 0 { format!("; {more} more") } else { String::new() };
    named.chain([more]).collect()
}

fn whose(claimant: &Claimant) -> String {
    match claimant {
        Claimant::Limit(name) => format!("limit {name:?}"),
        Claimant::NoLimit => "what is counted here under no limit".to_owned(),
        Claimant::Node(node) => format!("what node {node} counts"),
        Claimant::UnknownLimits => "limits of peers that this node does not have".to_owned(),
        _ => "further nodes".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_a_reason_for_a_minute_after_the_last_refusal() {
        let mut watch = BoundsWatch::default();
        let mut rejections = Rejections::default();
        let seconds = Duration::from_secs;
        assert!(watch.look(seconds(0), rejections).is_empty());
        rejections.replicas_refused = 1;
        assert_eq!(watch.look(seconds(10), rejections), [Bound::Replicas]);
        rejections.cells_refused = 7;
        assert_eq!(
            watch.look(seconds(60), rejections),
            [Bound::Replicas, Bound::ReplicasPerCounter]
        );
        assert_eq!(watch.look(seconds(70), rejections), [Bound::ReplicasPerCounter]);
        assert!(watch.look(seconds(120), rejections).is_empty());
        rejections.cells_implausible = 1;
        assert!(watch.look(seconds(121), rejections).is_empty(), "that is no bound");
    }

    #[cfg(unix)]
    #[test]
    fn a_bound_that_was_reached_is_reported_with_what_to_do() {
        let config = Config::builder("a").in_memory().max_counters(5).build().unwrap();
        let mut rejections = Rejections::default();
        rejections.cells_refused = 2;
        let held = |bound| (bound == Bound::Counters).then_some(5);
        let reports = BoundReport::all(&config, held, &rejections);
        assert_eq!(reports.len(), Bound::ALL.len());
        let reached: Vec<_> = reports.iter().filter(|bound| bound.what_to_do.is_some()).collect();
        let named = reached.iter().map(|bound| (bound.name, bound.held, bound.max, bound.refused));
        let expected = [
            ("counters.max_counters", Some(5), 5, 0),
            ("counters.max_replicas_per_counter", None, 131_072, 2),
        ];
        assert_eq!(named.collect::<Vec<_>>(), expected);
        assert!(reached[0].what_to_do.unwrap().contains("raise it"));
    }

    #[test]
    fn each_bound_has_words_of_its_own() {
        let words: std::collections::BTreeSet<&str> = Bound::ALL.into_iter().map(words).collect();
        assert_eq!(words.len(), Bound::ALL.len());
    }
}
