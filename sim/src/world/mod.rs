//! A cluster in virtual time: production machines, a simulated network, simulated disks, and one queue of events.

mod checks;
mod clock;
mod closing;
mod cuts;
mod faults;
mod lies;
mod lone;
mod network;
mod news;
mod node;
mod phases;
mod pods;
mod processes;
mod record;
mod survivors;
mod workload;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tallymesh_core::key::CounterKey;
use tallymesh_core::link::LinkId;
use tallymesh_core::mutant::Mutant;
use tallymesh_core::table::{CounterState, Debit};
use tallymesh_core::time::Timestamp;

use crate::checker::{Checked, Checker, Violation};
use crate::faults::Fault;
use crate::options::{Checks, Options, Scene};
use cuts::{Cuts, Step};
use network::End;
use news::News;
pub use news::Spread;
use node::Node;
use phases::Phase;
use record::Record;

/// How a run ended.
#[derive(Debug)]
pub struct Outcomes {
    /// Equal for equal runs.
    pub trace_hash: u32,
    /// How many events there were.
    pub events: u64,
    /// How many calls were decided.
    pub calls: u64,
    /// How many lone clients waited as they were told, and were admitted.
    pub waits_obeyed: u64,
    /// What was broken, if anything was.
    pub violation: Option<Violation>,
    /// The last events before the end, or the last that touched the counter in focus.
    pub last_events: Vec<String>,
    /// Which nodes were told that their name is used twice.
    pub conflicts: BTreeSet<usize>,
    /// What the run measured.
    pub measured: Measured,
    /// How each count that was followed became known.
    pub spreads: Vec<Spread>,
}

/// Figures of a run, for the studies.
#[derive(Debug, Clone, Copy, Default)]
pub struct Measured {
    /// Bytes that nodes gave to the network.
    pub bytes_sent: u64,
    /// Frames that nodes gave to the network.
    pub frames_sent: u64,
    /// What was admitted in all, less refunds.
    pub admitted: u64,
    /// How many updates the nodes made, all together.
    pub updates: u64,
    /// Virtual time from when everything was repaired to the first look that found all nodes in agreement.
    pub converged_after: Option<Duration>,
}

/// Runs one seed to its end.
pub fn run(options: &Options, trace: bool) -> Outcomes {
    World::new(options, Record::new(trace, None)).run()
}

/// The same run, keeping in mind what happens to one counter.
pub fn run_focused(options: &Options, counter: &CounterKey) -> Outcomes {
    World::new(options, Record::new(false, Some(counter.clone()))).run()
}

#[derive(Debug)]
enum Event {
    Timer { node: usize },
    Checkpoint { node: usize, life: u64 },
    Deliver { link: LinkId, frame: Vec<u8>, whole: bool },
    DeliverLate { from: usize, to: usize, frame: Vec<u8> },
    LinkUp { link: LinkId, dialed: Option<String> },
    LinkDown { link: LinkId },
    DialFailed { node: usize, life: u64, address: String },
    Call,
    Burst { session: u64 },
    Lone { node: usize, early: bool },
    Refund { node: usize, life: u64, debits: Vec<Debit>, cost: u64, keys: Vec<CounterKey> },
    Fault,
    Flap { from: usize, to: usize, left: u32 },
    Kill { node: usize },
    LastCheckpoint { node: usize, life: u64 },
    Closed { node: usize, life: u64 },
    Start { node: usize },
    MendDisk { node: usize },
    Clone { node: usize },
    CutHalves,
    Step(Step),
    News,
    Phase(Phase),
}

/// A run that takes more events than this goes round in circles.
const EVENTS_MAX: u64 = 1_000_000;
/// How long an ended counter is kept: short, so that runs get past it, though half of it covers what repaired clocks differ by.
const GRACE: Duration = Duration::from_secs(4);

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
    checker: Checker,
    latest_ever: Timestamp,
    phase: Phase,
    /// The nodes that are repaired while the others are not.
    calm: BTreeSet<usize>,
    /// When everything was repaired, and what was held then.
    mended_at: Duration,
    survived: Vec<CounterState>,
    /// Until when there may be calls.
    calls_until: Duration,
    record: Record,
    calls: u64,
    waits_obeyed: u64,
    measured: Measured,
    news: Option<News>,
    spreads: Vec<Spread>,
    cuts: Cuts,
}

impl<'a> World<'a> {
    fn new(options: &'a Options, record: Record) -> World<'a> {
        let mut random = StdRng::seed_from_u64(options.seed);
        let nodes =
            (0..options.nodes).map(|place| Node::new(place, options, &mut random)).collect();
        World {
            options,
            random: RefCell::new(random),
            now: Duration::ZERO,
            queue: BTreeMap::new(),
            queued: 0,
            nodes,
            links: BTreeMap::new(),
            next_link: 0,
            cut: BTreeSet::new(),
            checker: Checker::new(GRACE, options.faults.has(Fault::Lie)),
            latest_ever: Timestamp(0),
            phase: Phase::Busy,
            calm: BTreeSet::new(),
            mended_at: Duration::ZERO,
            survived: Vec::new(),
            calls_until: Duration::from_millis(options.busy_ms),
            record,
            calls: 0,
            waits_obeyed: 0,
            measured: Measured::default(),
            news: None,
            cuts: Cuts::new(options.nodes),
            spreads: Vec::new(),
        }
    }

    fn run(mut self) -> Outcomes {
        Mutant::set(self.options.mutant);
        let violation = self.live().err();
        Mutant::set(None);
        self.measured.admitted = self.checker.admitted();
        let lives = self.nodes.iter().filter_map(|node| node.life.as_ref());
        self.measured.updates = lives.map(|life| life.table.watermark(&life.replica).0).sum();
        Outcomes {
            trace_hash: self.record.hash(),
            events: self.record.events(),
            calls: self.calls,
            waits_obeyed: self.waits_obeyed,
            violation,
            last_events: self.record.into_last_events(),
            conflicts: self.checker.conflicts().clone(),
            measured: self.measured,
            spreads: self.spreads,
        }
    }

    fn live(&mut self) -> Checked {
        for node in 0..self.nodes.len() {
            let delay = self.draw_ms(50);
            self.after(delay, Event::Start { node });
        }
        self.begin_phases();
        self.begin_lone_clients();
        if !matches!(self.options.scene, Scene::News { .. }) {
            self.after(Duration::from_millis(100), Event::Call);
        }
        if !self.options.faults.is_empty() {
            self.after(Duration::from_millis(300), Event::Fault);
        }
        let mut next_look = Duration::ZERO;
        while let Some(((at, _), event)) = self.queue.pop_first() {
            self.now = at;
            let node = self.node_of(&event);
            self.record.happens(self.now, &event, node);
            self.happen(event)?;
            if self.record.events() > EVENTS_MAX && self.options.checks == Checks::All {
                let what = format!("{EVENTS_MAX} events, many times more than a run takes");
                return Err(Violation { invariant: "progress", what, counter: None });
            }
            if let Some(place) = node {
                self.focus_on(place);
            }
            if self.now >= next_look {
                next_look = self.now + Duration::from_millis(self.options.look_every_ms);
                match self.liar() {
                    Some(_) => self.check_good()?,
                    None if self.options.checks == Checks::All => self.check_cells()?,
                    None => {}
                }
                self.look_whether_noticed()?;
                if self.look_at_phase()? {
                    break;
                }
            }
        }
        self.check_news()?;
        self.check_sides()?;
        self.check_at_end()
    }

    fn happen(&mut self, event: Event) -> Checked {
        match event {
            Event::Start { node } => self.start(node),
            Event::Timer { node } => self.timer(node),
            Event::Checkpoint { node, life } => self.checkpoint(node, life),
            Event::Deliver { link, frame, whole } => self.deliver(link, frame, whole),
            Event::DeliverLate { from, to, frame } => self.deliver_late(from, to, frame),
            Event::LinkUp { link, dialed } => self.link_up(link, dialed),
            Event::LinkDown { link } => self.link_down(link),
            Event::DialFailed { node, life, address } => self.dial_failed(node, life, address),
            Event::Call => self.call(),
            Event::Burst { session } => self.burst(session),
            Event::Lone { node, early } => self.lone(node, early),
            Event::Refund { node, life, debits, cost, keys } => {
                self.refund(node, life, (&debits, cost), &keys)
            }
            Event::Fault => self.fault(),
            Event::Flap { from, to, left } => {
                self.flap(from, to, left);
                Ok(())
            }
            Event::Kill { node } => {
                if !self.is_calm(node) {
                    self.kill(node);
                }
                Ok(())
            }
            Event::LastCheckpoint { node, life } => self.last_checkpoint(node, life),
            Event::Closed { node, life } => self.closed(node, life),
            Event::MendDisk { node } => {
                self.nodes[node].mend_disk();
                Ok(())
            }
            Event::Clone { node } => {
                self.start_clone(node);
                Ok(())
            }
            Event::CutHalves => {
                self.cut_halves();
                Ok(())
            }
            Event::Step(step) => self.step(step),
            Event::News => self.spread_one(),
            Event::Phase(phase) => {
                self.enter(phase);
                Ok(())
            }
        }
    }

    /// The node that an event happens at.
    fn node_of(&self, event: &Event) -> Option<usize> {
        match event {
            Event::Timer { node }
            | Event::Checkpoint { node, .. }
            | Event::DialFailed { node, .. }
            | Event::Lone { node, .. }
            | Event::Refund { node, .. }
            | Event::Kill { node }
            | Event::LastCheckpoint { node, .. }
            | Event::Closed { node, .. }
            | Event::Start { node }
            | Event::MendDisk { node }
            | Event::Clone { node } => Some(*node),
            Event::Deliver { link, .. } | Event::LinkUp { link, .. } | Event::LinkDown { link } => {
                self.links.get(link).map(|end| end.node)
            }
            Event::DeliverLate { to, .. } => Some(*to),
            _ => None,
        }
    }

    /// Notes what an event did to the counter in focus, for the account of a failed run.
    fn focus_on(&mut self, place: usize) {
        let Some(key) = self.record.focus() else { return };
        let state = match &self.nodes[place].life {
            None => "down".to_owned(),
            Some(life) => match life.table.counter(key.as_bytes()) {
                None => "not held".to_owned(),
                Some(state) => {
                    let cells = state.cells.iter();
                    let cell = |(replica, cell): &(_, tallymesh_core::crdt::Cell)| {
                        format!("{replica} +{} -{} v{}", cell.p, cell.n, cell.version)
                    };
                    let cells: Vec<String> = cells.map(cell).collect();
                    let (value, generation, end) =
                        (state.value, state.generation, state.expires_at);
                    format!("{value} in generation {generation} to {end}: {}", cells.join(", "))
                }
            },
        };
        let wall = self.nodes[place].clock.reading(self.now);
        self.record.focused(place, wall, &state);
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

    /// The time that a node acts on, checked to be no earlier than before.
    fn wall(&mut self, place: usize) -> Timestamp {
        self.nodes[place].wall(self.now)
    }
}
