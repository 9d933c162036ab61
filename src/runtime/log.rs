//! What the operator reads of the gossip in the log, and how often.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tallymesh_core::gossip::{HandshakeFailure, PeerAbsence, PeerStatus, Report};
use tallymesh_core::table::Bound;
use tallymesh_core::time::format_duration;
use tallymesh_core::wire::{CloseReason, PROTOCOLS};

use super::bounds_watch::words;
use super::peer_sources::Trouble;

/// The same complaint is logged once in this time at most.
const SAY_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// The most complaints that are remembered: a peer that finds ever new ones to cause must not fill our memory.
const REMEMBERED_MAX: usize = 256;

/// So many peers are named in one line.
const ABSENT_NAMED_MAX: usize = 16;

/// Logs reports, each kind of complaint at a bounded rate.
#[derive(Debug, Default)]
pub(super) struct Reporter {
    said_at: BTreeMap<String, Duration>,
    unanswered: BTreeMap<String, Unanswered>,
}

/// What was not said yet of an address that does not answer.
#[derive(Debug)]
struct Unanswered {
    said_at: Duration,
    attempts_since: u32,
}

/// The names of members, as many as fit in a line.
fn named<'a>(names: impl IntoIterator<Item = &'a Arc<str>>) -> String {
    let names: Vec<&str> = names.into_iter().map(|name| &**name).collect();
    match names.get(..ABSENT_NAMED_MAX) {
        Some(first) if names.len() > first.len() => format!("{}, ...", first.join(", ")),
        _ => names.join(", "),
    }
}

impl Reporter {
    pub(super) fn report(&mut self, now: Duration, report: &Report) {
        match report {
            Report::PeerUp { replica } => tracing::info!(%replica, "peer connected"),
            Report::PeerDown { replica } => tracing::info!(%replica, "peer gone"),
            Report::PeerLost { replica, silent_for, connected } => {
                // By its name: each life of one that crashes again and again is no news.
                if self.is_due(now, &format!("lost {}", replica.node)) {
                    let silent_for = shown(*silent_for);
                    tracing::warn!(
                        %replica, %silent_for, connected,
                        "peer lost: it crashed, hangs, or the network is cut; until it is back, limits may be overshot by \
                         what either side admits"
                    );
                }
            }
            Report::PeerBack { replica, away } => {
                if self.is_due(now, &format!("back {}", replica.node)) {
                    tracing::warn!(%replica, away = %shown(*away), "peer is back");
                }
            }
            Report::OwnAddress { address } => {
                tracing::debug!(address, "this address is our own");
            }
            // One of several instances that are started one after the other, or a list that names no other.
            Report::OnlyOwnAddresses => self.complain(
                now,
                "gossip.peers leads to this node itself and to no other: it counts alone until another peer is found",
            ),
            Report::NoAnswer { address, error } => {
                if let Some(attempts) = self.attempts_to_report(now, address) {
                    tracing::warn!(address, error, attempts, "peer does not answer");
                }
            }
            Report::HandshakeFailed { dialed, reason } => {
                self.handshake_failed(now, dialed.as_deref(), *reason);
            }
            Report::NodeIdInUse { other } => self.error(
                now,
                &format!(
                    "another live process, {other}, uses our node id: a cloned data directory or a node.id given twice. \
                     The two do not count together; stop one of them and give it its own node.id and data directory"
                ),
            ),
            Report::Refused { reason: CloseReason::Full } => self.complain(
                now,
                "a peer has as many connections as it allows, and closed ours; let it allow more",
            ),
            Report::Refused { reason: CloseReason::FrameTooLong } => self.complain(
                now,
                "a peer closed the connection, since a frame of ours is longer than it allows; let all nodes allow frames of \
                 one length",
            ),
            Report::Refused { reason } => self.error(now, &format!("a peer refuses us: {reason:?}")),
            Report::BoundReached { bound } => self.bound_reached(now, *bound),
            Report::OtherProtocol { protocols } => self.complain(
                now,
                &format!(
                    "a peer speaks versions {protocols:?} of the protocol, and this one {PROTOCOLS:?}: none in common"
                ),
            ),
            Report::OtherCluster { theirs, ours, address } => {
                let from = address.as_deref().unwrap_or("an address that is not known");
                self.complain(
                    now,
                    &format!(
                        "a node of the cluster {theirs:?} at {from} is refused, since this one is of the cluster {ours:?}: \
                         give both the same gossip.cluster, or take it out of gossip.peers"
                    ),
                );
            }
            Report::Unreachable { replica, address, error } => {
                tracing::warn!(
                    %replica, address, error,
                    "other members reach this one, and the address that they tell of it does not answer here: check its \
                     gossip.advertise, and what is between the two"
                );
            }
            Report::TooManyMembers { max } => self.complain(
                now,
                &format!(
                    "peers tell of more than {max} members, which is the most that are learned: those beyond are connected \
                     to only if they connect to this node or are in gossip.peers"
                ),
            ),
            Report::LimitsDiffer { replica, limits } => self.complain(
                now,
                &format!(
                    "these limits say something else at {} than here, under the same names: {limits:?}. Each instance decides \
                     by its own, and where the window or `per` differs they do not count together",
                    replica.node
                ),
            ),
            Report::GraceDiffers { replica, theirs, ours } => self.complain(
                now,
                &format!(
                    "counters.grace is {} at {} and {} here: replicas that have ended are remembered for the longer of the two, \
                     and what arrives late counts on the one and not on the other; give all nodes the same",
                    format_duration(*theirs),
                    replica.node,
                    format_duration(*ours)
                ),
            ),
            Report::BadFrame { error, .. } => {
                self.complain(now, &format!("a connection was closed over its bytes: {error}"));
            }
            Report::Implausible { from, about, .. } => self.complain(
                now,
                &format!("{from} sent cells of {about} that cannot be true; they were dropped"),
            ),
            Report::CutOff { sides, silent } => {
                let silent = named(silent);
                let (side, members) = (sides.side, sides.members);
                if self.is_due(now, &format!("cut off {side} {members}")) {
                    tracing::warn!(
                        side, members, silent,
                        "cut off: these members are silent and did not say goodbye; limits with when_cut_off of \"share\" or \"deny\" \
                         allow less until they are heard again, or are presumed dead"
                    );
                }
            }
            Report::CutOffEnded { lasted, dead } => tracing::warn!(
                lasted = %shown(*lasted), presumed_dead = named(dead),
                "cut off no more: members are heard again, or presumed dead; if those are cut off all the same, each side admits the \
                 whole limit from now on"
            ),
            Report::ClockOffset { replica, offset_ms } => {
                let direction = if *offset_ms > 0 { "ahead of" } else { "behind" };
                let kind = format!("the clock of {replica} is {direction} ours");
                if self.is_due(now, &kind) {
                    tracing::warn!(%replica, offset_ms, "{kind}: windows will not roll over together");
                }
            }
        }
    }

    /// Something was refused over a bound of ours.
    pub(super) fn bound_reached(&mut self, now: Duration, bound: Bound) {
        self.complain(now, words(bound));
    }

    /// The list of peers, or what it leads to, has something wrong with it.
    pub(super) fn trouble(&mut self, now: Duration, trouble: &Trouble) {
        match trouble {
            Trouble::Unresolved { name, error } => self.unresolved(now, name, error),
            Trouble::Nonsense(what) => self.complain(now, what),
        }
    }

    /// The name of a peer cannot be looked up.
    fn unresolved(&mut self, now: Duration, peer: &str, error: &str) {
        if self.is_due(now, &format!("unresolved {peer}")) {
            tracing::warn!(peer, error, "this peer's name cannot be looked up");
        }
    }

    /// The wait for the peers' state was over before that was here.
    pub(super) fn opened_early(&mut self, now: Duration, peers: &[PeerStatus]) {
        let absent = peers.iter().filter_map(|peer| {
            let what = match peer.absence? {
                PeerAbsence::Unresolved => "its name was not resolved",
                PeerAbsence::Unanswered | PeerAbsence::Unreachable => "it has not answered",
                PeerAbsence::OtherCluster => "it is of another cluster",
                _ => "it was lost",
            };
            Some(format!("{} ({what})", peer.address.as_ref()?))
        });
        let absent: Vec<String> = absent.take(ABSENT_NAMED_MAX).collect();
        let missing = match absent.is_empty() {
            true => "what a peer has is still on its way".to_owned(),
            false => format!("missing {}", absent.join(", ")),
        };
        self.complain(
            now,
            &format!(
                "opened before the state of all peers had arrived; limits may be overshot until it has: {missing}"
            ),
        );
    }

    /// The node is ready, though maybe without all that it waited for.
    pub(super) fn ready(&self, missing: &[String]) {
        if !missing.is_empty() {
            let missing = missing.get(..ABSENT_NAMED_MAX).unwrap_or(missing).join("; ");
            tracing::warn!(
                "ready although not all is here that was waited for, since the longest time for that is over: {missing}"
            );
        }
    }

    /// The node has said goodbye to its peers.
    pub(super) fn left(&self, unconfirmed: u64, in_memory: bool) {
        if unconfirmed > 0 {
            let what = match in_memory {
                true => {
                    "they are lost with this node, which keeps nothing on disk, unless one got them all the same"
                }
                false => "they are on this node's disk, and reach the others when it starts again",
            };
            tracing::warn!(
                unconfirmed,
                "no peer has confirmed this node's last updates in the time that it waits for that: {what}"
            );
        }
    }

    /// Logs a warning, unless the same one was logged just now.
    pub(super) fn complain(&mut self, now: Duration, complaint: &str) {
        if self.is_due(now, complaint) {
            tracing::warn!("{complaint}");
        }
    }

    fn error(&mut self, now: Duration, complaint: &str) {
        if self.is_due(now, complaint) {
            tracing::error!("{complaint}");
        }
    }

    fn handshake_failed(&mut self, now: Duration, dialed: Option<&str>, reason: HandshakeFailure) {
        let peer = match dialed {
            Some(address) => format!("the peer at {address}"),
            None => "a peer that connected to us".to_owned(),
        };
        let what = match reason {
            HandshakeFailure::TimedOut => {
                "did not introduce itself in time and was disconnected; is it a tallymesh node?"
            }
            HandshakeFailure::Closed => "closed the connection before it introduced itself",
            _ => "was disconnected before it introduced itself",
        };
        let complaint = format!("{peer} {what}");
        match (reason, dialed) {
            // A load balancer that probes the port does this all the time.
            (HandshakeFailure::Closed, None) if self.is_due(now, &complaint) => {
                tracing::info!("{complaint}");
            }
            (HandshakeFailure::Closed, None) => {}
            _ => self.complain(now, &complaint),
        }
    }

    /// How many attempts to reach an address to report as failed now; `None` if it was reported just now.
    fn attempts_to_report(&mut self, now: Duration, address: &str) -> Option<u32> {
        // An address that is still ours to dial is tried again within seconds.
        self.unanswered.retain(|_, known| now.saturating_sub(known.said_at) < 2 * SAY_AGAIN_AFTER);
        let is_full = self.unanswered.len() >= REMEMBERED_MAX;
        match self.unanswered.get_mut(address) {
            Some(known) => {
                known.attempts_since += 1;
                if now.saturating_sub(known.said_at) < SAY_AGAIN_AFTER {
                    return None;
                }
                known.said_at = now;
                Some(std::mem::take(&mut known.attempts_since))
            }
            None if is_full => None,
            None => {
                let known = Unanswered { said_at: now, attempts_since: 0 };
                self.unanswered.insert(address.to_owned(), known);
                Some(1)
            }
        }
    }

    fn is_due(&mut self, now: Duration, what: &str) -> bool {
        self.said_at.retain(|_, at| now.saturating_sub(*at) < SAY_AGAIN_AFTER);
        if self.said_at.contains_key(what) || self.said_at.len() >= REMEMBERED_MAX {
            return false;
        }
        self.said_at.insert(what.to_owned(), now);
        true
    }
}

/// A length of time, in whole milliseconds.
fn shown(time: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_millis(time.as_millis() as u64))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use tallymesh_core::id::{Incarnation, ReplicaId};
    use tracing_subscriber::EnvFilter;

    use super::*;
    use crate::runtime::clock_watch::ClockWatch;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What an operator reads at the program's default level, when these are reported one second after the other.
    fn log_of(reports: impl IntoIterator<Item = Report>) -> Vec<String> {
        log_by(|reporter| {
            for (second, report) in reports.into_iter().enumerate() {
                reporter.report(Duration::from_secs(second as u64), &report);
            }
        })
    }

    fn log_by(report: impl FnOnce(&mut Reporter)) -> Vec<String> {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new("warn,tallymesh=info"))
            .with_ansi(false)
            .without_time()
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || report(&mut Reporter::default()));
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| line.trim().replace("tallymesh::runtime::log: ", "")).collect()
    }

    fn handshake_failed(dialed: Option<&str>, reason: HandshakeFailure) -> Report {
        Report::HandshakeFailed { dialed: dialed.map(str::to_owned), reason }
    }

    #[test]
    fn a_peer_that_comes_and_goes_is_seen_at_the_default_level() {
        let incarnation = Incarnation { boot: 1, nonce: 2 };
        let replica = ReplicaId { node: "b".parse().unwrap(), incarnation };
        let name = replica.to_string();
        let up = Report::PeerUp { replica: replica.clone() };
        assert_eq!(log_of([up.clone()]), [format!("INFO peer connected replica={name}")]);
        let down = Report::PeerDown { replica };
        assert_eq!(log_of([down, up]).len(), 2);
        assert!(log_of([Report::OwnAddress { address: "a:1".to_owned() }]).is_empty());
    }

    #[test]
    fn a_partition_and_its_end_are_warned_of_at_a_bounded_rate() {
        let replica = |boot| ReplicaId {
            node: "b".parse().unwrap(),
            incarnation: Incarnation { boot, nonce: 2 },
        };
        let lost = |boot| Report::PeerLost {
            replica: replica(boot),
            silent_for: Duration::from_micros(5_000_400),
            connected: 0,
        };
        let back = |boot| Report::PeerBack { replica: replica(boot), away: Duration::from_secs(9) };
        let lines = log_of([lost(1), back(1)]);
        let begins =
            ["WARN peer lost: it crashed, hangs, or the network is cut", "WARN peer is back"];
        for (line, begin) in lines.iter().zip(begins) {
            assert!(line.starts_with(begin), "{line}");
        }
        assert!(lines[0].contains("silent_for=5s connected=0"), "{}", lines[0]);
        assert!(lines[1].contains("away=9s"), "{}", lines[1]);
        let crashes = (1..=31).flat_map(|boot| [lost(boot), back(boot)]);
        assert_eq!(log_of(crashes).len(), 2 * 3, "61 seconds of crashes of one peer");
    }

    #[test]
    fn a_name_that_is_not_resolved_is_warned_of_again_and_again() {
        let (name, error) = ("not-yet.invalid:1".to_owned(), "no such host".to_owned());
        let trouble = Trouble::Unresolved { name, error };
        let lines = log_by(|reporter| {
            (0..62).for_each(|second| reporter.trouble(Duration::from_secs(second), &trouble));
        });
        let line = "WARN this peer's name cannot be looked up peer=\"not-yet.invalid:1\" error=\"no such host\"";
        assert_eq!(lines, [line; 3]);
    }

    #[test]
    fn an_address_that_does_not_answer_is_named_with_the_systems_error_and_the_attempts_since() {
        let no_answer = |address: &str| Report::NoAnswer {
            address: address.to_owned(),
            error: "Connection refused (os error 111)".to_owned(),
        };
        let lines = log_of(std::iter::repeat_n(no_answer("10.0.0.2:7946"), 62));
        let line = |attempts| {
            format!(
                "WARN peer does not answer address=\"10.0.0.2:7946\" error=\"Connection refused (os error 111)\" \
                 attempts={attempts}"
            )
        };
        assert_eq!(lines, [line(1), line(30), line(30)]);
        assert_eq!(log_of([no_answer("10.0.0.2:1"), no_answer("10.0.0.3:1")]).len(), 2);
    }

    #[test]
    fn a_handshake_that_fails_is_logged_with_its_reason_and_its_address() {
        use HandshakeFailure::{Closed, TimedOut};
        for (dialed, reason, expected) in [
            (Some("b:1"), TimedOut, "WARN the peer at b:1 did not introduce itself in time"),
            (None, TimedOut, "WARN a peer that connected to us did not introduce itself in time"),
            (Some("b:1"), Closed, "WARN the peer at b:1 closed the connection before"),
            (None, Closed, "INFO a peer that connected to us closed the connection before"),
        ] {
            let lines = log_of(std::iter::repeat_n(handshake_failed(dialed, reason), 31));
            assert_eq!(lines.len(), 2, "once in 30 seconds: {lines:?}");
            assert!(lines.iter().all(|line| line.starts_with(expected)), "{lines:?}");
        }
    }

    #[test]
    fn a_bound_is_warned_of_once_in_a_while_with_what_to_do_and_blames_no_peer() {
        for bound in Bound::ALL {
            let lines = log_of(std::iter::repeat_n(Report::BoundReached { bound }, 31));
            assert_eq!(lines, [format!("WARN {}", words(bound)), format!("WARN {}", words(bound))]);
        }
        for (reason, part) in [
            (CloseReason::Full, "as many connections as it allows"),
            (CloseReason::FrameTooLong, "longer than it allows"),
        ] {
            let lines = log_of([Report::Refused { reason }]);
            assert!(lines[0].starts_with("WARN ") && lines[0].contains(part), "{lines:?}");
        }
    }

    #[test]
    fn a_clock_that_is_behind_is_said_when_it_begins_and_when_it_ends() {
        let behind = [0, 999, 90_000, 86_000, 500, 0, 0, 3_000].map(Duration::from_millis);
        let lines = log_by(|_| {
            let mut watch = ClockWatch::default();
            behind.into_iter().for_each(|behind| watch.look(behind));
        });
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines.iter().all(|line| line.starts_with("WARN ")), "{lines:?}");
        assert!(
            lines[0].contains("the system clock is behind the latest")
                && lines[0].contains("behind=1m 30s")
        );
        assert!(lines[0].contains("tallymesh clock DIR --lower"), "the way out is told");
        assert!(lines[1].contains("the system clock has caught up"), "{lines:?}");
        assert!(lines[2].contains("behind=3s"), "{lines:?}");
    }

    #[test]
    fn a_complaint_is_repeated_only_after_a_while() {
        let mut reporter = Reporter::default();
        assert!(reporter.is_due(Duration::ZERO, "a"));
        assert!(!reporter.is_due(Duration::from_secs(29), "a"));
        assert!(reporter.is_due(Duration::from_secs(29), "b"));
        assert!(reporter.is_due(Duration::from_secs(31), "a"));
    }
}
