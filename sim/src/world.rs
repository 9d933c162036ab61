//! A cluster in virtual time: production machines, a simulated network, simulated disks, and one queue of events.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use tallymesh::simulation::{
    Change, Charged, Charges, Checkpointer, Gossip, Input, LinkId, Now, Outcome, Output, Policy,
    Restore, Table, recover,
};
use tallymesh::{
    Bounds, CounterKey, CounterState, DenialReason, GossipSettings, Incarnation, Limit, NodeId,
    ReplicaId, Request, Timestamp, Window,
};

use crate::checker::{Checker, Violation};
use crate::disk::SimDisk;
use crate::options::{Fault, Options};

/// How a run ended.
#[derive(Debug)]
pub struct Outcomes {
    /// Equal for equal runs.
    pub trace_hash: u32,
    pub events: u64,
    pub calls: u64,
    pub violation: Option<Violation>,
    /// The last events before the end.
    pub last_events: Vec<String>,
}

/// Runs one seed to its end.
pub fn run(options: &Options, trace: bool) -> Outcomes {
    let mut world = World::new(options, trace);
    let violation = world.live().err();
    Outcomes {
        trace_hash: world.hasher.clone().finalize(),
        events: world.events,
        calls: world.calls,
        violation,
        last_events: world.last_events.into(),
    }
}

const UNIX_START_MS: i64 = 1_790_000_000_000;
const QUIET_MS: u64 = 30_000;
const LAST_EVENTS: usize = 40;

type Checked = Result<(), Violation>;

#[derive(Debug)]
enum Event {
    Timer { node: usize },
    Checkpoint { node: usize, life: u64 },
    Deliver { link: LinkId, frame: Vec<u8> },
    LinkUp { link: LinkId, dialed: Option<String> },
    LinkDown { link: LinkId },
    DialFailed { node: usize, life: u64, address: String },
    Call,
    Refund { node: usize, life: u64, charged: Vec<Charged>, counted: Vec<(CounterKey, u64)> },
    Fault,
    Start { node: usize },
    Heal,
}

struct Node {
    name: NodeId,
    disk: SimDisk,
    boot: u64,
    formers: Vec<ReplicaId>,
    life: Option<Life>,
    lives: u64,
    timer_at: Option<Duration>,
    paused_until: Duration,
    clock_offset_ms: i64,
    high_water: Timestamp,
}

struct Life {
    number: u64,
    replica: ReplicaId,
    table: Arc<Table>,
    gossip: Gossip,
    /// Gone once the disk has failed.
    checkpointer: Option<Checkpointer>,
}

struct End {
    node: usize,
    life: u64,
    far: LinkId,
    far_node: usize,
}

struct World<'a> {
    options: &'a Options,
    random: RefCell<StdRng>,
    now: Duration,
    queue: BTreeMap<(Duration, u64), Event>,
    queued: u64,
    nodes: Vec<Node>,
    links: BTreeMap<LinkId, End>,
    next_link: u64,
    cut: BTreeSet<(usize, usize)>,
    policy: Policy,
    checker: Checker,
    healed: bool,
    hasher: crc32fast::Hasher,
    events: u64,
    calls: u64,
    trace: bool,
    last_events: VecDeque<String>,
}

impl<'a> World<'a> {
    fn new(options: &'a Options, trace: bool) -> World<'a> {
        let node = |place: usize| Node {
            // Proven: letters and digits are a valid name.
            name: format!("n{place}").parse().expect("a valid name"),
            disk: SimDisk::default(),
            boot: 0,
            formers: Vec::new(),
            life: None,
            lives: 0,
            timer_at: None,
            paused_until: Duration::ZERO,
            clock_offset_ms: 0,
            high_water: Timestamp(0),
        };
        let hour = Duration::from_secs(3600);
        let policy = Policy::new([
            Limit::new("tool", 5, Window::Session { ttl: hour }).per("session").per("tool"),
            Limit::new("window", 8, Window::Fixed(Duration::from_secs(2))).per("user"),
            Limit::new("all", 1_000, Window::Session { ttl: hour }),
        ]);
        World {
            options,
            random: RefCell::new(StdRng::seed_from_u64(options.seed)),
            now: Duration::ZERO,
            queue: BTreeMap::new(),
            queued: 0,
            nodes: (0..options.nodes).map(node).collect(),
            links: BTreeMap::new(),
            next_link: 0,
            cut: BTreeSet::new(),
            // Proven: these limits are in range and have names of their own.
            policy: policy.expect("valid limits"),
            checker: Checker::default(),
            healed: false,
            hasher: crc32fast::Hasher::new(),
            events: 0,
            calls: 0,
            trace,
            last_events: VecDeque::new(),
        }
    }

    fn live(&mut self) -> Checked {
        for node in 0..self.nodes.len() {
            let delay = self.draw_ms(50);
            self.after(delay, Event::Start { node });
        }
        self.after(Duration::from_millis(100), Event::Call);
        self.after(Duration::from_millis(300), Event::Fault);
        self.after(Duration::from_millis(self.options.busy_ms), Event::Heal);
        let mut next_check = Duration::ZERO;
        let end = Duration::from_millis(self.options.busy_ms + QUIET_MS);
        while let Some(((at, _), event)) = self.queue.pop_first() {
            self.now = at;
            self.events += 1;
            self.note(&event);
            self.happen(event)?;
            if self.now >= next_check {
                next_check = self.now + Duration::from_millis(200);
                self.check_cells()?;
                if self.healed && self.has_converged() {
                    break;
                }
            }
            if self.now > end {
                let states = self.states().join("; ");
                let what = format!("after {QUIET_MS} quiet ms the nodes differ: {states}");
                return Err(Violation { invariant: "I3", what, counter: None });
            }
        }
        self.account()
    }

    fn happen(&mut self, event: Event) -> Checked {
        match event {
            Event::Start { node } => self.start(node)?,
            Event::Timer { node } => self.timer(node),
            Event::Checkpoint { node, life } => self.checkpoint(node, life),
            Event::Deliver { link, frame } => self.deliver(link, frame),
            Event::LinkUp { link, dialed } => {
                self.input_of_link(link, Input::LinkUp { link, dialed })
            }
            Event::LinkDown { link } => {
                self.input_of_link(link, Input::LinkDown { link });
                self.links.remove(&link);
            }
            Event::DialFailed { node, life, address } => {
                if self.life(node).is_some_and(|alive| alive.number == life) {
                    self.input(node, Input::DialFailed { address });
                }
            }
            Event::Call => {
                if !self.healed {
                    self.call()?;
                    let gap = Duration::from_micros(1_000_000 / self.options.calls_per_s);
                    let factor = self.random.get_mut().random_range(0.0..2.0);
                    self.after(gap.mul_f64(factor), Event::Call);
                }
            }
            Event::Refund { node, life, charged, counted } => {
                if let Some(alive) = self.life(node).filter(|alive| alive.number == life) {
                    alive.table.refund(&charged);
                    let replica = alive.replica.clone();
                    for (key, cost) in counted {
                        self.checker.refunded(&key, &replica, cost);
                    }
                }
            }
            Event::Fault => {
                if !self.healed {
                    self.fault();
                    let delay = self.draw_ms(1_200);
                    self.after(delay, Event::Fault);
                }
            }
            Event::Heal => self.heal(),
        }
        Ok(())
    }

    // --- time and chance

    fn after(&mut self, delay: Duration, event: Event) {
        self.queued += 1;
        self.queue.insert((self.now + delay, self.queued), event);
    }

    fn draw_ms(&mut self, below: u64) -> Duration {
        Duration::from_micros(self.random.get_mut().random_range(0..below.max(1) * 1_000))
    }

    fn chance(&mut self, share: f64) -> bool {
        self.random.get_mut().random_bool(share)
    }

    fn wall(&mut self, node: usize) -> Timestamp {
        let now_ms = self.now.as_millis() as i64;
        let node = &mut self.nodes[node];
        let reading = (UNIX_START_MS + now_ms + node.clock_offset_ms) as u64;
        node.high_water = node.high_water.max(Timestamp(reading));
        node.high_water
    }

    fn time(&mut self, node: usize) -> Now {
        Now { wall: self.wall(node), monotonic: self.now }
    }

    // --- processes

    fn life(&self, node: usize) -> Option<&Life> {
        self.nodes[node].life.as_ref()
    }

    fn start(&mut self, place: usize) -> Checked {
        if self.nodes[place].life.is_some() {
            return Ok(());
        }
        let nonce = self.random.get_mut().random();
        let seeds = self.random.get_mut().random::<[u64; 4]>();
        let gossip_seed = self.random.get_mut().random();
        let node = &mut self.nodes[place];
        node.boot += 1;
        node.lives += 1;
        let incarnation = Incarnation { boot: node.boot, nonce };
        let replica = ReplicaId { node: node.name.clone(), incarnation };
        self.checker.born(&replica)?;
        let bounds = Bounds { grace: Duration::from_secs(2), ..Bounds::default() };
        let table = Arc::new(Table::new(replica.clone(), bounds, seeds));
        let mut restore = Restore::into(&table);
        let found = match recover(&node.disk, |counter| restore.add(&counter)) {
            Ok(found) => found,
            Err(error) => {
                let what =
                    format!("{} finds its disk damaged, which it is not: {error}", node.name);
                return Err(Violation { invariant: "durability", what, counter: None });
            }
        };
        if let Some(found) = &found {
            restore.finish(found.watermarks());
        }
        node.high_water = found.as_ref().map_or(Timestamp(0), |found| found.clock());
        let storage = Box::new(node.disk.clone());
        let checkpointer = Checkpointer::on(storage, found.as_ref(), &node.name).ok();
        let formers = std::mem::take(&mut node.formers);
        let number = node.lives;
        let wall = self.wall(place);
        for former in &formers {
            self.checker.recovered(wall, former, &counters(&table))?;
        }
        let now = self.time(place);
        let gossip = Gossip::new(table.clone(), self.settings(), gossip_seed, now);
        let node = &mut self.nodes[place];
        node.formers = formers;
        node.formers.push(replica.clone());
        node.timer_at = None;
        node.life = Some(Life { number, replica, table, gossip, checkpointer });
        let addresses = (0..self.nodes.len()).map(|other| other.to_string()).collect();
        self.input(place, Input::Addresses(addresses));
        let delay = self.draw_ms(20);
        self.after(delay, Event::Checkpoint { node: place, life: number });
        Ok(())
    }

    fn settings(&self) -> GossipSettings {
        GossipSettings {
            interval: Duration::from_millis(self.options.gossip_interval_ms),
            digest_interval: Duration::from_millis(500),
            direct_up_to: self.options.direct_up_to,
            fanout: 3,
            frame_bytes_max: self.options.frame_bytes_max,
            handshake_timeout: Duration::from_secs(2),
            silence_timeout: Duration::from_secs(3),
            ..GossipSettings::default()
        }
    }

    fn kill(&mut self, place: usize) {
        let Some(life) = self.nodes[place].life.take() else { return };
        self.checker.may_lose = true;
        self.nodes[place].disk.crash(&self.random);
        let mine: Vec<(LinkId, LinkId)> = self
            .links
            .iter()
            .filter(|(_, end)| end.node == place && end.life == life.number)
            .map(|(link, end)| (*link, end.far))
            .collect();
        for (link, far) in mine {
            self.links.remove(&link);
            // Some peers hear of it from their system, others find out by the silence.
            if self.chance(0.7) {
                let delay = self.draw_ms(50);
                self.after(delay, Event::LinkDown { link: far });
            }
        }
    }

    fn checkpoint(&mut self, place: usize, number: u64) {
        let wall = self.wall(place);
        let paused = self.nodes[place].paused_until > self.now;
        let settles = self.chance(0.5);
        let Some(life) = self.nodes[place].life.as_mut().filter(|life| life.number == number)
        else {
            return;
        };
        if let Some(checkpointer) = life.checkpointer.as_mut().filter(|_| !paused) {
            let written = checkpointer.write(&life.table, wall);
            let written = written.and_then(|()| match settles {
                true => checkpointer.settle(),
                false => Ok(()),
            });
            match written {
                Ok(()) => self.checker.acknowledged(&life.replica, &counters(&life.table)),
                Err(_) => {
                    life.checkpointer = None;
                    self.checker.may_lose = true;
                    self.checker.forget_disk(&life.replica);
                }
            }
        }
        let delay = Duration::from_millis(20) + self.draw_ms(20);
        self.after(delay, Event::Checkpoint { node: place, life: number });
    }

    // --- the machine and its network

    fn timer(&mut self, place: usize) {
        let resumes = self.nodes[place].paused_until;
        if resumes > self.now {
            self.nodes[place].timer_at = Some(resumes);
            return self.after(resumes - self.now, Event::Timer { node: place });
        }
        if self.nodes[place].timer_at != Some(self.now) {
            return;
        }
        self.nodes[place].timer_at = None;
        let now = self.time(place);
        if let Some(life) = &mut self.nodes[place].life {
            life.gossip.handle_timeout(now);
            self.outputs(place);
        }
    }

    fn input(&mut self, place: usize, input: Input<'_>) {
        let now = self.time(place);
        if let Some(life) = &mut self.nodes[place].life {
            life.gossip.handle_input(now, input);
            self.outputs(place);
        }
    }

    fn input_of_link(&mut self, link: LinkId, input: Input<'_>) {
        let Some(end) = self.links.get(&link) else { return };
        let place = end.node;
        if self.life(place).is_some_and(|life| life.number == end.life) {
            self.input(place, input);
        }
    }

    fn outputs(&mut self, place: usize) {
        while let Some(output) =
            self.nodes[place].life.as_mut().and_then(|life| life.gossip.poll_output())
        {
            match output {
                Output::Dial { address } => self.dial(place, address),
                Output::Send { link, frame } => {
                    self.send(link, frame);
                    let now = self.time(place);
                    if let Some(life) = &mut self.nodes[place].life {
                        life.gossip.handle_input(now, Input::Sent { link, frames: 1 });
                    }
                }
                Output::Close { link } => {
                    if let Some(end) = self.links.remove(&link) {
                        let delay = Duration::from_millis(self.options.delay_ms_max + 1);
                        self.after(delay, Event::LinkDown { link: end.far });
                    }
                }
                Output::Report(_) => {}
            }
        }
        let Some(life) = self.life(place) else { return };
        let due = life.gossip.poll_timeout().max(self.now);
        if self.nodes[place].timer_at.is_none_or(|at| due < at) {
            self.nodes[place].timer_at = Some(due);
            self.after(due - self.now, Event::Timer { node: place });
        }
    }

    fn dial(&mut self, from: usize, address: String) {
        // Proven: the addresses are the numbers that were handed out as addresses.
        let to: usize = address.parse().expect("a number");
        let life = self.life(from).map_or(0, |life| life.number);
        let reachable = !self.cut.contains(&(from, to)) && !self.cut.contains(&(to, from));
        let delay = self.draw_ms(self.options.delay_ms_max);
        let Some(far_life) = self.life(to).map(|life| life.number).filter(|_| reachable) else {
            return self.after(delay, Event::DialFailed { node: from, life, address });
        };
        let (near, far) = (LinkId(self.next_link), LinkId(self.next_link + 1));
        self.next_link += 2;
        self.links.insert(near, End { node: from, life, far, far_node: to });
        self.links.insert(far, End { node: to, life: far_life, far: near, far_node: from });
        self.after(delay, Event::LinkUp { link: near, dialed: Some(address) });
        self.after(delay, Event::LinkUp { link: far, dialed: None });
    }

    fn send(&mut self, link: LinkId, frame: Vec<u8>) {
        let Some(end) = self.links.get(&link) else { return };
        let (from, to, far) = (end.node, end.far_node, end.far);
        if self.cut.contains(&(from, to)) {
            return;
        }
        let loss = if self.healed { 0.0 } else { self.options.loss };
        let copies = match self.random.get_mut().random::<f64>() {
            drawn if drawn < loss => 0,
            drawn if drawn < loss * 1.5 => 2,
            _ => 1,
        };
        for _ in 0..copies {
            let mut frame = frame.clone();
            if !self.healed && self.options.faults.has(Fault::Corruption) && self.chance(0.003) {
                self.corrupt(&mut frame);
            }
            let late = loss > 0.0 && self.chance(0.01);
            let delay = self.draw_ms(if late { 5_000 } else { self.options.delay_ms_max });
            self.after(delay, Event::Deliver { link: far, frame });
        }
    }

    fn corrupt(&mut self, frame: &mut Vec<u8>) {
        let random = self.random.get_mut();
        if random.random_bool(0.3) {
            frame.truncate(random.random_range(0..frame.len()));
        } else {
            let place = random.random_range(0..frame.len());
            frame[place] ^= 1 << random.random_range(0..8_u32);
        }
    }

    fn deliver(&mut self, link: LinkId, frame: Vec<u8>) {
        let Some(end) = self.links.get(&link) else { return };
        let resumes = self.nodes[end.node].paused_until;
        if resumes > self.now {
            return self.after(resumes - self.now, Event::Deliver { link, frame });
        }
        self.hasher.update(&frame);
        self.input_of_link(link, Input::Frame { link, bytes: &frame });
    }

    // --- the workload

    fn call(&mut self) -> Checked {
        let awake: Vec<usize> = (0..self.nodes.len())
            .filter(|place| {
                self.nodes[*place].life.is_some() && self.nodes[*place].paused_until <= self.now
            })
            .collect();
        let Some(place) = awake.choose(self.random.get_mut()).copied() else { return Ok(()) };
        let sessions = self.options.sessions;
        let random = self.random.get_mut();
        let session = if random.random_bool(0.3) { 0 } else { random.random_range(0..sessions) };
        let (tool, user) = (random.random_range(0..3), session % 5);
        let cost = if random.random_bool(0.1) { random.random_range(2..4) } else { 1 };
        let texts = [format!("s{session}"), format!("t{tool}"), format!("u{user}")];
        let request = Request::tool_call(&texts[0], &texts[1]).with("user", &texts[2]).cost(cost);
        let now = self.wall(place);
        let mut charges = Charges::default();
        // Proven: the keys are short.
        self.policy.charge(&request, now, 512, &mut charges).expect("keys within bounds");
        let keys: Vec<CounterKey> = charges
            .list
            .iter()
            // Proven: charges are made of valid keys.
            .map(|charge| CounterKey::from_bytes(charges.key(charge)).expect("a key"))
            .collect();
        self.calls += 1;
        let Some(life) = self.life(place) else { return Ok(()) };
        let replica = life.replica.clone();
        match life.table.acquire(now, &charges) {
            Outcome::Allowed { charged, urgent, .. } => {
                for (key, charge) in keys.iter().zip(&charges.list) {
                    self.checker.counted(key, &replica, cost);
                    self.checker.admitted_at_most(key, charge.max)?;
                }
                if urgent {
                    self.input(place, Input::Urgent);
                }
                if self.chance(0.1) {
                    let delay = self.draw_ms(500);
                    let life = self.nodes[place].lives;
                    let counted = keys.into_iter().map(|key| (key, cost)).collect();
                    let charged = charged.into_iter().collect();
                    self.after(delay, Event::Refund { node: place, life, charged, counted });
                }
            }
            Outcome::Denied { limit, reason: DenialReason::LimitReached, .. } => {
                let place = charges.list.iter().position(|charge| charge.limit == limit);
                if let Some(place) = place {
                    self.checker.denied(&keys[place], cost, charges.list[place].max)?;
                }
            }
            Outcome::Denied { .. } => {}
        }
        Ok(())
    }

    // --- the faults

    fn fault(&mut self) {
        let place = self.random.get_mut().random_range(0..self.nodes.len());
        let faults = self.options.faults.clone();
        match self.random.get_mut().random_range(0..8_u32) {
            0 | 1 if faults.has(Fault::Partition) => self.partition(place),
            2 if faults.has(Fault::Partition) => self.cut.clear(),
            3 | 4 if faults.has(Fault::Crash) => {
                self.kill(place);
                if faults.has(Fault::Wipe) && self.chance(0.2) {
                    self.nodes[place].disk.wipe();
                    for former in self.nodes[place].formers.clone() {
                        self.checker.forget_disk(&former);
                    }
                }
                let delay = self.draw_ms(1_500);
                self.after(delay, Event::Start { node: place });
            }
            5 if faults.has(Fault::DiskError) => self.nodes[place].disk.break_down(),
            6 if faults.has(Fault::Clock) => {
                self.nodes[place].clock_offset_ms =
                    self.random.get_mut().random_range(-3_000..3_000);
            }
            7 if faults.has(Fault::Pause) && self.chance(0.5) => {
                let pause = self.draw_ms(4_000);
                self.nodes[place].paused_until = self.now + pause;
            }
            7 if faults.has(Fault::Reset) => self.reset(place),
            _ => {}
        }
    }

    fn partition(&mut self, place: usize) {
        let both_ways = self.chance(0.7);
        for other in (0..self.nodes.len()).filter(|other| *other != place) {
            if self.chance(0.8) {
                self.cut.insert((place, other));
                if both_ways {
                    self.cut.insert((other, place));
                }
            }
        }
    }

    fn reset(&mut self, place: usize) {
        let session = self.random.get_mut().random_range(0..self.options.sessions);
        let tool = self.random.get_mut().random_range(0..3);
        let key = CounterKey::new("tool", &[&format!("s{session}"), &format!("t{tool}")]);
        let now = self.wall(place);
        if let Some(life) = self.life(place) {
            let end = now.plus(Duration::from_secs(3600));
            // There is room, the key is short, and it has no window: nothing is refused.
            let _ = life.table.change(now, &key, Change::Reset, end);
            self.checker.reset(&key);
        }
    }

    fn heal(&mut self) {
        self.healed = true;
        self.cut.clear();
        for place in 0..self.nodes.len() {
            self.nodes[place].paused_until = self.now;
            self.nodes[place].clock_offset_ms = 0;
            if self.nodes[place].life.is_none() {
                self.after(Duration::from_millis(1), Event::Start { node: place });
            }
        }
    }

    // --- the checks

    fn check_cells(&mut self) -> Checked {
        for node in &self.nodes {
            let Some(life) = &node.life else { continue };
            for counter in counters(&life.table) {
                self.checker.holds(&life.replica, &counter)?;
            }
        }
        Ok(())
    }

    fn states(&self) -> Vec<String> {
        let latest = self.nodes.iter().map(|node| node.high_water).max().unwrap_or_default();
        let state = |node: &Node| match &node.life {
            None => "down".to_owned(),
            Some(life) => {
                life.table.harvest(tallymesh::simulation::Scope::All);
                let vector = life.table.version_vector();
                let watermarks: Vec<String> = vector
                    .iter()
                    .map(|(replica, version)| format!("{replica}:{version}"))
                    .collect();
                format!("{:016x} {}", life.table.fingerprint(latest), watermarks.join(" "))
            }
        };
        self.nodes.iter().map(state).collect()
    }

    fn has_converged(&self) -> bool {
        let states = self.states();
        states.iter().all(|state| *state == states[0] && state != "down")
    }

    fn account(&self) -> Checked {
        let latest = self.nodes.iter().map(|node| node.high_water).max().unwrap_or_default();
        for life in self.nodes.iter().filter_map(|node| node.life.as_ref()) {
            let held = counters(&life.table);
            self.checker.accounts(latest, &held)?;
            let grace = Duration::from_secs(60);
            let old = held.iter().find(|counter| counter.expires_at.plus(grace) < latest);
            if let Some(old) = old {
                let counter = Some(old.key.to_string());
                let what = format!("{} holds what ended long ago", life.replica);
                return Err(Violation { invariant: "I11", what, counter });
            }
        }
        Ok(())
    }

    // --- the trace

    fn note(&mut self, event: &Event) {
        self.hasher.update(&self.now.as_micros().to_le_bytes());
        let text = match event {
            Event::Deliver { link, frame } => format!("Deliver {link:?} {} bytes", frame.len()),
            Event::Refund { node, .. } => format!("Refund at {node}"),
            other => format!("{other:?}"),
        };
        self.hasher.update(text.as_bytes());
        if self.trace {
            println!("{:>12.3} ms  {text}", self.now.as_secs_f64() * 1000.0);
        }
        if self.last_events.len() == LAST_EVENTS {
            self.last_events.pop_front();
        }
        self.last_events.push_back(format!("{:.3} ms  {text}", self.now.as_secs_f64() * 1000.0));
    }
}

fn counters(table: &Table) -> Vec<CounterState> {
    let mut counters = Vec::new();
    let mut next = None;
    loop {
        let (page, following) = table.page(next);
        counters.extend(page);
        next = following;
        if next.is_none() {
            return counters;
        }
    }
}
