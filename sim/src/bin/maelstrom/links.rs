//! Links over a network without connections. The dialer names a link and takes it for up at once; the other end does so at
//! the link's first message. Whether anybody is there, the gossip machine finds out by its time-outs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tallymesh_core::link::LinkId;

/// What both ends call a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkName {
    /// The node that dialed.
    dialer: String,
    /// Each dial of a node has a higher one than those before.
    number: u64,
}

/// What a message's link is to this node.
#[derive(Debug, PartialEq, Eq)]
pub enum Met {
    Known(LinkId),
    /// The other end has just dialed.
    New(LinkId),
    /// It was closed, or overtaken by a later one.
    Gone,
}

/// The links that are up, and what is needed to tell a new one from one that is gone.
#[derive(Debug)]
pub struct Links {
    own: String,
    up: BTreeMap<LinkId, (LinkName, String)>,
    next_id: u64,
    next_number: u64,
    /// The highest number seen from each dialer. The network delays and doubles messages: one that comes late must not
    /// bring its link back to life.
    highest: BTreeMap<String, u64>,
}

impl Links {
    /// No links yet of the node `own`, whose first will have the number `first`.
    pub fn new(own: &str, first: u64) -> Links {
        let (up, highest) = (BTreeMap::new(), BTreeMap::new());
        Links { own: own.to_owned(), up, next_id: 0, next_number: first, highest }
    }

    /// A new link to `peer`.
    pub fn dial(&mut self, peer: &str) -> LinkId {
        let name = LinkName { dialer: self.own.clone(), number: self.next_number };
        self.next_number += 1;
        self.insert(name, peer)
    }

    /// The link of a message that came from `peer`.
    pub fn meet(&mut self, name: &LinkName, peer: &str) -> Met {
        let known =
            |(_, (other, far)): &(&LinkId, &(LinkName, String))| other == name && far == peer;
        if let Some((id, _)) = self.up.iter().find(known) {
            return Met::Known(*id);
        }
        let highest = self.highest.get(peer);
        if name.dialer != peer || highest.is_some_and(|highest| name.number <= *highest) {
            return Met::Gone;
        }
        self.highest.insert(peer.to_owned(), name.number);
        Met::New(self.insert(name.clone(), peer))
    }

    /// What a link is called, and where it leads.
    pub fn end(&self, link: LinkId) -> Option<&(LinkName, String)> {
        self.up.get(&link)
    }

    /// Forgets a link that is over.
    pub fn remove(&mut self, link: LinkId) {
        self.up.remove(&link);
    }

    fn insert(&mut self, name: LinkName, peer: &str) -> LinkId {
        let link = LinkId(self.next_id);
        self.next_id += 1;
        self.up.insert(link, (name, peer.to_owned()));
        link
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_is_gone_is_not_brought_back_by_a_late_message() {
        let mut links = Links::new("n1", 7);
        let name = |number| LinkName { dialer: "n2".to_owned(), number };
        let Met::New(first) = links.meet(&name(3), "n2") else { panic!("it is new") };
        assert_eq!(links.meet(&name(3), "n2"), Met::Known(first));
        links.remove(first);
        assert_eq!(links.meet(&name(3), "n2"), Met::Gone);
        assert_eq!(links.meet(&name(2), "n2"), Met::Gone);
        assert!(matches!(links.meet(&name(4), "n2"), Met::New(_)));
    }

    #[test]
    fn nobody_else_gives_links_our_name() {
        let mut links = Links::new("n1", 7);
        let dialed = links.dial("n2");
        let name = links.end(dialed).unwrap().0.clone();
        assert_eq!(links.meet(&name, "n2"), Met::Known(dialed));
        assert_eq!(links.meet(&name, "n3"), Met::Gone);
        links.remove(dialed);
        assert_eq!(links.meet(&name, "n2"), Met::Gone);
    }
}
