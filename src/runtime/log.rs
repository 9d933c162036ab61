//! What the operator reads of the gossip in the log, and how often.

mod budget;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tallymesh_core::gossip::{Cause, HandshakeFailure, PeerAbsence, PeerStatus, Report};
use tallymesh_core::table::{Bound, Share};
use tallymesh_core::time::format_duration;
use tallymesh_core::wire::{CloseReason, PROTOCOLS};

use super::bounds_watch::{for_whom, words};
use super::peer_sources::Trouble;
use budget::{Budget, Dropped, SAY_AGAIN_AFTER};

/// The most addresses that do not answer that are remembered.
const UNANSWERED_MAX: usize = 256;

/// So many versions of the protocol are named in one line.
const PROTOCOLS_NAMED_MAX: usize = 8;

/// So many peers are named in one line.
const ABSENT_NAMED_MAX: usize = 16;

/// Logs reports, each kind of complaint at a bounded rate, and as many as each cause has a share of.
#[derive(Debug, Default)]
pub(super) struct Reporter {
    budget: Budget,
    unanswered: BTreeMap<String, Unanswered>,
    /// Addresses at which there may well be nothing: those of other slots.
    may_be_empty: BTreeSet<String>,
}

/// What was not said yet of an address that does not answer.
#[derive(Debug)]
struct Unanswered {
    said_at: Duration,
    attempts_since: u32,
}

/// When something happened, and who brought it about.
type At<'a> = (Duration, &'a Cause);

/// The names of members, as many as fit in a line.
fn named<'a>(names: impl IntoIterator<Item = &'a Arc<str>>) -> String {
    let names: Vec<&str> = names.into_iter().map(|name| &**name).collect();
    match names.get(..ABSENT_NAMED_MAX) {
        Some(first) if names.len() > first.len() => format!("{}, ...", first.join(", ")),
        _ => names.join(", "),
    }
}

impl Reporter {
    /// One that says little of these addresses as long as nothing has answered there.
    pub(super) fn new(may_be_empty: BTreeSet<String>) -> Reporter {
        Reporter { may_be_empty, ..Reporter::default() }
    }

    pub(super) fn report(&mut self, now: Duration, cause: &Cause, report: &Report) {
        let at = (now, cause);
        match report {
            Report::PeerUp { replica } if self.may_say(at) => {
                tracing::info!(%replica, "peer connected");
            }
            Report::PeerDown { replica } if self.may_say(at) => tracing::info!(%replica, "peer gone"),
            Report::PeerUp { .. } | Report::PeerDown { .. } => {}
            Report::PeerLost { replica, silent_for, connected } => {
                // By its name: each life of one that crashes again and again is no news.
                if self.is_due(at, &format!("lost {}", replica.node)) {
                    let silent_for = shown(*silent_for);
                    tracing::warn!(
                        %replica, %silent_for, connected,
                        "peer lost: it crashed, hangs, or the network is cut; until it is back, limits may be overshot by \
                         what either side admits"
                    );
                }
            }
            Report::PeerBack { replica, away } => {
                if self.is_due(at, &format!("back {}", replica.node)) {
                    tracing::warn!(%replica, away = %shown(*away), "peer is back");
                }
            }
            Report::OwnAddress { address } => {
                tracing::debug!(address, "this address is our own");
            }
            // One of several instances that are started one after the other, or a list that names no other.
            Report::OnlyOwnAddresses => self.complain(
                at,
                "gossip.peers leads to this node itself and to no other: it counts alone until another peer is found",
            ),
            Report::NoAnswer { address, error } if self.may_be_empty.contains(address) => {
                tracing::debug!(address, error, "another slot does not answer: it may be empty");
            }
            Report::NoAnswer { address, error } => {
                if let Some(attempts) = self.attempts_to_report(at, address) {
                    tracing::warn!(address, error, attempts, "peer does not answer");
                }
            }
            Report::HandshakeFailed { dialed, reason } => {
                self.handshake_failed(at, dialed.as_deref(), *reason);
            }
            Report::Unproven { dialed: Some(address), error, .. } => {
                if let Some(attempts) = self.attempts_to_report(at, address) {
                    tracing::warn!(
                        address, error, attempts,
                        "what answers there is refused: it does not prove that it is of this cluster"
                    );
                }
            }
            // By what is wrong, of which there are few kinds: a flood of strangers is a line of each.
            Report::Unproven { dialed: None, remote, error } => {
                if self.is_due(at, &format!("stranger {error}")) {
                    let from = remote.as_deref().unwrap_or("an address that is not known");
                    tracing::warn!(from, error, "a connection was refused: who dialed is no peer");
                }
            }
            Report::NodeIdInUse { other } => self.error(
                at,
                &format!(
                    "another live process, {other}, uses our node id: a cloned data directory or a node.id given twice. \
                     The two do not count together; stop one of them and give it its own node.id and data directory"
                ),
            ),
            Report::Refused { reason: CloseReason::Full } => self.complain(
                at,
                "a peer has as many connections as it allows, and closed ours; let it allow more",
            ),
            Report::Refused { reason: CloseReason::FrameTooLong } => self.complain(
                at,
                "a peer closed the connection, since a frame of ours is longer than it allows; let all nodes allow frames of \
                 one length",
            ),
            Report::Refused { reason } => self.error(at, &format!("a peer refuses us: {reason:?}")),
            // For whom there is no room is told by who looks at the table.
            Report::BoundReached { bound: Bound::Counters } => {}
            Report::BoundReached { bound } => self.bound_reached(now, *bound, &[]),
            Report::OtherProtocol { protocols } => {
                let protocols = protocols.get(..PROTOCOLS_NAMED_MAX).unwrap_or(protocols);
                self.complain(
                    at,
                    &format!(
                        "a peer speaks versions {protocols:?} of the protocol, and this one {PROTOCOLS:?}: none in common"
                    ),
                );
            }
            Report::OtherCluster { theirs, ours, address } => {
                let from = address.as_deref().unwrap_or("an address that is not known");
                self.complain(
                    at,
                    &format!(
                        "a node of the cluster {theirs:?} at {from} is refused, since this one is of the cluster {ours:?}: \
                         give both the same gossip.cluster, or take it out of gossip.peers"
                    ),
                );
            }
            Report::Unreachable { .. } if !self.may_say(at) => {}
            Report::Unreachable { replica, address, error } => {
                tracing::warn!(
                    %replica, address, error,
                    "other members reach this one, and the address that they tell of it does not answer here: check its \
                     gossip.advertise, and what is between the two"
                );
            }
            Report::TooManyMembers { max } => self.complain(
                at,
                &format!(
                    "peers tell of more than {max} members, which is the most that are learned: those beyond are connected \
                     to only if they connect to this node or are in gossip.peers"
                ),
            ),
            Report::EntryTaken { entry } => {
                tracing::warn!(%entry, "the operator has said something, and a peer told of it");
            }
            Report::EntryRefused { from, error } => self.complain(
                at,
                &format!("{from} sent something as the operator's that is not believed: {error}"),
            ),
            Report::LimitsDiffer { replica, limits } => self.complain(
                at,
                &format!(
                    "these limits say something else at {} than here, under the same names: {limits:?}. Each instance decides \
                     by its own, and where the window or `per` differs they do not count together",
                    replica.node
                ),
            ),
            Report::GraceDiffers { replica, theirs, ours } => self.complain(
                at,
                &format!(
                    "counters.grace is {} at {} and {} here: replicas that have ended are remembered for the longer of the two, \
                     and what arrives late counts on the one and not on the other; give all nodes the same",
                    format_duration(*theirs),
                    replica.node,
                    format_duration(*ours)
                ),
            ),
            Report::BadFrame { error, .. } => {
                self.complain(at, &format!("a connection was closed over its bytes: {error}"));
            }
            Report::Implausible { from, about, .. } => self.complain(
                at,
                &format!("{from} sent cells of {about} that cannot be true; they were dropped"),
            ),
            Report::NeverGivenOut { from, .. } => self.complain(
                at,
                &format!(
                    "{from} holds counts of ours that we never gave out: it lies, or was lied to; ours are sent again, and prevail"
                ),
            ),
            Report::CutOff { sides, silent } => {
                let silent = named(silent);
                let (side, members) = (sides.side, sides.members);
                if self.is_due(at, &format!("cut off {side} {members}")) {
                    tracing::warn!(
                        side, members, silent,
                        "cut off: these members are silent and did not say goodbye; limits that share or deny while cut off \
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
                if self.is_due(at, &kind) {
                    tracing::warn!(%replica, offset_ms, "{kind}: windows will not roll over together");
                }
            }
        }
    }

    /// Something was refused over a bound of ours; for these there was no room for a counter.
    pub(super) fn bound_reached(&mut self, now: Duration, bound: Bound, crowded: &[Share]) {
        if self.is_due((now, &Cause::Own), words(bound)) {
            tracing::warn!("{}{}", words(bound), for_whom(crowded));
        }
    }

    /// The list of peers, or what it leads to, has something wrong with it.
    pub(super) fn trouble(&mut self, now: Duration, trouble: &Trouble) {
        match trouble {
            Trouble::Unresolved { name, error } => self.unresolved(now, name, error),
            Trouble::Nonsense(what) => self.complain((now, &Cause::Own), what),
        }
    }

    /// The name of a peer cannot be looked up.
    fn unresolved(&mut self, now: Duration, peer: &str, error: &str) {
        if self.is_due((now, &Cause::Own), &format!("unresolved {peer}")) {
            tracing::warn!(peer, error, "this peer's name cannot be looked up");
        }
    }

    /// The wait for the peers' state was over before that was here.
    pub(super) fn opened_early(&mut self, now: Duration, peers: &[PeerStatus]) {
        let absent =
            peers.iter().filter_map(|peer| Some((peer.address.as_deref()?, peer.absence?)));
        self.opened_without(now, absent.collect());
    }

    fn opened_without(&mut self, now: Duration, absent: Vec<(&str, PeerAbsence)>) {
        let is_empty_slot = |(address, absence): &(&str, PeerAbsence)| {
            *absence == PeerAbsence::Unanswered && self.may_be_empty.contains(*address)
        };
        if !absent.is_empty() && absent.iter().all(is_empty_slot) {
            return;
        }
        let absent = absent.iter().filter(|one| !is_empty_slot(one)).map(|(address, absence)| {
            let what = match absence {
                PeerAbsence::Unresolved => "its name was not resolved",
                PeerAbsence::Unanswered | PeerAbsence::Unreachable => "it has not answered",
                PeerAbsence::OtherCluster => "it is of another cluster",
                _ => "it was lost",
            };
            format!("{address} ({what})")
        });
        let absent: Vec<String> = absent.take(ABSENT_NAMED_MAX).collect();
        let missing = match absent.is_empty() {
            true => "what a peer has is still on its way".to_owned(),
            false => format!("missing {}", absent.join(", ")),
        };
        self.complain(
            (now, &Cause::Own),
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

    /// Says how many lines were left out, if that is due.
    pub(super) fn tell_dropped(&mut self, now: Duration) {
        if let Some(Dropped { own, peers, strangers }) = self.budget.take_dropped(now) {
            tracing::warn!(
                own,
                peers,
                strangers,
                "lines of the log were left out in the last minute: this node, a peer, or all strangers together had caused as many                  as they may"
            );
        }
    }

    /// How many lines were left out since the start.
    pub(super) fn dropped(&self) -> u64 {
        self.budget.dropped_in_all()
    }

    /// Logs a warning, unless the same one was logged just now.
    fn complain(&mut self, at: At<'_>, complaint: &str) {
        if self.is_due(at, complaint) {
            tracing::warn!("{complaint}");
        }
    }

    fn error(&mut self, at: At<'_>, complaint: &str) {
        if self.is_due(at, complaint) {
            tracing::error!("{complaint}");
        }
    }

    fn handshake_failed(&mut self, at: At<'_>, dialed: Option<&str>, reason: HandshakeFailure) {
        let peer = match dialed {
            Some(address) => format!("the peer at {address}"),
            None => "a peer that connected to us".to_owned(),
        };
        let what = match reason {
            HandshakeFailure::TimedOut => {
                "did not introduce itself in time and was disconnected; is it a tallymesh node?"
            }
            HandshakeFailure::Closed if dialed.is_some() => {
                "closed the connection before it introduced itself; has it a gossip.key, and this node none?"
            }
            HandshakeFailure::Closed => "closed the connection before it introduced itself",
            HandshakeFailure::PushedOut => {
                "had not introduced itself when others came after it, and was disconnected to make room for them"
            }
            HandshakeFailure::OtherReplica => {
                "introduced itself as another node than the one that had proven its key"
            }
            _ => "was disconnected before it introduced itself",
        };
        let complaint = format!("{peer} {what}");
        match (reason, dialed) {
            // A load balancer that probes the port does this all the time.
            (HandshakeFailure::Closed, None) if self.is_due(at, &complaint) => {
                tracing::info!("{complaint}");
            }
            (HandshakeFailure::Closed, None) => {}
            _ => self.complain(at, &complaint),
        }
    }

    /// How many attempts to reach an address to report as failed now; `None` if it was reported just now.
    fn attempts_to_report(&mut self, at: At<'_>, address: &str) -> Option<u32> {
        let (now, cause) = at;
        // An address that is still ours to dial is tried again within seconds.
        self.unanswered.retain(|_, known| now.saturating_sub(known.said_at) < 2 * SAY_AGAIN_AFTER);
        let is_full = self.unanswered.len() >= UNANSWERED_MAX;
        match self.unanswered.get_mut(address) {
            Some(known) => {
                known.attempts_since += 1;
                if now.saturating_sub(known.said_at) < SAY_AGAIN_AFTER {
                    return None;
                }
                known.said_at = now;
                Some(std::mem::take(&mut known.attempts_since))
            }
            None if is_full => {
                self.budget.leave_out(now, cause);
                None
            }
            None => {
                let known = Unanswered { said_at: now, attempts_since: 0 };
                self.unanswered.insert(address.to_owned(), known);
                Some(1)
            }
        }
    }

    /// Whether to log a complaint: not the same one again just now, and not over the share of its cause.
    fn is_due(&mut self, (now, cause): At<'_>, what: &str) -> bool {
        self.budget.allows(now, cause, Some(what))
    }

    /// As [`is_due`](Self::is_due), of what is news each time.
    fn may_say(&mut self, (now, cause): At<'_>) -> bool {
        self.budget.allows(now, cause, None)
    }
}

/// A length of time, in whole milliseconds.
fn shown(time: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_millis(time.as_millis() as u64))
}

#[cfg(test)]
mod tests;
