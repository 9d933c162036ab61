//! How many lines of the log each may cause: this node, each peer, and all strangers together.

use std::collections::BTreeMap;
use std::time::Duration;

use tallymesh_core::gossip::Cause;

/// In so long, each may cause so many lines, and the same one once.
pub(super) const SAY_AGAIN_AFTER: Duration = Duration::from_secs(30);

const OWN_LINES: usize = 256;
const STRANGERS_LINES: usize = 32;
const PEER_LINES: usize = 16;

/// So many peers have a share of their own at one time; those beyond have one together.
const PEERS_MAX: usize = 256;

/// What was left out is said so often.
const SAY_DROPPED_EVERY: Duration = Duration::from_secs(60);

/// Who has caused which lines lately.
#[derive(Debug, Default)]
pub(super) struct Budget {
    own: Share,
    strangers: Share,
    peers: BTreeMap<String, Share>,
    peers_beyond: Share,
    dropped: Dropped,
    dropped_in_all: u64,
    /// Since when lines were left out of which the log does not tell yet.
    since: Option<Duration>,
}

/// How many lines were left out, since each had caused as many as it may.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Dropped {
    pub own: u64,
    pub peers: u64,
    pub strangers: u64,
}

/// The lines of one of them, the latest last; those that may be said again each time have no text.
#[derive(Debug, Default)]
struct Share {
    lines: Vec<(Duration, Option<String>)>,
}

/// What becomes of a line.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Written,
    /// The same one was written just now.
    Repeated,
    Dropped,
}

impl Share {
    fn judge(&mut self, now: Duration, lines_max: usize, line: Option<&str>) -> Verdict {
        self.forget(now);
        if line.is_some() && self.lines.iter().any(|(_, known)| known.as_deref() == line) {
            return Verdict::Repeated;
        }
        if self.lines.len() >= lines_max {
            return Verdict::Dropped;
        }
        self.lines.push((now, line.map(str::to_owned)));
        Verdict::Written
    }

    fn forget(&mut self, now: Duration) {
        self.lines.retain(|(at, _)| now.saturating_sub(*at) < SAY_AGAIN_AFTER);
    }
}

impl Budget {
    /// Whether to write a line that `cause` brought about; with `once`, not if the same one was written just now.
    pub(super) fn allows(&mut self, now: Duration, cause: &Cause, once: Option<&str>) -> bool {
        let (share, lines_max) = match cause {
            Cause::Own => (&mut self.own, OWN_LINES),
            Cause::Peer { name } => {
                (share_of(&mut self.peers, &mut self.peers_beyond, name, now), PEER_LINES)
            }
            _ => (&mut self.strangers, STRANGERS_LINES),
        };
        let verdict = share.judge(now, lines_max, once);
        if verdict == Verdict::Dropped {
            self.leave_out(now, cause);
        }
        verdict == Verdict::Written
    }

    /// Counts a line that is not written.
    pub(super) fn leave_out(&mut self, now: Duration, cause: &Cause) {
        let dropped = match cause {
            Cause::Own => &mut self.dropped.own,
            Cause::Peer { .. } => &mut self.dropped.peers,
            _ => &mut self.dropped.strangers,
        };
        *dropped += 1;
        self.dropped_in_all += 1;
        self.since.get_or_insert(now);
    }

    /// How many lines were left out since the start.
    pub(super) fn dropped_in_all(&self) -> u64 {
        self.dropped_in_all
    }

    /// How many lines were left out since this was last told, once a minute at most.
    pub(super) fn take_dropped(&mut self, now: Duration) -> Option<Dropped> {
        self.since.take_if(|since| now.saturating_sub(*since) >= SAY_DROPPED_EVERY)?;
        Some(std::mem::take(&mut self.dropped))
    }
}

fn share_of<'a>(
    peers: &'a mut BTreeMap<String, Share>,
    beyond: &'a mut Share,
    name: &str,
    now: Duration,
) -> &'a mut Share {
    if peers.len() >= PEERS_MAX && !peers.contains_key(name) {
        peers.retain(|_, share| {
            share.forget(now);
            !share.lines.is_empty()
        });
        if peers.len() >= PEERS_MAX {
            return beyond;
        }
    }
    peers.entry(name.to_owned()).or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn peer(number: usize) -> Cause {
        Cause::Peer { name: format!("10.0.0.{number}:7946") }
    }

    /// How many of these many different lines are written.
    fn written(budget: &mut Budget, cause: &Cause, lines: usize) -> usize {
        (0..lines).filter(|line| budget.allows(NOW, cause, Some(&line.to_string()))).count()
    }

    #[test]
    fn neither_strangers_nor_a_peer_crowd_out_what_another_is_the_cause_of() {
        let mut budget = Budget::default();
        assert_eq!(written(&mut budget, &Cause::Stranger, 400), STRANGERS_LINES);
        assert_eq!(written(&mut budget, &peer(1), 400), PEER_LINES);
        assert_eq!(written(&mut budget, &peer(2), 3), 3);
        assert_eq!(written(&mut budget, &Cause::Own, 3), 3);
        let (peers, strangers) = (400 - PEER_LINES as u64, 400 - STRANGERS_LINES as u64);
        let minute = NOW + SAY_DROPPED_EVERY;
        assert_eq!(budget.take_dropped(minute - Duration::from_millis(1)), None);
        assert_eq!(budget.take_dropped(minute), Some(Dropped { own: 0, peers, strangers }));
        assert_eq!(budget.take_dropped(minute + SAY_DROPPED_EVERY), None, "none since");
    }

    #[test]
    fn a_line_is_repeated_after_a_while_and_that_is_no_loss() {
        let mut budget = Budget::default();
        let seconds = (0..61).filter(|second| {
            budget.allows(Duration::from_secs(*second), &Cause::Stranger, Some("again"))
        });
        assert_eq!(seconds.collect::<Vec<_>>(), [0, 30, 60]);
        let connected = (0..40).filter(|_| budget.allows(NOW, &peer(1), None)).count();
        assert_eq!(connected, PEER_LINES, "what may be said each time counts each time");
        assert_eq!(budget.dropped, Dropped { peers: 40 - PEER_LINES as u64, ..Dropped::default() });
    }

    #[test]
    fn what_is_remembered_is_bounded_however_many_peers_there_are() {
        let mut budget = Budget::default();
        let lines: usize = (0..5_000).map(|number| written(&mut budget, &peer(number), 20)).sum();
        assert_eq!((budget.peers.len(), lines), (PEERS_MAX, (PEERS_MAX + 1) * PEER_LINES));
        // Those that cause nothing any more make room.
        let later = NOW + SAY_AGAIN_AFTER;
        assert!(budget.allows(later, &peer(9_999), None) && budget.peers.len() == 1);
    }
}
