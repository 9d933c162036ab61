//! Machines that talk to each other over a network made of a queue: no sockets, no clock but the test's.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::id::Incarnation;
use crate::key::CounterKey;
use crate::link::Proven;
use crate::table::{Bounds, Op};
use crate::time::Timestamp;

const END: Timestamp = Timestamp(90_000_000);

struct Member {
    gossip: Gossip,
    table: Arc<Table>,
    up: bool,
}

/// One end of a connection: whose it is, and the other end.
type Ends = BTreeMap<LinkId, (usize, usize, LinkId)>;

struct Net {
    members: Vec<Member>,
    ends: Ends,
    /// Frames under way: when they arrive, where, and what.
    frames: VecDeque<(Duration, LinkId, Vec<u8>)>,
    reports: Vec<(usize, Report)>,
    next_link: u64,
    now: Duration,
    random: StdRng,
    /// The chance that a frame is lost, and that it arrives twice.
    loss: f64,
    cut: Vec<(usize, usize)>,
    sent_bytes: usize,
}

fn replica(node: &str, boot: u64, nonce: u64) -> ReplicaId {
    ReplicaId { node: node.parse().unwrap(), incarnation: Incarnation { boot, nonce } }
}

fn key(name: &str) -> CounterKey {
    CounterKey::new(name, &[])
}

fn link_up(link: LinkId, dialed: Option<String>) -> Input {
    Input::Link(LinkEvent::Up { link, dialed, peer: Proven::Nobody })
}

impl Net {
    fn new(names: &[&str], settings: &GossipSettings) -> Net {
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
            sent_bytes: 0,
        };
        for (place, name) in names.iter().enumerate() {
            net.add(replica(name, 1, place as u64), settings);
        }
        net
    }

    /// Adds a member that knows everybody's address, itself included: the place in the list.
    fn add(&mut self, replica: ReplicaId, settings: &GossipSettings) {
        let table = Arc::new(Table::new(replica, Bounds::default(), [1, 2, 3, 4]));
        let seed = self.members.len() as u64;
        let gossip = Gossip::new(table.clone(), settings.clone(), seed, self.time());
        self.members.push(Member { gossip, table, up: true });
        for place in 0..self.members.len() {
            let addresses = (0..self.members.len()).map(|n| n.to_string()).collect();
            self.input(place, Input::Addresses(addresses));
        }
    }

    fn time(&self) -> Now {
        Now { wall: Timestamp(self.now.as_millis() as u64), monotonic: self.now }
    }

    fn input(&mut self, place: usize, input: Input) {
        let now = self.time();
        self.members[place].gossip.handle_input(now, input);
        self.outputs(place);
    }

    fn outputs(&mut self, place: usize) {
        while let Some(output) = self.members[place].gossip.poll_output() {
            match output {
                Output::Dial { address } => self.dial(place, address),
                Output::Send { link, frame } => {
                    self.sent_bytes += frame.len();
                    let Some((_, _, far)) = self.ends.get(&link).copied() else { continue };
                    let copies = match self.random.random::<f64>() {
                        chance if chance < self.loss => 0,
                        chance if chance < 2.0 * self.loss => 2,
                        _ => 1,
                    };
                    for _ in 0..copies {
                        let delay = Duration::from_micros(self.random.random_range(100..1_000));
                        self.frames.push_back((self.now + delay, far, frame.clone()));
                    }
                    self.input(place, Input::Link(LinkEvent::Sent { link, frames: 1 }));
                }
                Output::Close { link } => self.hang_up(link),
                Output::Report(report) => self.reports.push((place, report)),
            }
        }
    }

    fn dial(&mut self, from: usize, address: String) {
        let to: usize = address.parse().unwrap();
        if !self.members[to].up || self.is_cut(from, to) {
            let error = "unreachable".to_owned();
            return self.input(from, Input::Link(LinkEvent::DialFailed { address, error }));
        }
        let (near, far) = (LinkId(self.next_link), LinkId(self.next_link + 1));
        self.next_link += 2;
        self.ends.insert(near, (from, to, far));
        self.ends.insert(far, (to, from, near));
        self.input(from, link_up(near, Some(address)));
        self.input(to, link_up(far, None));
    }

    fn hang_up(&mut self, link: LinkId) {
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

    fn is_cut(&self, a: usize, b: usize) -> bool {
        self.cut.contains(&(a, b)) || self.cut.contains(&(b, a))
    }

    /// Splits the members into those below `place` and the rest; existing connections break.
    fn partition(&mut self, place: usize) {
        let count = self.members.len();
        self.cut = (0..place).flat_map(|a| (place..count).map(move |b| (a, b))).collect();
        let broken = self.ends.iter().filter(|(_, (a, b, _))| self.is_cut(*a, *b));
        for link in broken.map(|(link, _)| *link).collect::<Vec<_>>() {
            let Some((near, far_place, far)) = self.ends.remove(&link) else { continue };
            self.ends.remove(&far);
            self.frames.retain(|(_, at, _)| *at != far && *at != link);
            self.input(near, Input::Link(LinkEvent::Down { link }));
            self.input(far_place, Input::Link(LinkEvent::Down { link: far }));
        }
    }

    fn step(&mut self) {
        self.now += Duration::from_millis(1);
        let (mut due, later): (Vec<_>, Vec<_>) =
            self.frames.drain(..).partition(|(at, _, _)| *at <= self.now);
        self.frames = later.into();
        due.sort_by_key(|(at, _, _)| *at);
        for (_, at, frame) in due {
            if let Some((place, _, _)) = self.ends.get(&at).copied() {
                self.input(place, Input::Link(LinkEvent::Frame { link: at, bytes: frame }));
            }
        }
        for place in 0..self.members.len() {
            if self.members[place].up {
                let now = self.time();
                self.members[place].gossip.handle_timeout(now);
                self.outputs(place);
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step();
        }
    }

    fn add_to(&mut self, place: usize, name: &str, amount: u64) {
        let wall = self.time().wall;
        self.members[place].table.execute(wall, &key(name), Op::Add(amount), END).unwrap();
        if self.members[place].gossip.must_be_told() {
            self.input(place, Input::Changed);
        }
    }

    fn values(&self, name: &str) -> Vec<u64> {
        let wall = self.time().wall;
        let live = self.members.iter().filter(|member| member.up);
        live.map(|member| member.table.value(wall, key(name).as_bytes())).collect()
    }

    /// How long until all live members hold the same.
    fn converge(&mut self, within: Duration) -> Duration {
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

    fn links(&self, place: usize) -> usize {
        self.members[place].gossip.links.len()
    }
}

#[test]
fn three_members_find_each_other_over_one_link_each_and_leave_themselves_alone() {
    let mut net = Net::new(&["a", "b", "c"], &GossipSettings::default());
    net.run(Duration::from_secs(3));
    for place in 0..3 {
        assert_eq!(net.links(place), 2, "of member {place}");
        assert!(net.members[place].gossip.is_caught_up());
        let peers = net.members[place].gossip.peers(net.time());
        assert!(peers.len() == 2 && peers.iter().all(|peer| peer.connected), "{peers:?}");
        assert!(peers.iter().all(|peer| peer.clock_offset_ms == Some(0)), "{peers:?}");
    }
    let own = net.reports.iter().filter(|(_, report)| matches!(report, Report::OwnAddress { .. }));
    assert_eq!(own.count(), 3);
}

#[test]
fn a_change_reaches_everybody_within_a_round_and_is_acknowledged() {
    let mut net = Net::new(&["a", "b", "c"], &GossipSettings::default());
    net.run(Duration::from_secs(1));
    net.add_to(0, "x", 5);
    net.run(Duration::from_millis(70));
    assert_eq!(net.values("x"), [5, 5, 5]);
    net.run(Duration::from_millis(70));
    let peers = net.members[0].gossip.peers(net.time());
    assert!(peers.iter().all(|peer| peer.lag == 0), "{peers:?}");
}

#[test]
fn members_with_nothing_to_tell_rest_and_tell_a_change_as_soon_as_ever() {
    for direct_up_to in [32, 1] {
        let settings = GossipSettings {
            digest_interval: Duration::from_secs(60),
            silence_timeout: Duration::from_secs(120),
            direct_up_to,
            ..GossipSettings::default()
        };
        let mut net = Net::new(&["a", "b", "c"], &settings);
        net.run(Duration::from_secs(200));
        let mut rested = 0;
        for round in 1..=20 {
            net.add_to(round % 3, "x", 1);
            net.run(Duration::from_millis(150));
            assert_eq!(net.values("x"), [round as u64; 3], "direct up to {direct_up_to}");
            let awake = |net: &Net, place: usize| {
                let due = net.members[place].gossip.poll_timeout();
                due.saturating_sub(net.time().monotonic) < Duration::from_millis(60)
            };
            assert!((0..3).all(|place| awake(&net, place)), "they stay awake for a while");
            net.run(Duration::from_secs(3));
            rested += (0..3).filter(|place| !awake(&net, *place)).count();
        }
        // Now and then a digest is due, which looks like being awake.
        assert!(rested > 55, "{rested} of 60, direct up to {direct_up_to}");
    }
}

#[test]
fn what_is_urgent_does_not_wait_for_the_round() {
    let slow = GossipSettings { interval: Duration::from_secs(30), ..GossipSettings::default() };
    let mut net = Net::new(&["a", "b"], &slow);
    net.run(Duration::from_secs(12));
    let policy = crate::limit::Policy::new([crate::limit::Limit::new(
        "x",
        2,
        crate::limit::Window::Session { ttl: Duration::from_secs(3600) },
    )])
    .unwrap();
    let now = net.time().wall;
    let peers = net.members[0].gossip.peers(net.time());
    assert!(peers.iter().all(|peer| peer.connected), "slow rounds do not make peers seem gone");
    for _ in 0..2 {
        let mut demands = crate::limit::Demands::default();
        policy.find_demands(&crate::limit::Request::new(), now, 512, &mut demands).unwrap();
        net.members[0].table.acquire(now, &demands);
    }
    // A checkpoint may give the change its version before the news of it is sent.
    net.members[0].table.harvest(crate::table::DirtySet::All);
    net.input(0, Input::Urgent);
    net.run(Duration::from_millis(3));
    assert_eq!(net.values("x"), [2, 2]);
}

#[test]
fn an_idle_cluster_says_little() {
    let mut net = Net::new(&["a", "b", "c"], &GossipSettings::default());
    net.add_to(0, "x", 5);
    net.run(Duration::from_secs(5));
    let before = net.sent_bytes;
    net.run(Duration::from_secs(10));
    let per_second = (net.sent_bytes - before) / 10;
    assert!(per_second < 3 * 2 * 300, "{per_second} bytes a second");
}

#[test]
fn sides_of_a_partition_count_on_and_agree_after_it() {
    let mut net = Net::new(&["a", "b", "c"], &GossipSettings::default());
    net.run(Duration::from_secs(1));
    net.partition(1);
    net.add_to(0, "x", 3);
    net.add_to(1, "x", 4);
    net.run(Duration::from_secs(3));
    assert_eq!(net.values("x"), [3, 4, 4]);
    net.cut.clear();
    net.converge(Duration::from_secs(10));
    assert_eq!(net.values("x"), [7, 7, 7]);
}

#[test]
fn loss_duplication_and_reordering_are_repaired() {
    let mut net = Net::new(&["a", "b", "c", "d"], &GossipSettings::default());
    net.run(Duration::from_secs(1));
    net.loss = 0.2;
    for round in 0..200 {
        let place = round % 4;
        net.add_to(place, &format!("k{}", round % 17), 1);
        net.run(Duration::from_millis(20));
    }
    net.loss = 0.0;
    net.converge(Duration::from_secs(10));
    let total: u64 = (0..17).map(|n| net.values(&format!("k{n}"))[0]).sum();
    assert_eq!(total, 200);
}

#[test]
fn what_only_one_survivor_heard_of_the_dead_reaches_the_other() {
    let mut net = Net::new(&["a", "b", "c"], &GossipSettings::default());
    net.run(Duration::from_secs(1));
    net.partition(2);
    net.add_to(0, "x", 9);
    net.run(Duration::from_millis(200));
    assert_eq!(net.values("x"), [9, 9, 0]);
    net.members[0].up = false;
    net.cut = vec![(0, 1), (0, 2)];
    let dead: Vec<_> =
        net.ends.iter().filter(|(_, (a, _, _))| *a == 0).map(|(link, _)| *link).collect();
    for link in dead {
        net.hang_up(link);
    }
    net.converge(Duration::from_secs(10));
    assert_eq!(net.values("x"), [9, 9]);
}

#[test]
fn a_large_cluster_passes_news_on_in_rounds() {
    let names: Vec<String> = (0..24).map(|n| format!("n{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let settings = GossipSettings { direct_up_to: 8, fanout: 4, ..GossipSettings::default() };
    let mut net = Net::new(&names, &settings);
    net.run(Duration::from_secs(3));
    net.add_to(0, "x", 5);
    net.run(Duration::from_millis(600));
    let heard = net.values("x").iter().filter(|value| **value == 5).count();
    assert!(heard >= 20, "{heard} of 24 have heard");
    net.converge(Duration::from_secs(30));
    assert_eq!(net.values("x"), [5; 24]);
}

#[test]
fn a_backlog_larger_than_a_frame_arrives_whole() {
    let settings = GossipSettings { frame_bytes_max: 16_384, ..GossipSettings::default() };
    let mut net = Net::new(&["a", "b"], &settings);
    for n in 0..5_000 {
        net.add_to(0, &format!("key number {n}"), n);
    }
    net.converge(Duration::from_secs(5));
    assert_eq!(net.members[1].table.len(), 5_000);
}

#[test]
fn two_live_processes_of_one_name_are_told_so_and_do_not_merge() {
    let settings = GossipSettings::default();
    let mut net = Net::new(&["a", "b"], &settings);
    net.run(Duration::from_secs(1));
    net.add(replica("a", 1, 99), &settings);
    net.run(Duration::from_secs(2));
    let told: Vec<usize> = net
        .reports
        .iter()
        .filter(|(_, report)| {
            matches!(
                report,
                Report::NodeIdInUse { .. } | Report::Refused { reason: CloseReason::NodeIdInUse }
            )
        })
        .map(|(place, _)| *place)
        .collect();
    for place in 0..3 {
        assert!(told.contains(&place), "member {place} must say so: {told:?}");
    }
}

#[test]
fn a_restarted_member_takes_the_place_of_its_former_life_at_once() {
    let settings = GossipSettings::default();
    let mut net = Net::new(&["a", "b"], &settings);
    net.run(Duration::from_secs(1));
    // b has not noticed yet that a is gone when its next life says hello.
    net.members[0].up = false;
    net.cut = vec![(0, 1), (0, 2)];
    net.add(replica("a", 2, 50), &settings);
    net.run(Duration::from_millis(500));
    net.add_to(2, "x", 1);
    net.run(Duration::from_millis(200));
    assert_eq!(net.values("x"), [1, 1]);
    assert!(!net.reports.iter().any(|(_, r)| matches!(r, Report::NodeIdInUse { .. })));
}

#[test]
fn garbage_closes_the_link_and_nothing_else() {
    let mut net = Net::new(&["a", "b"], &GossipSettings::default());
    net.run(Duration::from_secs(1));
    net.add_to(0, "x", 2);
    for garbage in [&b""[..], b"GET / HTTP/1.1\r\n\r\n", &[0xff; 400]] {
        let link = LinkId(net.next_link);
        net.next_link += 1;
        net.ends.insert(link, (0, 0, LinkId(u64::MAX)));
        net.input(0, link_up(link, None));
        net.input(0, Input::Link(LinkEvent::Frame { link, bytes: garbage.to_vec() }));
        assert!(net.reports.iter().any(|(_, report)| {
            matches!(report, Report::BadFrame { link: bad, .. } if *bad == link)
        }));
        assert!(!net.ends.contains_key(&link), "the link is closed");
    }
    net.run(Duration::from_secs(1));
    assert_eq!(net.values("x"), [2, 2]);
}

#[test]
fn a_stranger_that_says_nothing_is_hung_up_on() {
    let mut net = Net::new(&["a", "b"], &GossipSettings::default());
    let link = LinkId(1_000_000);
    net.ends.insert(link, (0, 0, LinkId(u64::MAX)));
    net.input(0, link_up(link, None));
    // The handshake's time-out, and the time until the next digest.
    net.run(Duration::from_secs(7));
    assert!(!net.ends.contains_key(&link));
    assert_eq!(handshakes_failed(&net), [(0, None, HandshakeFailure::TimedOut)]);
}

fn handshakes_failed(net: &Net) -> Vec<(usize, Option<&str>, HandshakeFailure)> {
    let failed = net.reports.iter().filter_map(|(place, report)| match report {
        Report::HandshakeFailed { dialed, reason } => Some((*place, dialed.as_deref(), *reason)),
        _ => None,
    });
    failed.collect()
}

#[test]
fn links_that_end_before_a_hello_are_reported_with_the_address_that_was_dialed() {
    let settings = GossipSettings { links_max: 2, ..GossipSettings::default() };
    let mut net = Net::new(&["a"], &settings);
    net.run(Duration::from_secs(1));
    assert!(handshakes_failed(&net).is_empty(), "to meet oneself is no failure");
    for (link, dialed) in [(1_000, Some("b:1".to_owned())), (1_001, None), (1_002, None)] {
        net.ends.insert(LinkId(link), (0, 0, LinkId(u64::MAX)));
        net.input(0, link_up(LinkId(link), dialed));
    }
    net.input(0, Input::Link(LinkEvent::Down { link: LinkId(1_000) }));
    net.input(0, Input::Link(LinkEvent::Down { link: LinkId(1_001) }));
    // The machine closed this one itself, and has said why.
    net.input(0, Input::Link(LinkEvent::Down { link: LinkId(1_002) }));
    assert_eq!(
        handshakes_failed(&net),
        [
            (0, None, HandshakeFailure::TooManyLinks),
            (0, Some("b:1"), HandshakeFailure::Closed),
            (0, None, HandshakeFailure::Closed),
        ]
    );
}

#[test]
fn an_ordinary_life_has_no_failed_handshakes_and_an_address_without_answer_is_reported() {
    let mut net = Net::new(&["a", "b", "c"], &GossipSettings::default());
    net.run(Duration::from_secs(3));
    assert!(handshakes_failed(&net).is_empty(), "links that were resolved as duplicates are none");
    let no_answer = |net: &Net| {
        let is_of_c = |report: &Report| matches!(report, Report::NoAnswer { address, error } if address == "2" && error == "unreachable");
        net.reports.iter().filter(|(place, report)| *place == 0 && is_of_c(report)).count()
    };
    assert_eq!(no_answer(&net), 0);
    net.partition(2);
    net.run(Duration::from_secs(3));
    assert!(no_answer(&net) > 3);
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let run = || {
        let mut net = Net::new(&["a", "b", "c"], &GossipSettings::default());
        net.loss = 0.1;
        for n in 0..40 {
            net.add_to(n % 3, &format!("k{n}"), 1);
            net.run(Duration::from_millis(30));
        }
        (net.sent_bytes, net.next_link, net.values("k1"))
    };
    assert_eq!(run(), run());
}
