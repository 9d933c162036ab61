//! Who tells whom all rumors. In a large cluster each node passes on what is new once; if it drew all those peers by chance, about
//! one node in `e^fanout` would be drawn by none. So each node asks a few peers, its feeders, to tell it all rumors, and so
//! none is left out: a node with a feeder that has heard will hear.

use alloc::vec::Vec;

use super::Gossip;
use crate::link::LinkId;
use crate::mutant::mutant;
use crate::time::Now;
use crate::wire::Message;

/// The least number of feeders: were there one, groups could form that hear of no other node.
const FEEDERS_MIN: usize = 2;

/// What the two ends of a link have told each other about news.
#[derive(Debug, Default)]
pub(super) struct Feed {
    /// What we last said.
    said: Terms,
    /// What the peer last said.
    heard: Terms,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Terms {
    /// Whether the one who says so passes on what it hears.
    passes_on: bool,
    /// Whether the other is to tell it all news.
    is_fed: bool,
}

impl Feed {
    /// Whether the peer passes on what it hears, so that it does not tell everyone what is its own.
    pub(super) fn peer_passes_on(&self) -> bool {
        self.heard.passes_on
    }

    /// Whether the peer is to be told all news.
    pub(super) fn is_wanted(&self) -> bool {
        self.heard.is_fed
    }
}

/// Among how many peers the feeders were drawn: those who meet first would otherwise feed all who come later.
#[derive(Debug, Default)]
pub(super) struct Feeders {
    drawn_among: usize,
}

impl Feeders {
    /// Whether to draw all again, now that there are this many to draw from.
    fn are_stale(&mut self, candidates: usize) -> bool {
        self.drawn_among = self.drawn_among.min(candidates);
        let stale = candidates >= 2 * self.drawn_among.max(1);
        if stale {
            self.drawn_among = candidates;
        }
        stale
    }
}

impl Gossip {
    /// Makes sure that enough peers feed us, as long as there are any that pass news on, and that each knows whether we do.
    pub(super) fn choose_feeders(&mut self) {
        let passes_on = !self.is_direct();
        let links = self.established();
        let feed = |link: &LinkId| self.links.get(link).map(|state| &state.feed);
        let (mut chosen, mut others): (Vec<LinkId>, Vec<LinkId>) = links
            .iter()
            .filter(|link| feed(link).is_some_and(|feed| feed.heard.passes_on))
            .partition(|link| feed(link).is_some_and(|feed| feed.said.is_fed));
        let candidates = chosen.len() + others.len();
        let wanted = self.settings.fanout.saturating_sub(1).max(FEEDERS_MIN).min(candidates);
        if self.feeders.are_stale(candidates) {
            others.append(&mut chosen);
        }
        if chosen.len() < wanted && !mutant!(NewsLeftToChance) {
            let missing = wanted - chosen.len();
            chosen.extend(self.draw(others, missing));
        }
        for link in links {
            let terms = Terms { passes_on, is_fed: chosen.contains(&link) };
            if let Some(state) = self.links.get_mut(&link)
                && state.feed.said != terms
            {
                state.feed.said = terms;
                self.say_terms(link);
            }
        }
    }

    /// Asks the feeders again, in case that a link has lost it.
    pub(super) fn remind_feeders(&mut self) {
        let asked = self.links.iter().filter(|(_, state)| state.feed.said.is_fed);
        for link in asked.map(|(link, _)| *link).collect::<Vec<_>>() {
            self.say_terms(link);
        }
    }

    fn say_terms(&mut self, link: LinkId) {
        let Some(Terms { passes_on, is_fed }) = self.links.get(&link).map(|state| state.feed.said)
        else {
            return;
        };
        self.send(link, &Message::Feed { passes_on, is_fed });
    }

    /// The peer says whether it passes news on, and whether it is to be told all.
    pub(super) fn hear_terms(&mut self, now: Now, link: LinkId, passes_on: bool, is_fed: bool) {
        let Some(state) = self.links.get_mut(&link) else { return };
        let before = core::mem::replace(&mut state.feed.heard, Terms { passes_on, is_fed });
        if state.feed.heard != before {
            // The feeders are chosen in a round.
            self.end_rest(now);
        }
        if is_fed && !before.is_fed {
            // News that was passed on before this would be missed.
            self.send_digest(now, link, false);
        }
    }

    /// The links that news goes over now: to all who asked for it, and to others by chance, `fanout` at the least.
    pub(super) fn news_links(&mut self) -> Vec<LinkId> {
        let wants =
            |link: &LinkId| self.links.get(link).is_some_and(|state| state.feed.is_wanted());
        let (asked, others): (Vec<LinkId>, Vec<LinkId>) =
            self.established().into_iter().partition(wants);
        let (mut links, mut unknown) = self.first_and_others(asked);
        let (first, others) = self.first_and_others(others);
        // Who is not known must not make us send without end, nor leave out who is.
        let missing = self.settings.fanout.saturating_sub(links.len());
        links.extend(self.draw(first, missing));
        unknown.truncate(self.settings.direct_up_to.saturating_sub(links.len()));
        links.append(&mut unknown);
        let missing = self.settings.fanout.saturating_sub(links.len());
        links.extend(self.draw(others, missing));
        links
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use core::time::Duration;

    use super::super::test_net::{Net, replica};
    use super::super::{GossipSettings, Input};
    use super::*;
    use crate::limit::{Demands, Limit, Policy, Request, Window};

    const NODES: usize = 40;

    /// Digests come too rarely to help.
    fn settings(direct_up_to: usize) -> GossipSettings {
        GossipSettings {
            direct_up_to,
            digest_interval: Duration::from_secs(36_000),
            silence_timeout: Duration::from_secs(72_000),
            ..GossipSettings::default()
        }
    }

    /// Settled members, of which every third is of a small cluster by its own settings if they are `mixed`.
    fn net(settings: &GossipSettings, mixed: bool) -> Net {
        let mut net = Net::new(&[], settings);
        for n in 0..NODES {
            let direct = GossipSettings { direct_up_to: 2 * NODES, ..settings.clone() };
            let settings = if mixed && n % 3 == 0 { &direct } else { settings };
            net.add(replica(&format!("n{n}"), 1, n as u64), settings);
        }
        net.run(settings.interval * 10);
        net
    }

    /// Counts once on one member after the other, and waits for each count to reach all within eight rounds.
    fn each_count_reaches_all(net: &mut Net, tries: usize) {
        for n in 0..tries {
            // At any moment of a round, and now and then to members that rest.
            let pause = if n % 10 == 9 { 1_500 } else { 7 * n as u64 % 50 };
            net.run(Duration::from_millis(pause));
            let (name, start) = (format!("k{n}"), net.now);
            net.add_to(n * 7 % NODES, &name, 1);
            while net.values(&name).contains(&0) {
                let took = net.now - start;
                assert!(took <= Duration::from_millis(400), "try {n}: {:?}", net.values(&name));
                net.step();
            }
        }
    }

    #[test]
    fn each_single_count_reaches_all_within_eight_rounds_without_a_digest() {
        each_count_reaches_all(&mut net(&settings(8), false), 100);
    }

    #[test]
    fn members_that_tell_all_others_are_fed_by_those_that_pass_news_on() {
        each_count_reaches_all(&mut net(&settings(8), true), 40);
    }

    #[test]
    fn when_feeders_go_others_are_asked() {
        let mut net = net(&settings(8), false);
        for gone in 0..NODES / 2 {
            net.members[gone].up = false;
            let of_gone = net.ends.iter().filter(|(_, (near, _, _))| *near == gone);
            for link in of_gone.map(|(link, _)| *link).collect::<Vec<_>>() {
                net.hang_up(link);
            }
        }
        net.run(Duration::from_millis(200));
        for n in 0..20 {
            let name = format!("k{n}");
            net.add_to(NODES - 1 - n, &name, 1);
            net.run(Duration::from_millis(400));
            assert!(!net.values(&name).contains(&0), "{:?}", net.values(&name));
        }
    }

    #[test]
    fn in_a_small_cluster_no_node_is_asked() {
        let net = net(&settings(NODES), false);
        for member in &net.members {
            assert_eq!(member.gossip.links.len(), NODES - 1);
            let untold = |feed: &Feed| feed.said == Terms::default() && feed.heard == feed.said;
            assert!(member.gossip.links.values().all(|link| untold(&link.feed)));
        }
    }

    #[test]
    fn each_member_has_feeders_that_were_drawn_among_all() {
        let net = net(&settings(8), false);
        let feeds = |index: usize| {
            let links = net.members[index].gossip.links.values();
            links.filter(|link| link.feed.is_wanted()).count()
        };
        let fed: Vec<usize> = (0..NODES).map(feeds).collect();
        assert_eq!(fed.iter().sum::<usize>(), 3 * NODES, "three each");
        assert!(fed.iter().all(|fed| *fed < 12), "no one feeds very many: {fed:?}");
    }

    #[test]
    fn what_is_urgent_is_passed_on_without_waiting_for_rounds() {
        let slow = GossipSettings { interval: Duration::from_secs(2), ..settings(8) };
        let mut net = net(&slow, false);
        let window = Window::Session { ttl: Duration::from_secs(3_600) };
        let policy = Policy::new([Limit::new("x", NODES as u64, window)]).unwrap();
        for n in 0..20 {
            let now = net.time().wall;
            let mut demands = Demands::default();
            policy.find_demands(&Request::new(), now, 512, &mut demands).unwrap();
            net.members[n].table.acquire(now, &demands);
            net.input(n, Input::Urgent);
            net.run(Duration::from_millis(20));
            let key = policy.key_under(0, [], now);
            let values = net.members.iter().map(|member| member.table.value(now, &key));
            let late = values.filter(|value| *value != n as u64 + 1).count();
            assert_eq!(late, 0, "of call {n}");
        }
    }
}
