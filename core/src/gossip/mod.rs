//! The replication machine: what a node sends to which peer, and when. It does no IO and reads no clock.
//!
//! Digests and deltas follow Scuttlebutt (van Renesse et al., "Efficient reconciliation and flow control for anti-entropy
//! protocols", LADIS 2008). Small clusters push each node's own changes to every peer; large ones spread rumors to a few
//! peers each round (Demers et al., "Epidemic algorithms for replicated database maintenance", PODC 1987): to those who
//! asked for it, and to others by chance. In both, digests find what was missed.
//!
//! # The contract of the poll loop
//!
//! The shell owns the clock, the connections and the loop:
//!
//! 1. After every [`Gossip::handle_input`] and [`Gossip::handle_timeout`] it calls [`Gossip::poll_output`] until that is
//!    empty, and does what each [`Output`] says. Each `Dial` brings one [`Up`](LinkEvent::Up), [`Unproven`](LinkEvent::Unproven) or
//!    [`DialFailed`](LinkEvent::DialFailed) as an input, each `Send` one [`Sent`](LinkEvent::Sent) unless its link goes down.
//! 2. Then it waits for the next event, at most until [`Gossip::poll_timeout`], which may have changed with any call.
//! 3. An event goes to `handle_input`; when the time has come, it calls `handle_timeout`. To call that early does no harm.
//! 4. While [`Gossip::must_be_told`] is true, every change of an own counter brings [`Input::Changed`].
//! 5. The monotonic clock of [`Now`] never steps back.
//!
//! Equal seeds and equal calls make equal outputs. In its canonical form, with a network that never answers:
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use tallymesh_core::gossip::{Gossip, GossipSettings, Input, Output};
//! use tallymesh_core::id::{Incarnation, ReplicaId};
//! use tallymesh_core::link::LinkEvent;
//! use tallymesh_core::table::{Bounds, Table};
//! use tallymesh_core::time::{Now, Timestamp};
//!
//! let incarnation = Incarnation { boot: 1, nonce: 99 };
//! let own = ReplicaId { node: "a".parse()?, incarnation };
//! let table = Arc::new(Table::new(own, Bounds::default(), [1, 2, 3, 4]));
//! let mut now = Now { wall: Timestamp(1_790_000_000_000), monotonic: Duration::ZERO };
//! let mut gossip = Gossip::new(table, GossipSettings::default(), 7, now);
//!
//! let mut events = vec![Input::Peers(vec!["10.0.0.2:7946".to_owned().into()])];
//! let mut dials = 0;
//! while now.monotonic < Duration::from_secs(1) {
//!     // What happened, or the passing of time.
//!     match events.pop() {
//!         Some(event) => gossip.handle_input(now, event),
//!         None => {
//!             now.monotonic = now.monotonic.max(gossip.poll_timeout());
//!             gossip.handle_timeout(now);
//!         }
//!     }
//!     // What is to be done about it.
//!     while let Some(output) = gossip.poll_output() {
//!         match output {
//!             Output::Dial { address } => {
//!                 dials += 1;
//!                 let error = "no route to host".to_owned();
//!                 events.push(Input::Link(LinkEvent::DialFailed { address, error }));
//!             }
//!             Output::Send { .. } | Output::Close { .. } => unreachable!("no link is up"),
//!             Output::Report { report, .. } => println!("{report:?}"),
//!         }
//!     }
//! }
//! assert!(dials > 1, "it is dialed again and again");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where its state is
//!
//! What the machine remembers is split by what it is for, and each part keeps its fields to itself: `Addresses` (what to
//! dial), `Members` (who was ever met), `Link` with its streams, chains, goals and clock (one peer), `Timers` (rounds and digests), `Urgent`, `Rest`,
//! `Repair` (what to ask for), `Rumors` (what to pass on), `Feeders` (who passes it on to us), `Suspicion` (who is silent) and `Sweep`. The files of this folder are methods of [`Gossip`] by
//! subject; they go through the front of these parts.

mod addresses;
mod arriving;
#[cfg(test)]
mod bound_tests;
mod cause;
mod chain;
mod comparison;
mod contest;
mod event;
mod exchange;
mod feed;
#[cfg(test)]
mod generation_tests;
mod handshake;
#[cfg(test)]
mod hello_tests;
mod leaving;
#[cfg(test)]
mod leaving_tests;
mod limits;
mod link;
mod members;
mod operator;
#[cfg(test)]
mod operator_tests;
mod own_word;
#[cfg(test)]
mod own_word_tests;
mod peer_clock;
mod peer_exchange;
#[cfg(test)]
mod peer_exchange_tests;
mod peers;
mod priority;

#[cfg(test)]
mod proven_tests;
#[cfg(test)]
mod removed_tests;
mod repair;
mod rest;
mod rounds;
mod rumors;
mod settings;
mod streams;
mod suspicion;
#[cfg(test)]
mod suspicion_tests;
mod sweep;
mod sync_goals;
#[cfg(test)]
mod test_net;
#[cfg(test)]
mod tests;
mod urgent;
mod vouching;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use core::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::id::{NodeId, ReplicaId};
use crate::link::{LinkEvent, LinkId};
use crate::table::{Bound, Table};
use crate::time::{Now, Timestamp};
use crate::wire::{CloseReason, Message};
use addresses::Addresses;
use arriving::Arrival;
pub use arriving::Waiting;
pub use cause::Cause;
use contest::Contest;
pub use event::{HandshakeFailure, Input, Output, PeerAddresses, Report};
use feed::Feeders;
use leaving::Leaving;
use link::Link;
use members::Members;
pub use members::{KnownMember, MEMBER_FORGOTTEN_AFTER, PEERS_MAX, PeerSource};
pub use peers::{PeerAbsence, PeerStatus};
pub use priority::STRANGERS_MAX;
use repair::Repair;
use rest::Rest;
use rounds::Timers;
use rumors::Rumors;
pub use settings::GossipSettings;
pub use suspicion::CutOff;
use suspicion::Suspicion;
use sweep::Sweep;
use urgent::Urgent;

/// From when on a queue of frames that does not get shorter is worth a word.
const QUEUE_PATIENCE: Duration = Duration::from_secs(1);

/// The machine.
///
/// Its methods: what goes in ([`handle_input`](Self::handle_input), [`handle_timeout`](Self::handle_timeout)), what comes
/// out ([`poll_output`](Self::poll_output), [`poll_timeout`](Self::poll_timeout), [`must_be_told`](Self::must_be_told)), and
/// what can be seen of it ([`peers`](Self::peers), [`is_caught_up`](Self::is_caught_up), [`is_ready`](Self::is_ready),
/// [`has_left`](Self::has_left)).
#[derive(Debug)]
pub struct Gossip {
    table: Arc<Table>,
    own: ReplicaId,
    settings: GossipSettings,
    random: StdRng,
    links: BTreeMap<LinkId, Link>,
    /// By the link of each newcomer.
    contests: BTreeMap<LinkId, Contest>,
    addresses: Addresses,
    members: Members,
    outputs: VecDeque<Output>,
    timers: Timers,
    urgent: Urgent,
    rest: Rest,
    repair: Repair,
    rumors: Rumors,
    /// What others told as urgent, to be passed on like that.
    urgent_rumors: Rumors,
    feeders: Feeders,
    sweep: Sweep,
    suspicion: Suspicion,
    /// The latest time by which a watermark was believed: see `Delta::as_of`.
    vouched_as_of: Timestamp,
    /// The other members, as the table knows them.
    told_members: BTreeSet<NodeId>,
    /// When own cells were last given versions above those that a peer had made up.
    outgrown_at: Option<Duration>,
    arrival: Arrival,
    /// How far it is on its way to its end.
    leaving: Option<Leaving>,
    was_told_of_peers: bool,
    /// Whether the config names any peer.
    has_peers: bool,
}

impl Gossip {
    /// A machine without links. It takes all its randomness from `seed`.
    pub fn new(table: Arc<Table>, settings: GossipSettings, seed: u64, now: Now) -> Gossip {
        Gossip {
            own: table.own_replica(),
            table,
            settings,
            random: StdRng::seed_from_u64(seed),
            links: BTreeMap::new(),
            contests: BTreeMap::new(),
            addresses: Addresses::default(),
            members: Members::default(),
            outputs: VecDeque::new(),
            timers: Timers::new(now.monotonic),
            urgent: Urgent::new(now.monotonic),
            rest: Rest::default(),
            repair: Repair::default(),
            rumors: Rumors::default(),
            urgent_rumors: Rumors::default(),
            feeders: Feeders::default(),
            sweep: Sweep::new(now.monotonic),
            suspicion: Suspicion::default(),
            vouched_as_of: Timestamp::default(),
            told_members: BTreeSet::new(),
            outgrown_at: None,
            arrival: Arrival::new(now.monotonic),
            leaving: None,
            was_told_of_peers: false,
            has_peers: false,
        }
    }

    /// Takes in what happened. Afterwards, call [`poll_output`](Self::poll_output) until it is empty.
    pub fn handle_input(&mut self, now: Now, input: Input) {
        if !matches!(input, Input::Link(LinkEvent::Frame { .. } | LinkEvent::Sent { .. })) {
            self.end_rest(now);
        }
        match input {
            Input::Peers(peers) => {
                self.was_told_of_peers = true;
                self.has_peers = !peers.is_empty();
                self.set_peers(now, peers);
                self.suspicion.look_soon();
            }
            Input::Link(event) => self.link_event(now, event),
            Input::Urgent => self.want_urgent(now),
            Input::Changed => {}
            Input::Stop => self.stop(now),
        }
        self.finish(now);
    }

    /// What follows whatever happened.
    fn finish(&mut self, now: Now) {
        self.end_contests(now);
        self.look_whether_ready(now);
        self.look_if_stale(now);
        self.leave_if_confirmed(now);
        self.dial(now);
        self.flush();
    }

    fn link_event(&mut self, now: Now, event: LinkEvent) {
        match event {
            LinkEvent::Up { link, dialed, remote, peer } => {
                let remote = remote.and_then(|remote| remote.parse().ok());
                self.link_up(now, link, dialed, (remote, peer));
            }
            LinkEvent::DialFailed { address, error } => self.dial_failed(now, address, error),
            LinkEvent::Unproven { dialed, remote, error } => {
                self.unproven(now, dialed, remote, error);
            }
            LinkEvent::Frame { link, bytes } => {
                self.frame(now, link, &bytes);
                if !self.urgent_rumors.is_empty() {
                    self.want_urgent(now);
                }
            }
            LinkEvent::Sent { link, frames } => {
                if let Some(state) = self.links.get_mut(&link) {
                    state.left(frames);
                    self.pump(now, link);
                }
            }
            LinkEvent::Down { link } => self.link_broke(now, link),
        }
    }

    /// Does what is due by now. Afterwards, call [`poll_output`](Self::poll_output) until it is empty.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.has_left() {
            // No peer listens any more.
            return self.timers.pause(now.monotonic + self.settings.interval);
        }
        if self.urgent.is_due(now.monotonic) {
            self.push_urgent(now);
        }
        if self.timers.digest_is_due(now.monotonic) {
            self.anti_entropy_round(now);
        }
        if self.timers.round_is_due(now.monotonic) {
            self.round(now);
        }
        self.finish(now);
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next, on the monotonic clock.
    pub fn poll_timeout(&self) -> Duration {
        let regular = self.timers.next_timeout();
        if self.has_left() {
            // What was urgent was told before.
            return regular;
        }
        let due = regular.min(self.urgent.next_timeout().unwrap_or(regular));
        let due = due.min(self.leaves_at().unwrap_or(due));
        due.min(self.contest_ends_at().unwrap_or(due))
    }

    /// True if the shell must send [`Input::Changed`] for every change of an own counter: the next round may put the machine
    /// to rest. To be read before each [`handle_timeout`](Self::handle_timeout).
    pub fn must_be_told(&self) -> bool {
        self.rest.is_near()
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Whether every peer of the config has answered, and what each peer had when we met has arrived here. A peer that has
    /// several addresses has answered once all were tried and one did.
    pub fn is_caught_up(&self) -> bool {
        let has_all = |link: &Link| link.peer().is_none() || link.goals.all_reached();
        self.addresses.all_answered() && self.links.values().all(has_all)
    }

    /// Counts and reports that something was refused over a bound that the table does not know of.
    fn refuse(&mut self, bound: Bound) {
        self.table.count_refusal(bound);
        self.bound_reached(bound);
    }

    fn bound_reached(&mut self, bound: Bound) {
        self.report(Report::BoundReached { bound });
    }

    /// Something is due to a peer and has to wait: notes it, and says so if it has waited for long.
    fn queue_is_full(&mut self, now: Now, link: LinkId) {
        let stuck = |state: &mut Link| state.is_stuck(now.monotonic, QUEUE_PATIENCE);
        if self.links.get_mut(&link).is_some_and(stuck) {
            self.refuse(Bound::FramesQueued);
        }
    }

    /// Puts a message in the link's present frame.
    fn send(&mut self, link: LinkId, message: &Message) {
        let bytes_max = self.settings.frame_bytes_max;
        let Some(state) = self.links.get_mut(&link) else { return };
        if let Some(frame) = state.push(message, bytes_max) {
            self.outputs.push_back(Output::Send { link, frame });
        }
    }

    /// Sends the frames under way.
    fn flush(&mut self) {
        for (link, state) in &mut self.links {
            if let Some(frame) = state.finish_frame() {
                self.outputs.push_back(Output::Send { link: *link, frame });
            }
        }
    }

    fn close(&mut self, now: Now, link: LinkId, reason: CloseReason) {
        self.send(link, &Message::Goodbye { reason });
        self.drop_link(now, link);
    }

    /// Closes a link from our side, after what is under way.
    fn drop_link(&mut self, now: Now, link: LinkId) {
        if let Some(frame) = self.links.get_mut(&link).and_then(Link::finish_frame) {
            self.outputs.push_back(Output::Send { link, frame });
        }
        self.outputs.push_back(Output::Close { link });
        self.link_down(now, link);
    }

    /// Tells the table how many peers may count what we have not heard of.
    fn count_peers(&self) {
        self.table.set_peers(self.connected());
    }

    /// Tells the table who the other members are, if that has changed.
    fn tell_of_members(&mut self) {
        let members = || self.members.counted().map(|member| &member.replica.node);
        if !members().eq(&self.told_members) {
            self.told_members = members().cloned().collect();
            self.table.set_members(&self.told_members);
        }
    }
}
