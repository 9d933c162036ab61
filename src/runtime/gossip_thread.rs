//! The thread that runs the gossip machine between transport and clock.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::bounds_watch::grown;
use super::changes::{Change, Changed};
use super::clock_watch::ClockWatch;
use super::disk_thread::DiskThread;
use super::log::Reporter;
use super::peer_sources::{Dns, Outcome, PeerSources, Told};
use super::wakers::Worker;
use super::{OpenError, Seen, Signals, lock, spawn};
use crate::clock::Clock;
use crate::config::{Config, PeerEntry};
use crate::random::random;
use crate::transport::{Handshake, Security, Tcp, Transport};
use tallymesh_core::gossip::{Gossip, Input, KnownMember, Output};
use tallymesh_core::table::{Bound, Rejections, Table};
use tallymesh_core::time::Now;

/// How often the disk is told when the members were last heard.
const NOTE_MEMBERS_EVERY: Duration = Duration::from_secs(60);
/// How long it may take to say goodbye to the peers.
const GOODBYE: Duration = Duration::from_millis(500);

/// Starts the thread, and waits until it listens and has the peers' state, or has waited for it long enough.
pub(super) async fn start(
    config: &Config,
    (table, members): (Arc<Table>, Vec<KnownMember>),
    clock: Arc<Clock>,
    (disk, signals): (Arc<DiskThread>, &Arc<Signals>),
    changes: mpsc::Receiver<Change>,
) -> Result<(JoinHandle<()>, Option<SocketAddr>), OpenError> {
    let (tell_bound, bound) = oneshot::channel();
    let (tell_caught_up, caught_up) = oneshot::channel();
    let (config, signals) = (config.clone(), signals.clone());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(OpenError::Threads)?;
    let seed = u64::from_le_bytes(random().map_err(OpenError::Threads)?);
    let thread = spawn("gossip", move || {
        let _guard = ExitGuard { signals: signals.clone(), disk };
        runtime.block_on(async {
            let security = config.keys.map(|keys| {
                let handshake = Handshake::new(keys, &config.gossip.cluster, &table.own_replica());
                Security::new(handshake, config.gossip.handshake_timeout)
            });
            let (frame_bytes_max, links_max) =
                (config.gossip.frame_bytes_max, config.gossip.links_max);
            let bind = Tcp::bind(config.listen, frame_bytes_max, links_max, security);
            let mut settings = config.gossip;
            let tcp = match bind.await {
                Ok((tcp, address)) => {
                    // Others take the address that they see us at, with the port that we listen at.
                    let seen = address.map(|address| format!(":{}", address.port()));
                    settings.advertised = settings.advertised.or(seen);
                    // Only if the opening was given up, there is no receiver.
                    let _ = tell_bound.send(Ok(address));
                    tcp
                }
                Err(source) => {
                    let error = match config.listen {
                        Some(address) => OpenError::Listen { address, source },
                        None => OpenError::Threads(source),
                    };
                    let _ = tell_bound.send(Err(error));
                    return;
                }
            };
            let mut gossip = Gossip::new(table.clone(), settings, seed, clock.now());
            gossip.remember(members, clock.now());
            let gossip_loop = GossipLoop {
                gossip,
                table,
                transport: tcp,
                clock,
                signals,
                reporter: Reporter::new(config.other_slots),
                sources: PeerSources::new(Dns::default()),
                changes,
                addresses_left_out: 0,
                clock_watch: ClockWatch::default(),
                rejected: Rejections::default(),
                caught_up: Some((tell_caught_up, config.sync_timeout)),
                in_memory: config.data_dir.is_none(),
                noted: (0, Duration::ZERO),
            };
            gossip_loop.run(config.peers).await;
        });
        // A name that is being looked up is not waited for.
        runtime.shutdown_background();
    })?;
    let address = match bound.await {
        Ok(Ok(address)) => address,
        Ok(Err(error)) => return Err(error),
        Err(_) => return Err(OpenError::Stopped("gossip")),
    };
    // An error means that the thread is gone, which close() will find too.
    let _ = caught_up.await;
    Ok((thread, address))
}

/// Says that the thread has ended, also when it was a panic that ended it.
struct ExitGuard {
    signals: Arc<Signals>,
    disk: Arc<DiskThread>,
}

impl Drop for ExitGuard {
    fn drop(&mut self) {
        self.signals.gossip_has_ended(&self.disk);
    }
}

/// The machine and everything around it.
struct GossipLoop<T> {
    gossip: Gossip,
    table: Arc<Table>,
    transport: T,
    clock: Arc<Clock>,
    signals: Arc<Signals>,
    reporter: Reporter,
    sources: PeerSources,
    changes: mpsc::Receiver<Change>,
    /// How many addresses of peers there was no room for.
    addresses_left_out: usize,
    clock_watch: ClockWatch,
    /// What was refused by the last look.
    rejected: Rejections,
    /// The opening, which waits for the peers' state, and how long it does.
    caught_up: Option<(oneshot::Sender<()>, Duration)>,
    in_memory: bool,
    /// As of which change of the members, and when, they were handed to the disk.
    noted: (u64, Duration),
}

impl<T: Transport> GossipLoop<T> {
    async fn run(mut self, peers: Vec<PeerEntry>) {
        self.sources.set(peers);
        self.sources_changed();
        let signals = self.signals.clone();
        loop {
            self.clock_watch.look(self.clock.behind());
            signals.asleep.set(Worker::Gossip, self.gossip.must_be_told());
            let until_tick = self.gossip.poll_timeout().saturating_sub(self.clock.monotonic());
            tokio::select! {
                () = signals.stop.notified() => break,
                event = self.transport.next_event() => self.input(Input::Link(event)),
                () = signals.urgent.notified() => self.input(Input::Urgent),
                () = signals.changed.notified() => self.input(Input::Changed),
                told = self.sources.next() => self.source_told(told),
                Some((changed, taken)) = self.changes.recv() => {
                    match changed {
                        Changed::Peers(peers) => {
                            self.sources.set(peers);
                            self.sources_changed();
                        }
                        Changed::Keys(keys) => self.transport.set_keys(keys),
                    }
                    self.show(self.clock.now());
                    // Only if the caller has given up, there is no receiver.
                    let _ = taken.send(());
                }
                () = tokio::time::sleep(until_tick) => {
                    let now = self.clock.now();
                    self.gossip.handle_timeout(now);
                    self.outputs();
                    self.show(now);
                    self.watch_bounds();
                }
            }
            self.tell_if_caught_up();
            self.tell_if_ready();
        }
        self.say_goodbye().await;
    }

    /// Says which bounds were reached, also by decisions, which are too short to say anything.
    fn watch_bounds(&mut self) {
        let rejections = self.table.rejections();
        let now = self.clock.monotonic();
        for bound in grown(&self.rejected, &rejections) {
            self.reporter.bound_reached(now, bound);
        }
        self.rejected = rejections;
        lock(&self.signals.bounds).look(now, rejections);
    }

    /// Takes in what an entry of the list of peers was found to lead to.
    fn source_told(&mut self, told: Told) {
        match self.sources.take(told) {
            Outcome::Changed => self.sources_changed(),
            Outcome::Same => {}
            Outcome::Trouble(trouble) => self.reporter.trouble(self.clock.monotonic(), &trouble),
        }
        if self.addresses_left_out > 0 {
            self.table.count_refusal(Bound::Addresses);
        }
    }

    /// Tells the machine which addresses to dial.
    fn sources_changed(&mut self) {
        let (peers, left_out) = self.sources.peers();
        self.addresses_left_out = left_out;
        self.input(Input::Peers(peers));
    }

    fn input(&mut self, input: Input) {
        self.gossip.handle_input(self.clock.now(), input);
        self.outputs();
    }

    fn outputs(&mut self) {
        while let Some(output) = self.gossip.poll_output() {
            match output {
                Output::Dial { address } => self.transport.dial(address),
                Output::Send { link, frame } => self.transport.send(link, frame),
                Output::Close { link } => self.transport.close(link),
                Output::Report(report) => self.reporter.report(self.clock.monotonic(), &report),
            }
        }
    }

    fn tell_if_caught_up(&mut self) {
        let Some((_, patience)) = &self.caught_up else { return };
        let caught_up = self.gossip.is_caught_up();
        let waited = self.clock.monotonic();
        if caught_up || waited >= *patience {
            if !caught_up {
                let peers = self.gossip.peers(self.clock.now());
                self.reporter.opened_early(waited, &peers);
            }
            if let Some((tell, _)) = self.caught_up.take() {
                self.show(self.clock.now());
                // Only if the opening was given up, there is no receiver.
                let _ = tell.send(());
            }
        }
    }

    fn tell_if_ready(&mut self) {
        if self.gossip.is_ready() && !*self.signals.ready.borrow() {
            let missing: Vec<String> =
                self.gossip.waiting_for().iter().map(ToString::to_string).collect();
            self.reporter.ready(&missing);
            self.show(self.clock.now());
            self.signals.ready.send_replace(true);
        }
    }

    /// Lets the rest of the process see how the machine is doing.
    fn show(&mut self, now: Now) {
        let (changes, noted_at) = (self.gossip.member_changes(), self.noted.1);
        if !self.in_memory
            && (changes != self.noted.0 || now.monotonic >= noted_at + NOTE_MEMBERS_EVERY)
        {
            *lock(&self.signals.members) = Some(self.gossip.known_members(now));
            self.noted = (changes, now.monotonic);
        }
        *lock(&self.signals.seen) = Seen {
            peers: self.gossip.peers(now),
            cluster_size: self.gossip.cluster_size(),
            cut_off: self.gossip.cut_off(),
            is_ready: self.gossip.is_ready(),
            waiting_for: self.gossip.waiting_for().iter().map(ToString::to_string).collect(),
        };
    }

    /// Sends what is left, says goodbye once a peer has confirmed it, and waits until that has left, all of it for a bounded time.
    async fn say_goodbye(mut self) {
        self.input(Input::Stop);
        let mut gives_up_at = None;
        loop {
            self.signals.unconfirmed.store(self.gossip.unconfirmed(), Ordering::Relaxed);
            let now = self.clock.monotonic();
            if self.gossip.has_left() {
                // A peer that does not read it notices when the connection ends.
                let gives_up_at = *gives_up_at.get_or_insert(now + GOODBYE);
                if self.gossip.frames_queued() == 0 || now >= gives_up_at {
                    break;
                }
            }
            let until_tick = self.gossip.poll_timeout().saturating_sub(now);
            tokio::select! {
                event = self.transport.next_event() => self.input(Input::Link(event)),
                () = tokio::time::sleep(until_tick) => {
                    self.gossip.handle_timeout(self.clock.now());
                    self.outputs();
                }
            }
        }
        self.reporter.left(self.gossip.unconfirmed(), self.in_memory);
    }
}
