//! A network made of a queue for tests of the machine: no sockets, no clock but the test's.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::{borrow::ToOwned, string::String, string::ToString, vec::Vec};
use core::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::id::Incarnation;
use crate::key::CounterKey;
use crate::limit::Lifetime;
use crate::link::Proven;
use crate::table::{Bounds, Op};
use crate::time::Timestamp;

const TTL: Duration = Duration::from_secs(90_000);

pub(super) struct Member {
    pub gossip: Gossip,
    pub table: Arc<Table>,
    pub up: bool,
}

/// One end of a connection: whose it is, and the other end.
pub(super) type Ends = BTreeMap<LinkId, (usize, usize, LinkId)>;

pub(super) struct Net {
    pub members: Vec<Member>,
    pub ends: Ends,
    /// Frames under way: when they arrive, where, and what.
    pub frames: VecDeque<(Duration, LinkId, Vec<u8>)>,
    pub reports: Vec<(usize, Report)>,
    pub next_link: u64,
    pub now: Duration,
    pub random: StdRng,
    /// The chance that a frame is lost, and that it arrives twice.
    pub loss: f64,
    pub cut: Vec<(usize, usize)>,
    /// From which to which all frames are lost, and no connection ends.
    pub silent: Vec<(usize, usize)>,
    pub sent_bytes: usize,
    /// Links whose frames are not reported as sent, and how many frames those are.
    pub stalled: BTreeSet<LinkId>,
    pub unsent: BTreeMap<LinkId, usize>,
}

pub(super) fn replica(node: &str, boot: u64, nonce: u64) -> ReplicaId {
    ReplicaId { node: node.parse().unwrap(), incarnation: Incarnation { boot, nonce } }
}

pub(super) fn key(name: &str) -> CounterKey {
    CounterKey::new(name, &[]).unwrap()
}

pub(super) fn link_up(link: LinkId, dialed: Option<String>) -> Input {
    link_up_from(link, dialed, 9)
}

/// As [`link_up`], where the other end is at this index.
pub(super) fn link_up_from(link: LinkId, dialed: Option<String>, index: usize) -> Input {
    let remote = Some(alloc::format!("10.0.0.{index}"));
    Input::Link(LinkEvent::Up { link, dialed, remote, peer: Proven::Nobody })
}

/// What this replica begins with.
pub(super) fn hello(replica: ReplicaId) -> Message {
    Message::Hello {
        protocols: crate::wire::PROTOCOLS.to_vec(),
        replica,
        limits_digest: 0,
        cluster: crate::wire::DEFAULT_CLUSTER.into(),
        advertised: None,
    }
}

/// Where a member that listens can be dialed.
pub(super) fn address_of(index: usize) -> String {
    alloc::format!("10.0.0.{index}:1")
}

/// The index that an address leads to: a number, or what [`address_of`] makes of one.
fn index_of(address: &str) -> usize {
    let index = address.strip_prefix("10.0.0.").and_then(|rest| rest.strip_suffix(":1"));
    index.unwrap_or(address).parse().unwrap_or(usize::MAX)
}

impl Net {
    pub(super) fn new(names: &[&str], settings: &GossipSettings) -> Net {
        let mut net = Net {
            members: Vec::new(),
            ends: Ends::new(),
            frames: VecDeque::new(),
            reports: Vec::new(),
            next_link: 0,
            now: Duration::ZERO,
            random: StdRng::seed_from_u64(1),
            loss: 0.0,
            cut: Vec::new(),
            silent: Vec::new(),
            sent_bytes: 0,
            stalled: BTreeSet::new(),
            unsent: BTreeMap::new(),
        };
        for (index, name) in names.iter().enumerate() {
            net.add(replica(name, 1, index as u64), settings);
        }
        net
    }

    /// Adds a member that knows the address of every member, itself included: the index in the list.
    pub(super) fn add(&mut self, replica: ReplicaId, settings: &GossipSettings) {
        self.add_with(replica, settings, Bounds::default());
    }

    /// As [`add`](Self::add), with bounds of its own.
    pub(super) fn add_with(
        &mut self,
        replica: ReplicaId,
        settings: &GossipSettings,
        bounds: Bounds,
    ) {
        let table = Arc::new(Table::new(replica, bounds, [1, 2, 3, 4]));
        let seed = self.members.len() as u64;
        let gossip = Gossip::new(table.clone(), settings.clone(), seed, self.time());
        self.members.push(Member { gossip, table, up: true });
        for index in 0..self.members.len() {
            let addresses = (0..self.members.len()).map(|n| n.to_string().into()).collect();
            self.input(index, Input::Peers(addresses));
        }
    }

    /// Adds a member that listens and knows only these places; returns its own.
    pub(super) fn join(&mut self, name: &str, settings: &GossipSettings, seeds: &[usize]) -> usize {
        let index = self.members.len();
        let own = replica(name, 1, index as u64);
        let table = Arc::new(Table::new(own, Bounds::default(), [1, 2, 3, 4]));
        let gossip = Gossip::new(table.clone(), settings.clone(), index as u64, self.time());
        self.members.push(Member { gossip, table, up: true });
        let seeds = seeds.iter().map(|index| address_of(*index).into()).collect();
        self.input(index, Input::Peers(seeds));
        index
    }

    pub(super) fn time(&self) -> Now {
        Now { wall: Timestamp(self.now.as_millis() as u64), monotonic: self.now }
    }

    pub(super) fn input(&mut self, index: usize, input: Input) {
        let now = self.time();
        self.members[index].gossip.handle_input(now, input);
        self.outputs(index);
    }

    pub(super) fn outputs(&mut self, index: usize) {
        while let Some(output) = self.members[index].gossip.poll_output() {
            match output {
                Output::Dial { address } => self.dial(index, address),
                Output::Send { link, frame } => {
                    self.sent_bytes += frame.len();
                    let Some((_, to, far)) = self.ends.get(&link).copied() else { continue };
                    let copies = match self.random.random::<f64>() {
                        _ if self.silent.contains(&(index, to)) => 0,
                        chance if chance < self.loss => 0,
                        chance if chance < 2.0 * self.loss => 2,
                        _ => 1,
                    };
                    for _ in 0..copies {
                        let delay = Duration::from_micros(self.random.random_range(100..1_000));
                        self.frames.push_back((self.now + delay, far, frame.clone()));
                    }
                    match self.stalled.contains(&link) {
                        true => *self.unsent.entry(link).or_default() += 1,
                        false => {
                            self.input(index, Input::Link(LinkEvent::Sent { link, frames: 1 }));
                        }
                    }
                }
                Output::Close { link } => self.hang_up(link),
                Output::Report { report, .. } => self.reports.push((index, report)),
            }
        }
    }

    /// Messages come in at a member, in one frame.
    pub(super) fn hear(&mut self, index: usize, link: LinkId, messages: &[Message]) {
        let mut outbox = crate::wire::Outbox::default();
        for message in messages {
            assert!(outbox.push(message, 64 * 1024).is_none());
        }
        let bytes = outbox.finish().unwrap();
        self.input(index, Input::Link(LinkEvent::Frame { link, bytes }));
    }

    pub(super) fn dial(&mut self, from: usize, address: String) {
        let to = index_of(&address);
        let is_silent = self.silent.contains(&(from, to)) || self.silent.contains(&(to, from));
        if to >= self.members.len() || !self.members[to].up || self.is_cut(from, to) || is_silent {
            let error = "unreachable".to_owned();
            return self.input(from, Input::Link(LinkEvent::DialFailed { address, error }));
        }
        let (near, far) = (LinkId(self.next_link), LinkId(self.next_link + 1));
        self.next_link += 2;
        self.ends.insert(near, (from, to, far));
        self.ends.insert(far, (to, from, near));
        self.input(from, link_up_from(near, Some(address), to));
        self.input(to, link_up_from(far, None, from));
    }

    pub(super) fn hang_up(&mut self, link: LinkId) {
        let Some((_, to, far)) = self.ends.remove(&link) else { return };
        self.ends.remove(&far);
        // What was sent before the end still arrives before it.
        let (arriving, rest) = self.frames.drain(..).partition(|(_, at, _)| *at == far);
        let arriving: VecDeque<_> = arriving;
        self.frames = rest;
        for (_, _, frame) in arriving {
            self.input(to, Input::Link(LinkEvent::Frame { link: far, bytes: frame }));
        }
        self.input(to, Input::Link(LinkEvent::Down { link: far }));
    }

    pub(super) fn is_cut(&self, a: usize, b: usize) -> bool {
        self.cut.contains(&(a, b)) || self.cut.contains(&(b, a))
    }

    /// Splits the members into those below `index` and the rest; existing connections break.
    pub(super) fn partition(&mut self, index: usize) {
        let count = self.members.len();
        self.cut = (0..index).flat_map(|a| (index..count).map(move |b| (a, b))).collect();
        let broken = self.ends.iter().filter(|(_, (a, b, _))| self.is_cut(*a, *b));
        for link in broken.map(|(link, _)| *link).collect::<Vec<_>>() {
            let Some((near, far_place, far)) = self.ends.remove(&link) else { continue };
            self.ends.remove(&far);
            self.frames.retain(|(_, at, _)| *at != far && *at != link);
            self.input(near, Input::Link(LinkEvent::Down { link }));
            self.input(far_place, Input::Link(LinkEvent::Down { link: far }));
        }
    }

    pub(super) fn step(&mut self) {
        self.now += Duration::from_millis(1);
        // One by one: what one brings about may end the connection of another, before which that still arrives.
        while let Some((_, at, frame)) = self.next_frame() {
            if let Some((index, _, _)) = self.ends.get(&at).copied() {
                self.input(index, Input::Link(LinkEvent::Frame { link: at, bytes: frame }));
            }
        }
        for index in 0..self.members.len() {
            if self.members[index].up {
                let now = self.time();
                self.members[index].gossip.handle_timeout(now);
                self.outputs(index);
            }
        }
    }

    fn next_frame(&mut self) -> Option<(Duration, LinkId, Vec<u8>)> {
        let due = self.frames.iter().enumerate().filter(|(_, (at, _, _))| *at <= self.now);
        let (index, _) = due.min_by_key(|(_, (at, _, _))| *at)?;
        self.frames.remove(index)
    }

    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step();
        }
    }

    pub(super) fn add_to(&mut self, index: usize, name: &str, amount: u64) {
        let wall = self.time().wall;
        self.members[index]
            .table
            .execute(wall, &key(name), Op::Add(amount), Lifetime::new(TTL))
            .unwrap();
        if self.members[index].gossip.must_be_told() {
            self.input(index, Input::Changed);
        }
    }

    pub(super) fn values(&self, name: &str) -> Vec<u64> {
        let wall = self.time().wall;
        let live = self.members.iter().filter(|member| member.up);
        live.map(|member| member.table.value(wall, key(name).as_bytes())).collect()
    }

    /// How long until all live members hold the same.
    pub(super) fn converge(&mut self, within: Duration) -> Duration {
        let start = self.now;
        loop {
            let wall = self.time().wall;
            let live: Vec<_> = self.members.iter().filter(|member| member.up).collect();
            let state = |member: &Member| {
                member.table.harvest(crate::table::DirtySet::All);
                (member.table.version_vector(), member.table.state_checksum(wall))
            };
            if live.windows(2).all(|pair| state(pair[0]) == state(pair[1])) {
                return self.now - start;
            }
            assert!(self.now - start < within, "no convergence within {within:?}");
            self.run(Duration::from_millis(20));
        }
    }

    pub(super) fn links(&self, index: usize) -> usize {
        self.members[index].gossip.links.len()
    }
}
