//! A cluster in virtual time: production machines, a simulated network, simulated disks, and one queue of events.

mod checks;
mod faults;
mod network;
mod processes;
mod workload;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tallymesh::simulation::{Charged, Checkpointer, Gossip, Input, LinkId, Now, Policy, Table};
use tallymesh::{CounterKey, CounterState, Limit, NodeId, ReplicaId, Timestamp, Window};

use crate::checker::{Checker, Violation};
use crate::disk::SimDisk;
use crate::options::Options;

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
