//! Which of two processes goes by a name, when one comes that began later than the one that is connected.
//!
//! Most often the earlier one has crashed, and its connection does not show it yet. But a claim of a later boot must not
//! throw a live peer out. So the earlier one is asked: if it answers within a second it stays, and the newcomer is refused; if it
//! does not, or says goodbye, or its connection ends, the newcomer takes its place. Until then the newcomer's frames are kept unread.

use alloc::vec::Vec;
use core::time::Duration;

use super::{Gossip, PeerAbsence, Report};
use crate::id::ReplicaId;
use crate::link::LinkId;
use crate::time::Now;
use crate::wire::{CloseReason, Message};

/// So long a live peer may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// The most frames of a newcomer that are kept. One that is not answered yet has little to say.
const FRAMES_MAX: usize = 8;

/// A newcomer that waits for the place of a connected peer.
#[derive(Debug)]
pub(super) struct Contest {
    /// The link that it would take the place of.
    held: LinkId,
    newcomer: ReplicaId,
    until: Duration,
    /// How many pings the earlier one has not answered, the one that asks for this included.
    unanswered: usize,
    /// What the newcomer sent, its hello first.
    frames: Vec<Vec<u8>>,
}

impl Gossip {
    /// Asks the peer of the link `held` whether it is there, since `newcomer` would take its place over the link `new`.
    pub(super) fn contest(
        &mut self,
        now: Now,
        new: LinkId,
        (held, newcomer): (LinkId, &ReplicaId),
    ) {
        // The latest one is most likely the one that lives. It may have dialed us, and been dialed.
        let is_dialed =
            |link: LinkId| self.links.get(&link).is_some_and(|state| state.dialed().is_some());
        let earlier = self.contests.iter().filter(|(link, contest)| {
            let is_other_way = is_dialed(**link) != is_dialed(new);
            contest.held == held && !(is_other_way && contest.newcomer == *newcomer)
        });
        for link in earlier.map(|(link, _)| *link).collect::<Vec<_>>() {
            self.close(now, link, CloseReason::SecondLink);
        }
        let Some(state) = self.links.get_mut(&held) else { return };
        let under_way = usize::from(!state.clock.ping(now.monotonic));
        let contest = Contest {
            held,
            newcomer: newcomer.clone(),
            until: now.monotonic + PATIENCE,
            unanswered: under_way + 1,
            frames: Vec::new(),
        };
        self.contests.insert(new, contest);
        self.send(held, &Message::Ping {});
    }

    /// Keeps a frame of a newcomer until it is known whether it is one. `false` if the link is none of a newcomer.
    pub(super) fn keep_for_later(&mut self, now: Now, link: LinkId, bytes: &[u8]) -> bool {
        let Some(contest) = self.contests.get_mut(&link) else { return false };
        if contest.frames.len() < FRAMES_MAX {
            contest.frames.push(bytes.to_vec());
        } else {
            self.close(now, link, CloseReason::Other);
        }
        true
    }

    /// The peer of a link has answered a ping: it lives, and stays.
    pub(super) fn is_there(&mut self, now: Now, link: LinkId) {
        let mut refused = Vec::new();
        for (new, contest) in &mut self.contests {
            if contest.held == link {
                contest.unanswered = contest.unanswered.saturating_sub(1);
                if contest.unanswered == 0 {
                    refused.push((*new, contest.newcomer.clone()));
                }
            }
        }
        for (new, other) in refused {
            self.refuse_second(now, new, (link, other));
        }
    }

    /// Refuses a link of a process that goes by the name of a connected peer, which is told so.
    pub(super) fn refuse_second(
        &mut self,
        now: Now,
        new: LinkId,
        (held, other): (LinkId, ReplicaId),
    ) {
        self.report_of(new, Report::NodeIdInUse { other: other.clone() });
        self.send(held, &Message::Conflict { other });
        self.close(now, new, CloseReason::NodeIdInUse);
    }

    /// Gives newcomers the places of those that have gone, or have not answered.
    pub(super) fn end_contests(&mut self, now: Now) {
        while let Some((new, contest)) = self.next_over(now) {
            if let Some(state) = self.links.get_mut(&contest.held) {
                state.end_as(PeerAbsence::Stopped);
                self.drop_link(now, contest.held);
            }
            for frame in contest.frames {
                self.frame(now, new, &frame);
            }
        }
    }

    /// Takes a contest that is over.
    fn next_over(&mut self, now: Now) -> Option<(LinkId, Contest)> {
        let is_over = |contest: &Contest| {
            contest.until <= now.monotonic || !self.links.contains_key(&contest.held)
        };
        let new = *self.contests.iter().find(|(_, contest)| is_over(contest))?.0;
        Some((new, self.contests.remove(&new)?))
    }

    /// When the next newcomer has waited long enough.
    pub(super) fn contest_ends_at(&self) -> Option<Duration> {
        self.contests.values().map(|contest| contest.until).min()
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::super::test_net::*;
    use super::super::{GossipSettings, HandshakeFailure, Input};
    use super::*;
    use crate::link::{LinkEvent, Proven};

    const NEW: LinkId = LinkId(1_000);

    /// Two settled members, `a` and `b`, and no goodbye.
    fn pair() -> (Net, LinkId) {
        let mut net = Net::new(&["a", "b"], &GossipSettings::default());
        net.run(Duration::from_secs(1));
        let held = *net.ends.iter().find(|(_, (index, ..))| *index == 0).unwrap().0;
        (net, held)
    }

    /// What this replica begins with over a link to `a`, and a count of its own.
    fn comes(net: &mut Net, link: LinkId, replica: ReplicaId) {
        let remote = Some("10.0.0.9".into());
        net.input(
            0,
            Input::Link(LinkEvent::Up { link, dialed: None, remote, peer: Proven::Nobody }),
        );
        net.hear(0, link, &[hello(replica), Message::Ping {}]);
    }

    fn peer_of_a(net: &Net) -> Vec<ReplicaId> {
        net.members[0].gossip.links.values().filter_map(|link| link.peer().cloned()).collect()
    }

    #[test]
    fn a_live_peer_is_not_thrown_out_by_a_later_boot_of_its_name() {
        let (mut net, held) = pair();
        let (real, thief) = (replica("b", 1, 1), replica("b", 99, 3));
        // Also if a ping is under way.
        let now = net.time();
        net.members[0].gossip.ping(now, held);
        comes(&mut net, NEW, thief.clone());
        assert_eq!((peer_of_a(&net), net.links(0)), (vec![real.clone()], 2));
        net.run(Duration::from_millis(50));
        assert_eq!((peer_of_a(&net), net.links(0)), (vec![real], 1));
        assert!(net.reports.contains(&(0, Report::NodeIdInUse { other: thief })));
        net.add_to(1, "x", 3);
        net.run(Duration::from_millis(200));
        assert_eq!(net.values("x"), [3, 3], "they go on as before");
    }

    #[test]
    fn who_has_crashed_gives_way_after_a_second_to_its_next_life() {
        let (mut net, _) = pair();
        net.silent = vec![(0, 1), (1, 0)];
        let next = replica("b", 2, 3);
        comes(&mut net, NEW, next.clone());
        net.run(Duration::from_millis(990));
        assert_eq!(peer_of_a(&net), [replica("b", 1, 1)]);
        net.run(Duration::from_millis(20));
        assert_eq!(peer_of_a(&net), [next], "and its frames were not lost");
        let is_alarm = |report: &Report| {
            matches!(report, Report::NodeIdInUse { .. } | Report::PeerLost { .. })
                || matches!(report, Report::HandshakeFailed { .. })
        };
        let mut at_a = net.reports.iter().filter(|(index, _)| *index == 0);
        assert!(!at_a.any(|(_, report)| is_alarm(report)), "{:?}", net.reports);
    }

    #[test]
    fn a_goodbye_or_the_end_of_the_connection_gives_way_at_once() {
        for says_goodbye in [true, false] {
            let (mut net, held) = pair();
            net.silent = vec![(0, 1), (1, 0)];
            let next = replica("b", 2, 3);
            comes(&mut net, NEW, next.clone());
            match says_goodbye {
                true => net.hear(0, held, &[Message::Goodbye { reason: CloseReason::Stopping }]),
                false => net.input(0, Input::Link(LinkEvent::Down { link: held })),
            }
            assert_eq!(peer_of_a(&net), [next]);
        }
    }

    #[test]
    fn newcomers_hold_one_place_for_each_peer_and_a_few_frames() {
        let (mut net, _) = pair();
        net.silent = vec![(0, 1), (1, 0)];
        for n in 0..20 {
            comes(&mut net, LinkId(2_000 + n), replica("b", 10 + n, n));
            assert_eq!((net.members[0].gossip.contests.len(), net.links(0)), (1, 2));
        }
        for _ in 0..FRAMES_MAX {
            net.hear(0, LinkId(2_019), &[Message::Ping {}]);
        }
        assert_eq!((net.members[0].gossip.contests.len(), net.links(0)), (0, 1));
        // One that goes by itself leaves nothing behind.
        comes(&mut net, NEW, replica("b", 40, 1));
        net.input(0, Input::Link(LinkEvent::Down { link: NEW }));
        assert_eq!(net.members[0].gossip.contests.len(), 0);
        let closed = Report::HandshakeFailed { dialed: None, reason: HandshakeFailure::Closed };
        assert!(net.reports.contains(&(0, closed)));
    }
}
