//! The replication machine: what a node says to which peer, and when. It does no IO: bytes and time come in through
//! [`Gossip::handle_input`] and [`Gossip::handle_timeout`], bytes and reports go out through [`Gossip::poll_output`].
//!
//! Digests and deltas follow Scuttlebutt (van Renesse et al., "Efficient reconciliation and flow control for anti-entropy
//! protocols", LADIS 2008). Small clusters push each node's own changes to every peer; large ones pass news on to a few
//! random peers each round (Demers et al., "Epidemic algorithms for replicated database maintenance", PODC 1987). In both,
//! digests find what was missed.

mod addresses;
mod chain;
mod exchange;
mod handshake;
mod link;
mod rounds;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::id::{ReplicaId, Version};
use crate::table::{SlotId, Table};
use crate::time::Now;
use crate::wire::{Farewell, Message};
use addresses::Addresses;
use link::Link;
pub use link::LinkId;

/// How a node gossips.
#[derive(Debug, Clone)]
pub struct GossipSettings {
    /// Time between two rounds, on average.
    pub interval: Duration,
    /// Time between two digests to a peer.
    pub digest_interval: Duration,
    /// Up to this many nodes, each sends its own changes to every peer.
    pub direct_up_to: usize,
    /// In a larger cluster, how many random peers hear the news of each round.
    pub fanout: usize,
    /// The longest frame.
    pub frame_bytes_max: usize,
    /// The most frames that wait for a slow peer.
    pub frames_queued_max: usize,
    /// The most links at a time.
    pub links_max: usize,
    /// How long a peer may take to introduce itself.
    pub handshake_timeout: Duration,
    /// A peer that was not heard for so long is taken for gone.
    pub silence_timeout: Duration,
    /// From this difference between a peer's clock and ours, it is reported.
    pub clock_offset_max: Duration,
}

impl Default for GossipSettings {
    fn default() -> GossipSettings {
        GossipSettings {
            interval: Duration::from_millis(50),
            digest_interval: Duration::from_secs(1),
            direct_up_to: 32,
            fanout: 4,
            frame_bytes_max: 64 * 1024,
            frames_queued_max: 8,
            links_max: 2048,
            handshake_timeout: Duration::from_secs(5),
            silence_timeout: Duration::from_secs(5),
            clock_offset_max: Duration::from_millis(500),
        }
    }
}

/// What happens to the machine.
#[derive(Debug)]
pub enum Input<'a> {
    /// These are the peers' addresses now.
    Addresses(Vec<String>),
    /// A connection stands: one that we dialed, or one that came in.
    LinkUp { link: LinkId, dialed: Option<String> },
    /// An address that was to be dialed did not answer.
    DialFailed { address: String },
    /// A whole frame came in.
    Frame { link: LinkId, bytes: &'a [u8] },
    /// Frames of this link have left.
    Sent { link: LinkId, frames: usize },
    /// The connection is gone.
    LinkDown { link: LinkId },
    /// A decision took a counter past the urgent fraction of its limit.
    Urgent,
    /// An own counter changed, when the machine [had to be told](Gossip::must_be_told).
    Changed,
    /// The node stops.
    Stop,
}

/// What the machine wants done.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    Dial { address: String },
    Send { link: LinkId, frame: Vec<u8> },
    Close { link: LinkId },
    Report(Report),
}

/// Something that the operator may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    PeerUp {
        replica: ReplicaId,
    },
    PeerDown {
        replica: ReplicaId,
    },
    /// An address leads to ourselves.
    OwnAddress {
        address: String,
    },
    /// Two live processes go by one node id.
    NodeIdInUse {
        other: ReplicaId,
    },
    /// A peer said goodbye for this reason.
    Refused {
        reason: Farewell,
    },
    /// A peer speaks another version.
    OtherProtocol {
        protocol: u32,
    },
    /// A link brought bytes that are no frame of ours.
    BadFrame {
        link: LinkId,
        error: String,
    },
    /// A peer sent cells that cannot be true.
    Implausible {
        from: ReplicaId,
        about: ReplicaId,
        updates: usize,
    },
    /// A peer's clock differs by this much; positive is ahead of ours.
    ClockOffset {
        replica: ReplicaId,
        offset_ms: i64,
    },
}

/// A peer, as seen from here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// The address from the config that leads to it; `None` for a peer that only connected to us.
    pub address: Option<String>,
    /// Who it is; `None` until it has introduced itself.
    pub replica: Option<ReplicaId>,
    /// Whether a link to it is up.
    pub connected: bool,
    /// How many of our own updates it has not confirmed yet.
    pub lag: u64,
    /// Its clock minus ours in milliseconds, within about half of `round_trip`.
    pub clock_offset_ms: Option<i64>,
    /// How long a message to it and back took last.
    pub round_trip: Option<Duration>,
    /// How long ago it was last heard.
    pub last_heard: Option<Duration>,
}

/// The machine.
#[derive(Debug)]
pub struct Gossip {
    table: Arc<Table>,
    own: ReplicaId,
    settings: GossipSettings,
    random: StdRng,
    links: BTreeMap<LinkId, Link>,
    addresses: Addresses,
    outputs: VecDeque<Output>,
    next_tick: Duration,
    /// How many rounds in a row had nothing to tell.
    quiet_rounds: u32,
    swept_at: Duration,
    next_digest: Duration,
    next_sweep: Option<SlotId>,
    /// When something urgent is to be sent.
    urgent_at: Option<Duration>,
    /// From when on that may be.
    urgent_from: Duration,
    /// Of each replica that has some, what news are to be passed on in the next round, and of the own one how far they were;
    /// kept only where news travel by rounds.
    news: BTreeMap<ReplicaId, News>,
    /// Since when a peer's digest shows us behind on a replica whose own link should bring it.
    behind_since: BTreeMap<ReplicaId, Duration>,
    /// When a replica was last asked for.
    requested_at: BTreeMap<ReplicaId, Duration>,
}

#[derive(Debug, Default)]
struct News {
    told: Version,
    /// The one link all of it came over, if it was one.
    source: Option<LinkId>,
    /// Cells past the watermark, to be passed on as they are.
    ahead: Vec<SlotId>,
}

impl News {
    fn since(told: Version) -> News {
        News { told, ..News::default() }
    }
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
            addresses: Addresses::default(),
            outputs: VecDeque::new(),
            next_tick: now.monotonic,
            quiet_rounds: 0,
            swept_at: now.monotonic,
            next_digest: now.monotonic,
            next_sweep: None,
            urgent_at: None,
            urgent_from: now.monotonic,
            news: BTreeMap::new(),
            behind_since: BTreeMap::new(),
            requested_at: BTreeMap::new(),
        }
    }

    /// Takes in what happened. Afterwards, [`poll_output`](Self::poll_output) until it is empty.
    pub fn handle_input(&mut self, now: Now, input: Input<'_>) {
        if !matches!(input, Input::Frame { .. } | Input::Sent { .. }) {
            self.end_rest(now);
        }
        match input {
            Input::Addresses(addresses) => self.addresses.set(addresses, now.monotonic),
            Input::LinkUp { link, dialed } => self.link_up(now, link, dialed),
            Input::DialFailed { address } => {
                let jitter = self.jitter();
                self.addresses.failed(&address, now.monotonic, jitter);
            }
            Input::Frame { link, bytes } => self.frame(now, link, bytes),
            Input::Sent { link, frames } => {
                if let Some(state) = self.links.get_mut(&link) {
                    state.queued = state.queued.saturating_sub(frames);
                    self.pump(link);
                }
            }
            Input::LinkDown { link } => self.link_down(now, link),
            Input::Urgent => self.want_urgent(now),
            Input::Changed => {}
            Input::Stop => self.stop(),
        }
        self.dial(now);
        self.flush();
    }

    /// Does what is due by now.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.urgent_at.is_some_and(|at| now.monotonic >= at) {
            self.push_urgent(now);
        }
        if now.monotonic >= self.next_digest {
            self.compare_notes(now);
        }
        if now.monotonic >= self.next_tick {
            self.tick(now);
        }
        self.dial(now);
        self.flush();
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next, on the monotonic clock.
    pub fn poll_timeout(&self) -> Duration {
        let regular = self.next_tick.min(self.next_digest);
        self.urgent_at.map_or(regular, |at| regular.min(at))
    }

    /// Whether [`Input::Changed`] is owed for every change of an own counter, since the next round may be the last one before
    /// the machine rests. To be asked before each [`handle_timeout`](Self::handle_timeout).
    pub fn must_be_told(&self) -> bool {
        self.quiet_rounds + 1 >= rounds::REST_AFTER
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Whether every address leads to a peer whose state of when we met has arrived here, or has failed to answer.
    pub fn is_settled(&self) -> bool {
        let in_sync = |link: &Link| link.peer.is_none() || link.is_synced();
        self.addresses.all_tried() && self.links.values().all(in_sync)
    }

    /// Every address, and every peer that came by itself.
    pub fn peers(&self, now: Now) -> Vec<PeerStatus> {
        let own_version = self.table.watermark(&self.own);
        let of_link = |link: &Link, address: Option<String>| PeerStatus {
            address,
            replica: link.peer.clone(),
            connected: link.peer.is_some(),
            lag: own_version.0.saturating_sub(link.acked.0),
            clock_offset_ms: link.clock_offset_ms,
            round_trip: link.round_trip,
            last_heard: Some(now.monotonic.saturating_sub(link.heard_at)),
        };
        let mut shown = Vec::new();
        let mut peers = Vec::new();
        for (address, replica) in self.addresses.of_peers() {
            let by_replica = |link: &&Link| replica.is_some() && link.peer.as_ref() == replica;
            let link = self.links.values().find(by_replica);
            peers.push(match link {
                Some(link) => of_link(link, Some(address.clone())),
                None => PeerStatus {
                    address: Some(address.clone()),
                    replica: replica.cloned(),
                    connected: false,
                    lag: own_version.0,
                    clock_offset_ms: None,
                    round_trip: None,
                    last_heard: None,
                },
            });
            shown.extend(link.and_then(|link| link.peer.clone()));
        }
        let by_itself = |link: &&Link| link.peer.as_ref().is_some_and(|peer| !shown.contains(peer));
        peers.extend(self.links.values().filter(by_itself).map(|link| of_link(link, None)));
        peers
    }

    fn report(&mut self, report: Report) {
        self.outputs.push_back(Output::Report(report));
    }

    /// Puts a message in the link's present frame.
    fn send(&mut self, link: LinkId, message: &Message) {
        let bytes_max = self.settings.frame_bytes_max;
        let Some(state) = self.links.get_mut(&link) else { return };
        if let Some(frame) = state.outbox.push(message, bytes_max) {
            state.queued += 1;
            self.outputs.push_back(Output::Send { link, frame });
        }
    }

    /// Sends the frames under way.
    fn flush(&mut self) {
        for (link, state) in &mut self.links {
            if let Some(frame) = state.outbox.finish() {
                state.queued += 1;
                self.outputs.push_back(Output::Send { link: *link, frame });
            }
        }
    }

    fn close(&mut self, now: Now, link: LinkId, farewell: Farewell) {
        self.send(link, &Message::Goodbye(farewell));
        self.drop_link(now, link);
    }

    /// Closes a link from our side, after what is under way.
    fn drop_link(&mut self, now: Now, link: LinkId) {
        if let Some(frame) = self.links.get_mut(&link).and_then(|state| state.outbox.finish()) {
            self.outputs.push_back(Output::Send { link, frame });
        }
        self.outputs.push_back(Output::Close { link });
        self.link_down(now, link);
    }

    /// Tells the table how many peers may count unheard.
    fn count_peers(&self) {
        let peers = self.links.values().filter(|link| link.peer.is_some()).count();
        self.table.set_peers(peers);
    }

    fn stop(&mut self) {
        self.table.harvest(crate::table::DirtySet::All);
        for link in self.links.keys().copied().collect::<Vec<_>>() {
            self.pump(link);
            self.send(link, &Message::Goodbye(Farewell::Stopping));
        }
        self.addresses = Addresses::default();
    }
}
