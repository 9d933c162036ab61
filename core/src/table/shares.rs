//! Shares of the table's room: what one claimant takes must leave others what is kept for them.
//!
//! Half of the room is for those that come first. The other half is kept: a tenth of all room for what is decided here, in equal parts
//! for each limit, and four tenths for what other members count, in equal parts for each of them. Those that have used up their own part
//! may take more, as long as none that is kept for others is touched. So a flood of made-up sessions leaves room for new sessions of
//! other limits, a member that makes up counters leaves room for those of all others, and a node that joins can take in what the
//! others hold, whichever of them made it.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::id::NodeId;
use crate::sync::{Mutex, MutexGuard, PoisonError};

/// So many tenths of all room are kept for what is decided here ...
const OWN_TENTHS: usize = 1;
/// ... so many for what other members count ...
const MEMBERS_TENTHS: usize = 4;
/// ... and so many is the most that counters take of limits that this node does not know.
const UNKNOWN_TENTHS: usize = 2;
/// So many claimants are told apart; all further ones count as one.
const CLAIMANTS_MAX: usize = 4096;

/// For whom a counter takes room.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Claimant {
    /// What is decided here under the limit of this name.
    Limit(Box<str>),
    /// What is counted here under no limit of this node.
    NoLimit,
    /// What this member, or node that was one, has counted: a counter that was first heard of by a cell of it.
    Node(NodeId),
    /// What others have counted of limits that this node does not know.
    UnknownLimits,
    /// Nodes beyond as many as are told apart.
    Others,
}

/// What a claimant takes of the room for counters.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Share {
    /// Who it is.
    pub claimant: Claimant,
    /// How many counters are held for it.
    pub held: usize,
    /// How many it may have in any case.
    pub kept: usize,
    /// How often there was no room for one more.
    pub refused: u64,
}

/// A claimant, in as little memory as a counter has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct ClaimId(u16);

impl ClaimId {
    const NO_LIMIT: ClaimId = ClaimId(0);
    const UNKNOWN_LIMITS: ClaimId = ClaimId(1);
    const OTHERS: ClaimId = ClaimId(2);
}

/// All claimants. Locked after everything else.
#[derive(Debug)]
pub(super) struct Shares(Mutex<Room>);

#[derive(Debug)]
struct Room {
    /// How many counters there may be.
    all: usize,
    held: usize,
    /// What is kept and not used.
    unused: usize,
    /// By their numbers; an empty one is free.
    shares: Vec<Option<Share>>,
    free: Vec<ClaimId>,
    /// Where this node has none, no limit is unknown.
    limits: BTreeMap<Box<str>, ClaimId>,
    nodes: BTreeMap<NodeId, ClaimId>,
}

impl Shares {
    /// Of a table of so many counters, in which these limits count.
    pub(super) fn new(all: usize, limits: &[Box<str>]) -> Shares {
        let fixed = [Claimant::NoLimit, Claimant::UnknownLimits, Claimant::Others];
        let mut room = Room {
            all,
            held: 0,
            unused: 0,
            shares: fixed.map(|claimant| Some(Share::of(claimant))).into(),
            free: Vec::new(),
            limits: BTreeMap::new(),
            nodes: BTreeMap::new(),
        };
        room.keep_for_limits(limits);
        Shares(Mutex::new(room))
    }

    fn lock(&self) -> MutexGuard<'_, Room> {
        // Nothing that runs under the lock panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These are the other members.
    pub(super) fn set_members(&self, names: &BTreeSet<NodeId>) {
        self.lock().keep_for_members(names);
    }

    /// Takes room for a counter that is used here first, if there is any.
    pub(super) fn take(&self, limit: &str) -> Option<ClaimId> {
        let mut room = self.lock();
        let id = room.of_limit(limit);
        room.take(id)
    }

    /// Takes room for a counter that is first heard of by a cell of this node, if there is any.
    pub(super) fn take_for_node(&self, node: &NodeId, limit: &str) -> Option<ClaimId> {
        let mut room = self.lock();
        let id = room.of_node(node, limit);
        room.take(id)
    }

    /// Takes room for a counter that was held before, although there may be none. `node` is another node that has a cell of it.
    pub(super) fn take_again(&self, node: Option<&NodeId>, limit: &str) -> ClaimId {
        let mut room = self.lock();
        let id = match node {
            Some(node) => room.of_node(node, limit),
            None => room.of_limit(limit),
        };
        room.hold(id);
        id
    }

    /// Gives room back.
    pub(super) fn release(&self, id: ClaimId) {
        self.lock().release(id);
    }

    /// For how many of the first of these counters there is room, if all are used here first.
    pub(super) fn room_for<'a>(&self, limits: impl Iterator<Item = &'a str>) -> usize {
        let mut room = self.lock();
        let mut taken: Vec<ClaimId> = Vec::new();
        for limit in limits {
            let id = room.of_limit(limit);
            if !room.has_room(id) {
                break;
            }
            room.hold(id);
            taken.push(id);
        }
        taken.iter().for_each(|id| room.put_back(*id));
        taken.len()
    }

    /// How many counters are held.
    pub(super) fn held(&self) -> usize {
        self.lock().held
    }

    /// Those for whom there was not always room, the one that has taken most first.
    pub(super) fn refused(&self) -> Vec<Share> {
        let room = self.lock();
        let refused = room.shares.iter().flatten().filter(|share| share.refused > 0);
        let mut refused: Vec<Share> = refused.cloned().collect();
        refused.sort_by(|a, b| b.held.cmp(&a.held).then_with(|| a.claimant.cmp(&b.claimant)));
        refused
    }
}

impl Share {
    fn of(claimant: Claimant) -> Share {
        Share { claimant, held: 0, kept: 0, refused: 0 }
    }

    /// What is kept for it and not used.
    fn unused(&self) -> usize {
        self.kept.saturating_sub(self.held)
    }
}

impl Room {
    fn tenths(&self, tenths: usize) -> usize {
        (self.all as u128 * tenths as u128 / 10) as usize
    }

    /// Keeps what is kept for own decisions for these limits; where there are none, for what is counted under none.
    fn keep_for_limits(&mut self, names: &[Box<str>]) {
        let each = self.tenths(OWN_TENTHS) / names.len().max(1);
        for name in names {
            let id = self.number(Claimant::Limit(name.clone()));
            self.limits.insert(name.clone(), id);
            self.keep(id, each);
        }
        if names.is_empty() {
            self.keep(ClaimId::NO_LIMIT, each);
        }
        self.reckon();
    }

    /// Keeps what is kept for other members for these.
    fn keep_for_members(&mut self, names: &BTreeSet<NodeId>) {
        let each = self.tenths(MEMBERS_TENTHS) / names.len().max(1);
        let gone = self.nodes.iter().filter(|(node, _)| !names.contains(*node));
        for id in gone.map(|(_, id)| *id).collect::<Vec<_>>() {
            self.keep(id, 0);
        }
        for node in names {
            let id = self.of_member(node);
            self.keep(id, each);
        }
        self.reckon();
    }

    /// Keeps so much for a claimant from now on.
    fn keep(&mut self, id: ClaimId, kept: usize) {
        if let Some(share) = self.share(id).filter(|_| id != ClaimId::OTHERS) {
            share.kept = kept;
        }
        self.forget_if_empty(id);
    }

    fn reckon(&mut self) {
        self.unused = self.shares.iter().flatten().map(Share::unused).sum();
    }

    fn of_limit(&self, limit: &str) -> ClaimId {
        self.limits.get(limit).copied().unwrap_or(ClaimId::NO_LIMIT)
    }

    fn of_node(&mut self, node: &NodeId, limit: &str) -> ClaimId {
        if !self.limits.is_empty() && !self.limits.contains_key(limit) {
            return ClaimId::UNKNOWN_LIMITS;
        }
        self.of_member(node)
    }

    fn of_member(&mut self, node: &NodeId) -> ClaimId {
        if let Some(id) = self.nodes.get(node) {
            return *id;
        }
        let id = self.number(Claimant::Node(node.clone()));
        if id != ClaimId::OTHERS {
            self.nodes.insert(node.clone(), id);
        }
        id
    }

    /// Gives a claimant a number.
    fn number(&mut self, claimant: Claimant) -> ClaimId {
        if let Some(id) = self.free.pop() {
            if let Some(free) = self.shares.get_mut(usize::from(id.0)) {
                *free = Some(Share::of(claimant));
            }
            return id;
        }
        if self.shares.len() >= CLAIMANTS_MAX {
            return ClaimId::OTHERS;
        }
        let id = ClaimId(self.shares.len() as u16);
        self.shares.push(Some(Share::of(claimant)));
        id
    }

    fn share(&mut self, id: ClaimId) -> Option<&mut Share> {
        self.shares.get_mut(usize::from(id.0))?.as_mut()
    }

    fn take(&mut self, id: ClaimId) -> Option<ClaimId> {
        if self.has_room(id) {
            self.hold(id);
            return Some(id);
        }
        if let Some(share) = self.share(id) {
            share.refused += 1;
        }
        None
    }

    fn has_room(&mut self, id: ClaimId) -> bool {
        let most =
            if id == ClaimId::UNKNOWN_LIMITS { self.tenths(UNKNOWN_TENTHS) } else { self.all };
        let (held, all, unused) = (self.held, self.all, self.unused);
        let Some(share) = self.share(id) else { return false };
        held < all && share.held < most && (share.unused() > 0 || held + unused < all)
    }

    fn hold(&mut self, id: ClaimId) {
        self.held += 1;
        let Some(share) = self.share(id) else { return };
        let used = usize::from(share.unused() > 0);
        share.held += 1;
        self.unused -= used;
    }

    fn put_back(&mut self, id: ClaimId) {
        self.held -= 1;
        let Some(share) = self.share(id) else { return };
        share.held -= 1;
        let kept_again = usize::from(share.unused() > 0);
        self.unused += kept_again;
    }

    fn release(&mut self, id: ClaimId) {
        self.put_back(id);
        self.forget_if_empty(id);
    }

    /// A node that holds nothing and for which nothing is kept need not be told apart.
    fn forget_if_empty(&mut self, id: ClaimId) {
        let empty = |share: &Share| match &share.claimant {
            Claimant::Node(node) if share.held == 0 && share.kept == 0 => Some(node.clone()),
            _ => None,
        };
        let Some(held) = self.shares.get_mut(usize::from(id.0)) else { return };
        if let Some(node) = held.as_ref().and_then(empty) {
            *held = None;
            self.nodes.remove(&node);
            self.free.push(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node(name: &str) -> NodeId {
        name.parse().unwrap()
    }

    fn shares(all: usize, limits: &[&str], members: &[&str]) -> Shares {
        let limits: Vec<Box<str>> = limits.iter().map(|name| (*name).into()).collect();
        let shares = Shares::new(all, &limits);
        shares.set_members(&members.iter().map(|name| node(name)).collect());
        shares
    }

    fn of(shares: &Shares, claimant: Claimant) -> Share {
        let room = shares.lock();
        room.shares.iter().flatten().find(|share| share.claimant == claimant).unwrap().clone()
    }

    #[test]
    fn a_node_alone_with_one_limit_has_all_room() {
        for limits in [&[][..], &["calls"]] {
            let shares = shares(100, limits, &[]);
            assert_eq!((0..101).filter(|_| shares.take("calls").is_some()).count(), 100);
        }
    }

    #[test]
    fn a_flood_of_one_limit_leaves_room_for_others_and_for_members() {
        let shares = shares(1000, &["calls", "tokens"], &["b", "c"]);
        assert_eq!((0..2000).filter(|_| shares.take("calls").is_some()).count(), 550);
        assert_eq!(shares.refused().len(), 1);
        let refused = &shares.refused()[0];
        assert_eq!(refused.claimant, Claimant::Limit("calls".into()));
        assert_eq!((refused.held, refused.kept, refused.refused), (550, 50, 1450));
        assert_eq!(shares.room_for(["tokens"; 70].into_iter()), 50);
        assert_eq!((0..70).filter(|_| shares.take("tokens").is_some()).count(), 50);
        for name in ["b", "c"] {
            let took = |_: &i32| shares.take_for_node(&node(name), "calls").is_some();
            assert_eq!((0..300).filter(took).count(), 200, "{name}");
        }
        assert!(shares.take_for_node(&node("unheard-of"), "calls").is_none());
    }

    #[test]
    fn a_member_that_makes_up_counters_leaves_room_for_all_others() {
        let shares = shares(1000, &["calls"], &["liar", "good"]);
        let took = |_: &i32| shares.take_for_node(&node("liar"), "calls").is_some();
        assert_eq!((0..2000).filter(took).count(), 700);
        let took = |_: &i32| shares.take_for_node(&node("good"), "calls").is_some();
        assert_eq!((0..2000).filter(took).count(), 200);
        assert_eq!((0..2000).filter(|_| shares.take("calls").is_some()).count(), 100);
        let unknown = shares.take_for_node(&node("good"), "unknown");
        assert!(unknown.is_none(), "all is taken");
    }

    #[test]
    fn limits_that_are_not_known_take_a_part() {
        for (limits, taken) in [(&[][..], 900), (&["calls"], 200)] {
            let shares = shares(1000, limits, &[]);
            let took = |_: &i32| shares.take_for_node(&node("b"), "unknown").is_some();
            assert_eq!((0..2000).filter(took).count(), taken, "{limits:?}");
        }
    }

    #[test]
    fn what_is_there_is_held_even_where_there_is_no_room() {
        let shares = shares(2, &["calls"], &[]);
        let ids: Vec<ClaimId> =
            (0..5).map(|_| shares.take_again(Some(&node("b")), "calls")).collect();
        assert!(shares.take("calls").is_none());
        for id in ids {
            shares.release(id);
        }
        assert!(shares.take("calls").is_some());
    }

    #[test]
    fn nodes_that_hold_nothing_are_forgotten_and_too_many_count_as_one() {
        let shares = shares(1_000_000, &[], &[]);
        let name = |n: usize| node(&alloc::format!("n{n}"));
        let ids: Vec<ClaimId> =
            (0..2 * CLAIMANTS_MAX).map(|n| shares.take_again(Some(&name(n)), "c")).collect();
        assert_eq!(of(&shares, Claimant::Others).held, CLAIMANTS_MAX + 3);
        ids.into_iter().for_each(|id| shares.release(id));
        let room = shares.lock();
        assert_eq!((room.held, room.nodes.len(), room.shares.iter().flatten().count()), (0, 0, 3));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Take(usize),
        TakeFor(usize, usize),
        Release(usize),
        Members(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..4_usize).prop_map(Step::Take),
            4 => (0..4_usize, 0..4_usize).prop_map(|(node, limit)| Step::TakeFor(node, limit)),
            4 => any::<usize>().prop_map(Step::Release),
            1 => (0..4_usize).prop_map(Step::Members),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn the_bound_holds_and_what_is_kept_is_there(
            room_for in 0..60_usize,
            known in 0..4_usize,
            steps in prop::collection::vec(step(), 0..200),
        ) {
            let (limits, nodes) = (["a", "b", "c", "d"], ["n0", "n1", "n2", "n3"].map(node));
            let shares = shares(room_for, &limits[..known], &[]);
            let mut taken: Vec<ClaimId> = Vec::new();
            for step in steps {
                match step {
                    Step::Take(limit) => taken.extend(shares.take(limits[limit])),
                    Step::TakeFor(of, limit) => {
                        taken.extend(shares.take_for_node(&nodes[of], limits[limit]));
                    }
                    Step::Release(which) if !taken.is_empty() => {
                        shares.release(taken.swap_remove(which % taken.len()));
                    }
                    Step::Release(_) => {}
                    Step::Members(some) => {
                        shares.set_members(&nodes.iter().take(some).cloned().collect());
                    }
                }
                let room = shares.lock();
                prop_assert!(room.held == taken.len() && room.held <= room_for);
                let all = || room.shares.iter().flatten();
                prop_assert_eq!(all().map(|share| share.held).sum::<usize>(), room.held);
                prop_assert_eq!(all().map(Share::unused).sum::<usize>(), room.unused);
                prop_assert!(all().map(|share| share.kept).sum::<usize>() <= room_for / 2);
            }
        }
    }
}
