//! Which members are silent, so that limits that heed cuts can divide what is left.
//!
//! A peer shows that it hears us, and we it, by its answer: an acknowledgement of updates, or a pong. So a member that is heard and
//! does not hear is as silent as one that is not heard, on both ends, and both come to the same sides. A peer that owes an
//! answer for more than about four rounds is suspected. This takes far less time than to give a link up, since what sides admit
//! before they notice is what they overshoot; a mistake only lowers what limits allow while it lasts.
//!
//! A suspicion is held for a while after the peer answers again: until digests have brought what was counted on the other side, and
//! so that a link that comes and goes does not make and drop notes each time.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use super::link::Link;
use super::members::{Member, PeerSource};
use super::{Gossip, PeerAbsence, Report};
use crate::id::NodeId;
use crate::link::LinkId;
use crate::mutant::mutant;
use crate::table::Names;
use crate::time::{Now, Timestamp};
use crate::wire::Message;

/// So many rounds a peer may take to answer, beside two round trips; rounds are drawn up to a tenth longer.
const ROUNDS_TO_ANSWER: f64 = 4.4;
/// Every so many rounds a peer is asked that has nothing to answer.
const ROUNDS_BETWEEN_PINGS: u32 = 4;
/// After so many rounds without an answer it is asked again.
const ROUNDS_TO_PING_AGAIN: u32 = 2;
/// For so long after a limit that heeds cuts was asked, peers are asked whether they are there.
const ASKED_FOR: Duration = Duration::from_secs(60);

/// A cut by members that were never met is told of only once it has lasted so long: at its start, every node is in one.
const TOLD_AFTER: Duration = Duration::from_secs(1);

/// A cut, as this node sees it: some members are silent and did not say goodbye.
///
/// ```
/// use tallymesh::CutOff;
///
/// fn line(cut: &CutOff) -> String {
///     format!("cut off with {} of {} members since {}", cut.side, cut.members, cut.since)
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct CutOff {
    /// How many members there were when it was noticed, this node included; those that left since are none any more.
    pub members: usize,
    /// How many of them are on this node's side.
    pub side: usize,
    /// Who is heard, this node included, by name.
    pub heard: Vec<String>,
    /// Who is silent, by name; one that was never met by its address.
    pub suspected: Vec<String>,
    /// Since when some member has been silent.
    pub since: Timestamp,
}

/// What a peer has to answer, and when it was asked.
#[derive(Debug, Default)]
pub(super) struct Probe {
    asked_at: Option<Duration>,
    pinged_at: Option<Duration>,
    /// How long a message there and back takes: what took longer once, as by a pause, raises it by little.
    round_trip: Option<Duration>,
}

impl Probe {
    /// Something was sent that the peer answers.
    pub(super) fn asked(&mut self, now: Duration) {
        self.asked_at.get_or_insert(now);
    }

    /// The peer has answered.
    pub(super) fn answered(&mut self) {
        self.asked_at = None;
    }

    /// A message there and back took so long.
    pub(super) fn took(&mut self, round_trip: Duration) {
        let most = self.round_trip.map(|known| known.mul_f64(1.25) + Duration::from_millis(1));
        self.round_trip = Some(most.map_or(round_trip, |most| round_trip.min(most)));
    }

    /// How long the peer has owed an answer.
    fn waits(&self, now: Duration) -> Option<Duration> {
        self.asked_at.map(|asked_at| now.saturating_sub(asked_at))
    }

    /// Whether it is time for a ping: while nothing is owed, only if the peer `is_watched`.
    fn is_due(&self, now: Duration, interval: Duration, is_watched: bool) -> bool {
        let last = self.pinged_at.max(self.asked_at);
        let rounds = match self.asked_at {
            Some(_) => ROUNDS_TO_PING_AGAIN,
            None if is_watched => ROUNDS_BETWEEN_PINGS,
            None => return false,
        };
        // Rounds are drawn up to a tenth shorter.
        last.is_none_or(|last| now.saturating_sub(last) >= (interval * rounds).mul_f64(0.85))
    }
}

/// Who is silent.
#[derive(Debug, Default)]
pub(super) struct Suspicion {
    silent: BTreeMap<Arc<str>, Silence>,
    /// Who is heard, as of the last look at which anyone was silent.
    heard: Names,
    /// Since when anyone is, by both clocks.
    since: Option<(Duration, Timestamp)>,
    /// The number of the sides that the operator was told of.
    told: Option<u32>,
    watched_until: Duration,
    /// A member has come or gone.
    is_stale: bool,
}

#[derive(Debug)]
struct Silence {
    since: Duration,
    /// Since when it is heard again.
    heard_since: Option<Duration>,
    /// Whether it was there before: what it counted meanwhile has to arrive once it is heard again.
    was_there: bool,
    /// It was silent for so long that it is no member any more.
    is_dead: bool,
}

impl Suspicion {
    /// Members may have come or gone.
    pub(super) fn look_soon(&mut self) {
        self.is_stale = true;
    }
}

impl Gossip {
    /// Asks those peers for an answer that owe one, or were not asked for a while. Belongs to a round.
    pub(super) fn ask_whether_there(&mut self, now: Now) {
        if !self.settings.heeds_cuts {
            return;
        }
        if self.table.take_heeded() {
            self.suspicion.watched_until = now.monotonic + ASKED_FOR;
        }
        let is_watched = now.monotonic < self.suspicion.watched_until;
        let (interval, queued_max) = (self.settings.interval, self.settings.frames_queued_max);
        let is_due = |state: &Link| {
            let suspected = state.peer().is_some_and(|peer| self.suspicion.has(&peer.node));
            state.peer().is_some()
                && state.queued() < queued_max
                && state.probe.is_due(now.monotonic, interval, is_watched || suspected)
        };
        let due = self.links.iter().filter(|(_, state)| is_due(state));
        for link in due.map(|(link, _)| *link).collect::<Vec<LinkId>>() {
            if let Some(state) = self.links.get_mut(&link) {
                state.clock.ping_again(now.monotonic);
                state.probe.asked(now.monotonic);
                state.probe.pinged_at = Some(now.monotonic);
            }
            self.send(link, &Message::Ping {});
        }
    }

    /// A peer has answered, so each hears the other.
    pub(super) fn answered(&mut self, link: LinkId) {
        if let Some(state) = self.links.get_mut(&link) {
            state.probe.answered();
        }
    }

    /// Looks at once if a member has come or gone.
    pub(super) fn look_if_stale(&mut self, now: Now) {
        if core::mem::take(&mut self.suspicion.is_stale) {
            self.tell_of_members();
            self.look_for_silent(now);
        }
    }

    /// Finds out who is silent, and tells the table and the operator if that has changed.
    pub(super) fn look_for_silent(&mut self, now: Now) {
        if !self.settings.heeds_cuts || self.leaving.is_some() || mutant!(CutNeverNoticed) {
            return;
        }
        let (heard, unheard) = self.sort_by_answers(now);
        if unheard.is_empty() && self.suspicion.silent.is_empty() {
            return;
        }
        let dead_after = self.settings.presumed_dead_after;
        let hold = self.settings.digest_interval * 2 + self.settings.interval * 4;
        let silent_ones = &mut self.suspicion.silent;
        silent_ones.retain(|name, silence| match (heard.contains(name), unheard.get(name)) {
            (false, None) => false,
            (false, Some(_)) => true,
            (true, _) => {
                let since = *silence.heard_since.get_or_insert(now.monotonic);
                silence.was_there && !silence.is_dead && now.monotonic.saturating_sub(since) < hold
            }
        });
        for (name, was_there) in unheard {
            let silence = silent_ones.entry(name).or_insert(Silence {
                since: now.monotonic,
                heard_since: None,
                was_there,
                is_dead: false,
            });
            silence.heard_since = None;
            let silent_for = now.monotonic.saturating_sub(silence.since);
            silence.is_dead = dead_after.is_some_and(|after| silent_for >= after);
        }
        let alive = silent_ones.iter().filter(|(_, silence)| !silence.is_dead);
        let silent: Names = alive.map(|(name, _)| name.clone()).collect();
        let heard: Names = heard.difference(&silent).cloned().collect();
        self.table.set_sides(&heard, &silent);
        self.suspicion.heard = heard;
        self.tell_of_cut(now, silent);
    }

    /// Tells the operator of a cut that was not told of, but for that in which every node starts for a moment, and of its end.
    fn tell_of_cut(&mut self, now: Now, silent: Names) {
        let (sides, suspicion) = (self.table.sides(), &mut self.suspicion);
        if sides.is_cut() {
            let (began, _) = *suspicion.since.get_or_insert((now.monotonic, now.wall));
            let lasts = now.monotonic.saturating_sub(began) >= TOLD_AFTER;
            let is_news = suspicion.told != Some(sides.number);
            if is_news && (lasts || suspicion.silent.values().any(|silence| silence.was_there)) {
                suspicion.told = Some(sides.number);
                self.report(Report::CutOff { sides, silent });
            }
        } else if let Some((began, _)) = suspicion.since.take()
            && suspicion.told.take().is_some()
        {
            let dead = suspicion.silent.keys().cloned().collect();
            let lasted = now.monotonic.saturating_sub(began);
            self.report(Report::CutOffEnded { lasted, dead });
        }
    }

    /// When the next round is at the latest, also at rest: as ever while a peer owes an answer, and seldom while silence would have
    /// to be noticed.
    pub(super) fn round_to_notice(&self, now: Duration) -> Option<Duration> {
        let owes = |link: &Link| link.peer().is_some() && link.probe.asked_at.is_some();
        let is_watched = now < self.suspicion.watched_until || !self.suspicion.silent.is_empty();
        let rounds = match self.links.values().any(owes) {
            true => 1,
            false => ROUNDS_BETWEEN_PINGS,
        };
        (self.settings.heeds_cuts && (is_watched || rounds == 1))
            .then(|| now + self.settings.interval * rounds)
    }

    /// Who answers, this node included, and who does not, with whether it was there before.
    fn sort_by_answers(&self, now: Now) -> (Names, BTreeMap<Arc<str>, bool>) {
        let links = self.links.values().filter_map(|link| Some((&link.peer()?.node, link)));
        let links: BTreeMap<&NodeId, &Link> = links.collect();
        let answers = |member: &Member| {
            links.get(&member.replica.node).is_some_and(|link| !self.is_overdue(now, link))
        };
        let is_member = |member: &&Member| match member.absence {
            None | Some(PeerAbsence::Lost | PeerAbsence::Refused) => true,
            Some(_) => false,
        };
        let (mut heard, mut unheard) = (Names::new(), BTreeMap::new());
        heard.insert(self.own.node.as_str().into());
        for member in self.members.iter().filter(is_member) {
            let name = member.replica.node.as_str().into();
            match answers(member) {
                true => drop(heard.insert(name)),
                false => drop(unheard.insert(name, member.changed > 0)),
            }
        }
        for seen in self.addresses.of_peers() {
            let known = seen.replica.map(|replica| &replica.node);
            let is_known = known.is_some_and(|node| self.members.get(node).is_some());
            let is_silent = match seen.source {
                PeerSource::Config => matches!(seen.absence, None | Some(PeerAbsence::Unproven)),
                _ => seen.absence == Some(PeerAbsence::Unreachable),
            };
            if is_known || !is_silent || self.answers_by_other_family(seen.address) {
                continue;
            }
            let name = known.map_or(seen.address.as_str(), NodeId::as_str);
            unheard.insert(name.into(), false);
        }
        unheard.extend(self.addresses.unresolved().map(|name| (name.as_str().into(), false)));
        (heard, unheard)
    }

    /// Whether the address is one of a name that has answered at one of the other family: then it is the same peer.
    fn answers_by_other_family(&self, address: &str) -> bool {
        let is_v4 = |address: &str| address.parse().map(|it: SocketAddr| it.is_ipv4()).ok();
        let own = is_v4(address);
        let mut siblings = self.addresses.siblings(address);
        own.is_some() && siblings.any(|(other, met)| met && is_v4(other) == own.map(|it| !it))
    }

    fn is_overdue(&self, now: Now, link: &Link) -> bool {
        let round_trip = link.probe.round_trip.unwrap_or_default();
        let patience = self.settings.interval.mul_f64(ROUNDS_TO_ANSWER)
            + 2 * round_trip.min(self.settings.silence_timeout / 4);
        link.probe.waits(now.monotonic).is_some_and(|waits| waits > patience)
    }

    /// The cut that there is, if limits heed cuts and some member is silent.
    pub fn cut_off(&self) -> Option<CutOff> {
        let sides = self.table.sides();
        let (_, since) = self.suspicion.since.filter(|_| sides.is_cut())?;
        let alive = self.suspicion.silent.iter().filter(|(_, silence)| !silence.is_dead);
        Some(CutOff {
            members: sides.members.into(),
            side: sides.side.into(),
            heard: self.suspicion.heard.iter().map(ToString::to_string).collect(),
            suspected: alive.map(|(name, _)| name.to_string()).collect(),
            since,
        })
    }
}

impl Suspicion {
    fn has(&self, node: &NodeId) -> bool {
        self.silent.contains_key(node.as_str())
    }
}
