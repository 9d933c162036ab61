//! Who has a place among the links, and who comes first among those that have one.
//!
//! Without a key, anybody who reaches the port can introduce themselves. However many do, the peers of the config find a place, and what
//! is new goes to them first.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use rand::seq::SliceRandom;

use super::{Gossip, HandshakeFailure, PeerSource};
use crate::id::{NodeId, ReplicaId};
use crate::link::{LinkId, Proven};
use crate::time::Now;

/// The most connections that have come in and have not introduced themselves; the oldest goes out for one more.
pub const STRANGERS_MAX: usize = 64;

impl Gossip {
    /// Whether there is a place for a connection that is just established. One that came in has not said who it is yet, and has a place
    /// among those.
    pub(super) fn has_place(&mut self, now: Now, is_dialed: bool) -> bool {
        if is_dialed {
            let dialed = self.links.values().filter(|link| link.dialed().is_some());
            let others = self.links.values().filter(|link| link.dialed().is_none());
            let introduced = others.filter(|link| link.peer().is_some());
            return dialed.count() + introduced.count() < self.settings.links_max;
        }
        let strangers =
            self.links.iter().filter(|(_, link)| link.dialed().is_none() && link.peer().is_none());
        let oldest = strangers.clone().map(|(link, _)| *link).next();
        if strangers.count() >= STRANGERS_MAX
            && let Some(oldest) = oldest
        {
            self.report_if_stranger(oldest, HandshakeFailure::PushedOut);
            self.drop_link(now, oldest);
        }
        true
    }

    /// Whether a node that has introduced itself over this link may stay: places are kept for the peers of the config.
    pub(super) fn may_stay(&self, link: LinkId, node: &NodeId) -> bool {
        let Some(state) = self.links.get(&link) else { return false };
        if state.dialed().is_some() {
            // It had its place before.
            return true;
        }
        let taken = self.connected();
        let linked: BTreeSet<&NodeId> =
            self.links.values().filter_map(|link| Some(&link.peer()?.node)).collect();
        let configured =
            || self.addresses.of_peers().filter(|seen| seen.source == PeerSource::Config);
        let kept =
            match configured().any(|seen| seen.replica.is_some_and(|known| known.node == *node)) {
                true => 0,
                false => {
                    let is_linked = |known: &ReplicaId| linked.contains(&known.node);
                    configured().filter(|seen| !seen.replica.is_some_and(is_linked)).count()
                }
            };
        taken + kept < self.settings.links_max
    }

    /// Parts links into those that come first, and all others: first come peers that have proven a key, that we dialed, or
    /// that the config names.
    pub(super) fn first_and_others(&self, links: Vec<LinkId>) -> (Vec<LinkId>, Vec<LinkId>) {
        let configured: BTreeSet<&NodeId> =
            self.addresses.replicas().map(|replica| &replica.node).collect();
        links.into_iter().partition(|link| {
            self.links.get(link).is_some_and(|state| {
                state.proven != Proven::Nobody
                    || state.dialed().is_some()
                    || state.peer().is_some_and(|peer| configured.contains(&peer.node))
            })
        })
    }

    /// Draws some of the links by chance, those that come first before all others.
    pub(super) fn draw(&mut self, links: Vec<LinkId>, count: usize) -> Vec<LinkId> {
        let (mut first, mut others) = self.first_and_others(links);
        let (drawn, _) = first.partial_shuffle(&mut self.random, count);
        let missing = count - drawn.len();
        let mut drawn = drawn.to_vec();
        let (more, _) = others.partial_shuffle(&mut self.random, missing);
        drawn.extend_from_slice(more);
        drawn
    }
}

#[cfg(test)]
mod tests {
    use alloc::{format, vec};
    use core::time::Duration;

    use super::super::test_net::*;
    use super::super::{GossipSettings, Report};
    use super::*;
    use crate::wire::Message;

    fn comes(net: &mut Net, link: LinkId) {
        net.input(0, link_up(link, None));
    }

    fn greets(net: &mut Net, link: LinkId, replica: ReplicaId) {
        let asks = Message::Feed { passes_on: true, is_fed: true };
        net.hear(0, link, &[hello(replica), asks]);
    }

    #[test]
    fn who_has_not_said_a_word_has_one_of_few_places_and_the_oldest_goes_out() {
        let mut net = Net::new(&["a", "b"], &GossipSettings::default());
        net.run(Duration::from_secs(1));
        for n in 0..200 {
            comes(&mut net, LinkId(1_000 + n));
        }
        assert_eq!(net.links(0), 1 + STRANGERS_MAX);
        assert!(net.members[0].gossip.links.contains_key(&LinkId(1_199)));
        let reason = HandshakeFailure::PushedOut;
        assert!(net.reports.contains(&(0, Report::HandshakeFailed { dialed: None, reason })));
        net.add_to(0, "x", 3);
        net.run(Duration::from_millis(200));
        assert_eq!(net.values("x"), [3, 3]);
    }

    #[test]
    fn peers_of_the_config_find_a_place_among_all_who_greet() {
        let settings = GossipSettings { links_max: 100, ..GossipSettings::default() };
        let mut net = Net::new(&["a", "b"], &settings);
        net.run(Duration::from_secs(1));
        for n in 0..300 {
            comes(&mut net, LinkId(1_000 + n));
            greets(&mut net, LinkId(1_000 + n), replica(&format!("s{n}"), 1, n));
        }
        assert_eq!(net.links(0), 100, "b among them");
        assert!(net.members[0].table.rejections().connections_refused >= 200);
        // Its connection breaks, strangers come, and it comes again.
        net.partition(1);
        for n in 300..400 {
            comes(&mut net, LinkId(1_000 + n));
            greets(&mut net, LinkId(1_000 + n), replica(&format!("s{n}"), 1, n));
        }
        assert_eq!(net.links(0), 99, "its place is kept");
        net.cut.clear();
        net.run(Duration::from_secs(10));
        net.add_to(1, "x", 3);
        net.run(Duration::from_secs(1));
        assert_eq!(net.values("x"), [3, 3]);
    }

    #[test]
    fn news_goes_to_peers_of_the_config_however_many_others_ask_for_it() {
        // Digests come too rarely to help.
        let settings = GossipSettings {
            digest_interval: Duration::from_secs(36_000),
            silence_timeout: Duration::from_secs(72_000),
            ..GossipSettings::default()
        };
        let mut net = Net::new(&["a", "b"], &settings);
        net.run(Duration::from_secs(1));
        for n in 0..600 {
            comes(&mut net, LinkId(1_000 + n));
            greets(&mut net, LinkId(1_000 + n), replica(&format!("s{n}"), 1, n));
        }
        assert!(!net.members[0].gossip.is_direct());
        for n in 1..=20 {
            net.add_to(0, "x", 1);
            net.add_to(1, "x", 1);
            net.run(settings.interval * 4);
            assert_eq!(net.values("x"), vec![2 * n, 2 * n]);
        }
        assert!(net.members[0].gossip.news_links().len() <= settings.direct_up_to);
    }
}
