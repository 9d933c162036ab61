//! Who brought what: by which links the updates of each replica came, and which cells took a counter over its limit.
//!
//! As with letters: the sender's name on a letter is whatever was written there, but the carrier who handed it over was seen. A cell says
//! whose it is; a link is what brought it. Where a node tells lies in the name of others, the cells have many names, and one carrier.
//!
//! Both are bounded: a few links of each replica, and the latest crossings. What is not kept is counted.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Table;
use crate::crdt::{Cell, Update};
use crate::id::ReplicaId;
use crate::key::CounterKey;
use crate::limit::Limit;
use crate::limit::rule::{self, Reading};
use crate::link::LinkName;
use crate::time::Timestamp;

/// How many links are remembered of each replica: those that brought something last.
pub const LINKS_MAX: usize = 8;
/// How many crossings are remembered: the latest.
pub const CROSSINGS_MAX: usize = 4096;

/// What a link brought of a replica since the start.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Brought {
    /// The link.
    pub link: Arc<LinkName>,
    /// How many updates of the replica it brought that were new here.
    pub updates: u64,
    /// When it brought the last of them.
    pub last: Timestamp,
}

/// All links that brought updates of a replica since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bringers {
    /// The links that are remembered: at most 8, those that brought something last.
    pub links: Vec<Brought>,
    /// How many updates came by links that are not remembered any more.
    pub by_others: u64,
}

/// A cell that took a counter from under its limit to the limit or over it when it was merged.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Crossing {
    /// The counter.
    pub key: CounterKey,
    /// Whose cell it was.
    pub replica: ReplicaId,
    /// The cell.
    pub cell: Cell,
    /// The counter's value before.
    pub before: u64,
    /// The counter's value with the cell.
    pub after: u64,
    /// The maximum of its limit here.
    pub max: u64,
    /// By which link it came.
    pub link: Arc<LinkName>,
    /// When.
    pub at: Timestamp,
}

impl Bringers {
    /// Notes that a link brought so many updates.
    pub(super) fn note(&mut self, now: Timestamp, link: &Arc<LinkName>, updates: u64) {
        // Mostly it is the very same; a link that comes again has the same name.
        let same = |known: &&mut Brought| Arc::ptr_eq(&known.link, link) || known.link == *link;
        if let Some(known) = self.links.iter_mut().find(same) {
            known.updates = known.updates.saturating_add(updates);
            known.last = known.last.max(now);
            return;
        }
        let brought = Brought { link: link.clone(), updates, last: now };
        if self.links.len() < LINKS_MAX {
            // Of most replicas one link tells: no room is made for more.
            self.links.reserve_exact(1);
            return self.links.push(brought);
        }
        if let Some(oldest) = self.links.iter_mut().min_by_key(|known| known.last) {
            self.by_others = self.by_others.saturating_add(oldest.updates);
            *oldest = brought;
        }
    }
}

/// The limits that are watched, and the cells that crossed them.
#[derive(Debug, Default)]
pub(super) struct Crossings {
    limits: Vec<Limit>,
    /// Their maxima, ascending.
    maxima: Vec<u64>,
    latest: VecDeque<Arc<Crossing>>,
}

impl Crossings {
    /// Whether a counter whose value went so may have crossed its limit. Nearly all did not, which this finds without looking
    /// for its limit.
    pub(super) fn may_be(&self, (before, after): (u64, u64)) -> bool {
        let next = self.maxima.partition_point(|max| *max <= before);
        self.maxima.get(next).is_some_and(|max| *max <= after)
    }

    /// Notes the cell of an update if it took its counter over the limit.
    pub(super) fn note(
        &mut self,
        at: Timestamp,
        link: &Arc<LinkName>,
        replica: &ReplicaId,
        update: &Update,
        (before, after): (u64, u64),
    ) {
        // What was merged has a key.
        let Ok(key) = CounterKey::from_bytes(&update.key) else { return };
        let crosses = |limit: &&Limit| {
            let has_room = |used| rule::judge(Reading { used, max: limit.max() }, 1).is_room();
            has_room(before) && !has_room(after)
        };
        let mut crossed = self.limits.iter().filter(crosses);
        let Some(limit) = crossed.find(|limit| limit.counts_in(&key)) else { return };
        let max = limit.max();
        if self.latest.len() >= CROSSINGS_MAX {
            self.latest.pop_front();
        }
        let (replica, cell, link) = (replica.clone(), update.cell(), link.clone());
        let crossing = Crossing { key, replica, cell, before, after, max, link, at };
        self.latest.push_back(Arc::new(crossing));
    }
}

impl Table {
    /// Notes from now on which cells take a counter of these limits over its maximum.
    pub fn watch_limits(&self, limits: &[Limit]) {
        let mut maxima: Vec<u64> = limits.iter().map(Limit::max).collect();
        maxima.sort_unstable();
        let crossings = &mut self.lock_replicas().crossings;
        (crossings.limits, crossings.maxima) = (limits.to_vec(), maxima);
    }

    /// By which links the updates of a replica came since the start; none of a replica that is not known, or of the own one.
    pub fn bringers(&self, replica: &ReplicaId) -> Bringers {
        let replicas = self.lock_replicas();
        let index = replicas.index(replica);
        index.map(|index| replicas.replica(index).bringers.clone()).unwrap_or_default()
    }

    /// The last 4,096 cells that took a counter over its limit since the start, the latest first.
    pub fn crossings(&self) -> Vec<Arc<Crossing>> {
        self.lock_replicas().crossings.latest.iter().rev().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use core::time::Duration;

    use super::*;
    use crate::crdt::Marks;
    use crate::id::Version;
    use crate::limit::{Policy, Window};
    use crate::table::tests::{replica, table};

    const NOW: Timestamp = Timestamp(1_000);

    fn link(name: &str) -> Arc<LinkName> {
        Arc::new(LinkName { node: name.parse().unwrap(), key: None, address: None })
    }

    fn limits() -> [Limit; 2] {
        let hour = Window::Fixed(Duration::from_secs(3600));
        [Limit::new("calls", 10, hour).per("user"), Limit::new("spend", 100, hour).per("user")]
    }

    /// That a cell of the limit's counter of this user is `p`.
    fn update(limit_index: usize, user: &str, version: u64, p: u64) -> Update {
        let key = Policy::new(limits()).unwrap().key_under(limit_index, [user], NOW);
        let (version, marks) = (Version(version), Marks::default());
        Update { key, version, generation: 0, p, n: 0, marks }
    }

    #[test]
    fn a_cell_that_takes_a_counter_over_its_limit_is_noted_with_its_link() {
        let table = table("a");
        table.watch_limits(&limits());
        let (honest, forger) = (link("b"), link("mallory"));
        let (b, c) = (replica("b", 1), replica("c", 1));
        table.apply_from(NOW, &honest, &b, &[update(0, "u", 1, 9), update(1, "u", 2, 60)]);
        assert!(table.crossings().is_empty(), "60 is over another limit's maximum");
        table.apply_from(Timestamp(1_001), &forger, &c, &[update(0, "u", 1, 5)]);
        table.apply_from(Timestamp(1_002), &honest, &b, &[update(0, "u", 3, 20)]);
        let crossings = table.crossings();
        let [crossing] = &crossings[..] else { panic!("{crossings:?}") };
        assert_eq!((crossing.before, crossing.after, crossing.max), (9, 14, 10));
        assert_eq!((&crossing.replica, crossing.at), (&c, Timestamp(1_001)));
        assert_eq!((crossing.link.clone(), crossing.cell.p), (forger, 5));
        assert_eq!(crossing.key.values().collect::<Vec<_>>(), ["u"]);
        // What is told twice has crossed once, and a counter of no limit has none to cross.
        table.apply_from(NOW, &honest, &c, &[update(0, "u", 1, 5)]);
        let plain = CounterKey::new("calls", &["u"]).unwrap();
        let marks = Marks { at: 992, p0: 3_600_000, n0: 0 };
        let plain = Update { key: plain.as_bytes().into(), marks, ..update(0, "u", 9, 500) };
        assert_eq!(table.apply_from(NOW, &honest, &c, &[plain]).new.len(), 1);
        assert_eq!(table.crossings().len(), 1);
    }

    #[test]
    fn the_latest_crossings_are_kept() {
        let table = table("a");
        table.watch_limits(&limits());
        let (link, b) = (link("b"), replica("b", 1));
        for number in 0..CROSSINGS_MAX as u64 + 7 {
            table.apply_from(NOW, &link, &b, &[update(0, &number.to_string(), number + 1, 10)]);
        }
        let crossings = table.crossings();
        assert_eq!(crossings.len(), CROSSINGS_MAX);
        assert_eq!(crossings[0].key.values().next(), Some("4102"));
        assert_eq!(crossings[CROSSINGS_MAX - 1].key.values().next(), Some("7"));
    }

    #[test]
    fn each_replica_has_the_links_that_brought_its_updates() {
        let (table, b) = (table("a"), replica("b", 1));
        let bring = |now: u64, by: &str, version: u64| {
            let updates = [update(0, "u", version, version), update(1, "u", version + 1, version)];
            table.apply_from(Timestamp(now), &link(by), &b, &updates);
        };
        bring(1_000, "b", 1);
        bring(1_500, "b", 3);
        bring(2_000, "c", 3);
        let of = |bringers: &Bringers| -> Vec<_> {
            let told = bringers.links.iter();
            told.map(|one| (one.link.node.to_string(), one.updates, one.last.0)).collect()
        };
        assert_eq!(of(&table.bringers(&b)), [("b".to_string(), 4, 1_500)], "c brought nothing new");
        for number in 0..LINKS_MAX as u64 {
            bring(3_000 + number, &number.to_string(), 5 + 2 * number);
        }
        let bringers = table.bringers(&b);
        assert_eq!((bringers.links.len(), bringers.by_others), (LINKS_MAX, 4));
        assert!(of(&bringers).iter().all(|(name, ..)| name != "b"), "{bringers:?}");
        assert_eq!(table.bringers(&replica("unknown", 1)), Bringers::default());
        assert_eq!(table.bringers(&replica("a", 1)), Bringers::default());
    }
}
