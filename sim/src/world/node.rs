//! One node: its name, disk, clock and limits, which outlive its processes, and its present life.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use tallymesh_core::crdt::VersionVector;
use tallymesh_core::gossip::Gossip;
use tallymesh_core::id::{NodeId, ReplicaId, Version};
use tallymesh_core::limit::Policy;
use tallymesh_core::limit::{Limit, WhenCutOff, Window};
use tallymesh_core::storage::StateStore;
use tallymesh_core::table::{SlotRef, Table};
use tallymesh_core::time::Timestamp;
use tallymesh_core::time::{Moment, MonotonicWall, Now};

use super::lone::Promise;
use crate::disk::{Backup, SimDisk};
use crate::faults::Fault;
use crate::options::{Limits, Options};

pub(super) struct Node {
    pub name: NodeId,
    pub disk: SimDisk,
    /// An older state of the disk, how much of which lives was durable in it.
    pub backup: Option<(Backup, Vec<(ReplicaId, tallymesh_core::id::Version)>)>,
    pub formers: Vec<ReplicaId>,
    pub life: Option<Life>,
    pub lives: u64,
    pub timer_at: Option<Duration>,
    pub paused_until: Duration,
    pub clock: NodeClock,
    pub policy: Arc<Policy>,
    /// It runs on a copy of another node's disk.
    pub is_clone: bool,
    /// It comes and goes, and nothing outlives it.
    pub is_pod: bool,
    /// Whom it is told of, by place.
    pub peers: Vec<usize>,
    /// So many frames on, its process is killed.
    pub sends_left: Option<u32>,
    /// What its lone client was told last.
    pub promise: Option<Promise>,
}

/// One process.
pub(super) struct Life {
    pub number: u64,
    pub began: Duration,
    /// How far it is on its way to its end.
    pub closing: Closing,
    pub replica: ReplicaId,
    pub table: Arc<Table>,
    pub gossip: Gossip,
    pub store: StateStore,
    pub monotonic_wall: MonotonicWall,
    /// The latest time it acted on.
    pub shown: Timestamp,
    /// Where the counters of each session, tool and user were when it was last asked about them.
    pub seen: BTreeMap<[String; 3], Vec<SlotRef>>,
    /// Its watermarks as of the last look.
    pub watermarks: VersionVector,
}

/// An orderly end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closing {
    /// It runs.
    No,
    /// It tells its peers what is left, since then.
    Begun(Duration),
    /// It has said goodbye, and has yet to write its last checkpoint.
    Left,
    /// Its last checkpoint is durable, and has its own updates up to this version.
    Written(Version),
    /// Its last checkpoint could not be written.
    Failed,
}

/// A node's clocks: the wall clock may be off and jump, and both run at a rate of their own.
#[derive(Debug, Clone, Copy)]
pub(super) struct NodeClock {
    offset_ms: i64,
    rate: f64,
    /// The wall clock shows a new time only so often.
    pub tick_ms: u64,
    /// How often it was set.
    pub sets: u32,
}

const UNIX_START_MS: i64 = 1_790_000_000_000;

impl NodeClock {
    pub fn reading(&self, now: Duration) -> Timestamp {
        Timestamp(self.exact(now).0 / self.tick_ms * self.tick_ms)
    }

    /// What is read where the time of the last tick will not do.
    pub fn exact(&self, now: Duration) -> Timestamp {
        let ms = UNIX_START_MS + self.monotonic(now).as_millis() as i64 + self.offset_ms;
        Timestamp(ms as u64)
    }

    pub fn monotonic(&self, now: Duration) -> Duration {
        now.mul_f64(self.rate)
    }

    /// Sets the wall clock off.
    pub fn set(&mut self, offset_ms: i64) {
        self.offset_ms = offset_ms;
        self.sets += 1;
    }

    /// Sets the wall clock right, as of then.
    pub fn correct(&mut self, then: Duration) {
        self.sets += 1;
        self.offset_ms = then.as_millis() as i64 - self.monotonic(then).as_millis() as i64;
    }

    /// The first moment at which the monotonic clock shows at least this.
    pub fn moment_of(&self, monotonic: Duration) -> Duration {
        monotonic.div_f64(self.rate) + Duration::from_micros(1)
    }
}

impl Node {
    pub fn new(place: usize, options: &Options, random: &mut StdRng) -> Node {
        let drifts = options.faults.has(Fault::Clock);
        let rate = if drifts { random.random_range(0.97..1.03) } else { 1.0 };
        // A kernel's, and that of a virtual machine that loses its processor.
        let tick_ms = if random.random_bool(0.5) { 4 } else { 60 };
        let differs = options.faults.has(Fault::Limits) && random.random_bool(0.3);
        let peers = match options.peers_known {
            None => (0..options.nodes).collect(),
            Some(known) => (0..known).map(|_| random.random_range(0..options.nodes)).collect(),
        };
        Node {
            // Proven: letters and digits are a valid name.
            name: format!("n{place}").parse().expect("a valid name"),
            disk: SimDisk::new(random.random()),
            backup: None,
            formers: Vec::new(),
            life: None,
            lives: 0,
            timer_at: None,
            paused_until: Duration::ZERO,
            clock: NodeClock { offset_ms: 0, rate, tick_ms, sets: 0 },
            policy: Arc::new(policy(options.limits, differs, options.when_cut_off)),
            is_clone: false,
            is_pod: false,
            peers,
            sends_left: None,
            promise: None,
        }
    }

    /// A node of the same name, on a copy of this one's disk.
    pub fn cloned(&self, seed: u64) -> Node {
        let disk = SimDisk::new(seed);
        disk.restore(&self.disk.copy());
        Node {
            name: self.name.clone(),
            disk,
            backup: None,
            formers: Vec::new(),
            life: None,
            lives: 0,
            timer_at: None,
            paused_until: Duration::ZERO,
            clock: self.clock,
            policy: self.policy.clone(),
            is_clone: true,
            is_pod: false,
            peers: self.peers.clone(),
            sends_left: None,
            promise: None,
        }
    }

    /// The time that its process acts on.
    pub fn wall(&mut self, now: Duration) -> Timestamp {
        self.moment(now).wall
    }

    /// As [`wall`](Self::wall), with what a wait is told by.
    pub fn moment(&self, now: Duration) -> Moment {
        self.read(self.clock.reading(now))
    }

    /// As [`moment`](Self::moment), by the exact clock.
    pub fn exact(&self, now: Duration) -> Moment {
        self.read(self.clock.exact(now))
    }

    fn read(&self, reading: Timestamp) -> Moment {
        match &self.life {
            None => MonotonicWall::at(reading).read(reading),
            Some(life) => life.monotonic_wall.read(reading),
        }
    }

    pub fn time(&mut self, now: Duration) -> Now {
        Now { wall: self.wall(now), monotonic: self.clock.monotonic(now) }
    }

    pub fn mend_disk(&mut self) {
        self.disk.set_sync_fails(false);
        self.disk.set_full(false);
    }
}

/// The limits in force; `differs` has some of them otherwise than the other nodes do.
fn policy(limits: Limits, differs: bool, when: [WhenCutOff; 4]) -> Policy {
    let long = Window::Session { ttl: limits.long() };
    let brief = Window::Session { ttl: Duration::from_secs(if differs { 2 } else { 1 }) };
    let two_seconds = Window::Fixed(Duration::from_secs(2));
    let tools = |name, max, window| Limit::new(name, max, window).when("tool", "*");
    // Of no round length, so that ticks and ends fall together in every way.
    let lone = |name, window| Limit::new(name, 1, window).when("client", "*").per("client");
    let policy = match limits {
        Limits::Single { max } => Policy::new([Limit::new("all", max, long).when_cut_off(when[0])]),
        Limits::PerSession => Policy::new([Limit::new("calls", 1_000, long).per("session")]),
        Limits::Varied | Limits::Brief => Policy::new([
            // What calls of tools are for is not for the lone clients, and the other way round.
            tools("tool", if differs { 3 } else { 5 }, long)
                .per("session")
                .per("tool")
                .when_cut_off(when[0]),
            tools("brief", 4, brief).per("user").per("tool").when_cut_off(when[1]),
            tools("window", if differs { 12 } else { 8 }, two_seconds)
                .per("user")
                .when_cut_off(when[2]),
            tools("all", 1_000, long).when_cut_off(when[3]),
            lone("lone window", Window::Fixed(Duration::from_millis(397))),
            lone("lone session", Window::Session { ttl: Duration::from_millis(311) }),
        ]),
    };
    // Proven: these limits are in range and have names of their own.
    policy.expect("valid limits")
}

/// The highest limit that any node has, by its name.
pub(super) fn max_anywhere(limit: &str, here: u64) -> u64 {
    match limit {
        "tool" => 5,
        "window" => 12,
        _ => here,
    }
}
