//! The thread that runs the gossip machine between transport and clock.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};

use super::bounds_watch::grown;
use super::changes::{Change, Changed};
use super::clock_watch::ClockWatch;
use super::descriptors::{self, Room};
use super::disk_thread::DiskThread;
use super::log::Reporter;
use super::peer_sources::{Dns, Outcome, PeerSources, Told};
use super::restarts::caught;
use super::wakers::Worker;
use super::{OpenError, Seen, Signals, lock, spawn};
use crate::clock::Clock;
use crate::config::{Config, PeerEntry};
use crate::credentials::Credentials;
use crate::log_line;
use crate::random::random;
use crate::transport::{Handshake, Security, Tcp, Transport};
use tallymesh_core::gossip::{Gossip, GossipSettings, Input, KnownMember, Output, STRANGERS_MAX};
use tallymesh_core::table::{Bound, DirtySet, Rejections, Table};
use tallymesh_core::time::Now;

/// How often the disk is told when the members were last heard.
const NOTE_MEMBERS_EVERY: Duration = Duration::from_secs(60);
/// How long it may take to say goodbye to the peers.
const GOODBYE: Duration = Duration::from_millis(500);

/// Starts to listen, then the thread, and waits until it has the peers' state, or has waited for it long enough.
pub(super) async fn start(
    config: &Config,
    (table, members): (Arc<Table>, Vec<KnownMember>),
    clock: Arc<Clock>,
    (disk, signals): (Arc<DiskThread>, &Arc<Signals>),
    changes: mpsc::Receiver<Change>,
) -> Result<(JoinHandle<()>, Option<SocketAddr>), OpenError> {
    let (tell_caught_up, caught_up) = oneshot::channel();
    let listening = config.listen.map(listen).transpose()?;
    let address = listening.as_ref().map(TcpListener::local_addr).transpose();
    let address = address.map_err(OpenError::Threads)?;
    let mut settings = config.gossip.clone();
    // Others take the address that they see us at, with the port that we listen at.
    let seen = address.map(|address| format!(":{}", address.port()));
    settings.advertised = settings.advertised.or(seen);
    if listening.is_some() || !config.peers.is_empty() {
        settings.links_max = room_for(settings.links_max, signals);
    }
    let kept = Kept {
        settings,
        listening,
        table,
        members,
        clock,
        signals: signals.clone(),
        reporter: Reporter::new(config.other_slots.clone()),
        peers: config.peers.clone(),
        credentials: config.credentials.clone(),
        changes,
        confirmed: None,
        caught_up: Some((tell_caught_up, config.sync_timeout)),
        in_memory: config.data_dir.is_none(),
    };
    let runtime = event_loop().map_err(OpenError::Threads)?;
    let thread = spawn("gossip", move || {
        let _guard = ExitGuard { signals: kept.signals.clone(), disk };
        // Moved in, so that the port is free before that is said.
        let mut kept = kept;
        kept.run(runtime);
    })?;
    // An error means that the thread stopped; it is started again, and the health says so.
    let _ = caught_up.await;
    Ok((thread, address))
}

fn listen(address: SocketAddr) -> Result<TcpListener, OpenError> {
    let bound = TcpListener::bind(address).and_then(|listening| {
        listening.set_nonblocking(true)?;
        Ok(listening)
    });
    bound.map_err(|source| OpenError::Listen { address, source })
}

/// How many of the connections that are allowed the process may open; says so if those are fewer.
fn room_for(links_max: usize, signals: &Signals) -> usize {
    let Room { connections_max, lacks } = descriptors::make_room(links_max);
    if let Some(lacks) = lacks {
        log_line::write(|| tracing::warn!("{lacks}"));
        signals.few_descriptors.get_or_init(|| lacks);
    }
    connections_max
}

fn event_loop() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// What outlives a panic of the thread: above all the socket, so that no other process gets the port meanwhile.
struct Kept {
    settings: GossipSettings,
    listening: Option<TcpListener>,
    table: Arc<Table>,
    /// The members, as of when they were noted last.
    members: Vec<KnownMember>,
    clock: Arc<Clock>,
    signals: Arc<Signals>,
    reporter: Reporter,
    /// The list of peers in force.
    peers: Vec<PeerEntry>,
    /// The keys in force; without them, peers prove nothing.
    credentials: Option<Credentials>,
    changes: mpsc::Receiver<Change>,
    /// Up to which version of its own some peer had confirmed all, as of the last round; `None` while it knew of no peer.
    confirmed: Option<u64>,
    /// The opening, which waits for the peers' state, and how long it does.
    caught_up: Option<(oneshot::Sender<()>, Duration)>,
    in_memory: bool,
}

impl Kept {
    /// Gossips until it is told to stop, and begins again after a panic.
    fn run(&mut self, runtime: Runtime) {
        let mut runtime = Ok(runtime);
        loop {
            let ended = match runtime {
                Ok(runtime) => self.gossip(runtime),
                Err(error) => Err(format!("no event loop: {error}")),
            };
            let Err(why) = ended else { return };
            let pause = self.stopped(&why);
            if self.signals.wait_for_stop(pause) {
                return self.leave();
            }
            runtime = event_loop();
        }
    }

    /// Gossips until it is told to stop.
    ///
    /// # Errors
    /// Why it stopped although it was not told to.
    fn gossip(&mut self, runtime: Runtime) -> Result<(), String> {
        let ended = caught(|| {
            runtime.block_on(async {
                self.begin()?.run().await;
                Ok(())
            })
        });
        // Closes the connections. A name that is being looked up is not waited for.
        let _ = caught(|| runtime.shutdown_background());
        ended.and_then(|ended: io::Result<()>| ended.map_err(|error| error.to_string()))
    }

    fn begin(&mut self) -> io::Result<GossipLoop<'_, Tcp>> {
        let listening = self.listening.as_ref().map(TcpListener::try_clone).transpose()?;
        let (frame_bytes_max, links_max) = (self.settings.frame_bytes_max, self.settings.links_max);
        let security = self.credentials.clone().map(|credentials| {
            let own = self.table.own_replica();
            let handshake = Handshake::new(credentials, &self.settings.cluster, own);
            Security::new(handshake, self.settings.handshake_timeout)
        });
        let connections_max = links_max.saturating_add(STRANGERS_MAX);
        let transport = Tcp::on(listening, frame_bytes_max, connections_max, security)?;
        let (seed, now) = (u64::from_le_bytes(random()?), self.clock.now());
        let mut gossip = Gossip::new(self.table.clone(), self.settings.clone(), seed, now);
        gossip.remember(self.members.clone(), now);
        lock(&self.signals.restarts).started(Worker::Gossip, now.monotonic);
        Ok(GossipLoop {
            gossip,
            transport,
            sources: PeerSources::new(Dns::default()),
            addresses_left_out: 0,
            clock_watch: ClockWatch::default(),
            rejected: self.table.rejections(),
            noted: (0, now.monotonic),
            kept: self,
        })
    }

    /// Ends without a goodbye, since there is nothing to say it with.
    fn leave(&mut self) {
        self.table.harvest(DirtySet::All);
        let own = self.table.own_watermark().0;
        let unconfirmed = self.confirmed.map_or(0, |confirmed| own.saturating_sub(confirmed));
        self.signals.unconfirmed.store(unconfirmed, Ordering::Relaxed);
        log_line::write(|| self.reporter.left(unconfirmed, self.in_memory));
    }

    /// Lets the rest of the process see that no peer is heard; returns how long to wait before it begins again.
    fn stopped(&mut self, why: &str) -> Duration {
        // An opening does not wait for what may never come.
        self.caught_up = None;
        self.signals.asleep.set(Worker::Gossip, false);
        let mut seen = lock(&self.signals.seen);
        seen.peers.clear();
        drop(seen);
        let now = self.clock.monotonic();
        let pause = lock(&self.signals.restarts).stopped(Worker::Gossip, now, why);
        log_line::write(|| {
            tracing::error!(
                why, pause = ?pause,
                "the gossip thread stopped, and is started again after a pause; nothing is told to peers or heard from them meanwhile. \
                 Please report it"
            );
        });
        pause
    }
}

/// Says that the thread has ended.
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
struct GossipLoop<'a, T> {
    gossip: Gossip,
    transport: T,
    sources: PeerSources,
    /// How many addresses of peers there was no room for.
    addresses_left_out: usize,
    clock_watch: ClockWatch,
    /// What was refused by the last look.
    rejected: Rejections,
    /// As of which change of the members, and when, they were noted.
    noted: (u64, Duration),
    kept: &'a mut Kept,
}

impl<T: Transport> GossipLoop<'_, T> {
    async fn run(mut self) {
        self.sources.set(self.kept.peers.clone());
        self.sources_changed();
        let signals = self.kept.signals.clone();
        loop {
            #[cfg(test)]
            signals.panic_if_provoked(Worker::Gossip);
            let behind = self.kept.clock.behind();
            log_line::write(|| self.clock_watch.look(behind));
            signals.asleep.set(Worker::Gossip, self.gossip.must_be_told());
            let until_tick = self.gossip.poll_timeout().saturating_sub(self.kept.clock.monotonic());
            tokio::select! {
                () = signals.stop.notified() => break,
                event = self.transport.next_event() => self.input(Input::Link(event)),
                () = signals.urgent.notified() => self.input(Input::Urgent),
                () = signals.changed.notified() => self.input(Input::Changed),
                told = self.sources.next() => self.source_told(told),
                Some((changed, taken)) = self.kept.changes.recv() => {
                    match changed {
                        Changed::Peers(peers) => {
                            self.kept.peers.clone_from(&peers);
                            self.sources.set(peers);
                            self.sources_changed();
                        }
                        Changed::Credentials(credentials) => {
                            self.kept.credentials = Some(credentials.clone());
                            self.transport.set_credentials(credentials);
                        }
                    }
                    self.show(self.kept.clock.now());
                    // Only if the caller has given up, there is no receiver.
                    let _ = taken.send(());
                }
                () = tokio::time::sleep(until_tick) => {
                    let now = self.kept.clock.now();
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
        let rejections = self.kept.table.rejections();
        let now = self.kept.clock.monotonic();
        let reached: Vec<Bound> = grown(&self.rejected, &rejections).collect();
        for bound in reached {
            self.say(|reporter, now| reporter.bound_reached(now, bound));
        }
        self.say(Reporter::tell_dropped);
        self.rejected = rejections;
        lock(&self.kept.signals.bounds).look(now, rejections);
    }

    /// Takes in what an entry of the list of peers was found to lead to.
    fn source_told(&mut self, told: Told) {
        match self.sources.take(told) {
            Outcome::Changed => self.sources_changed(),
            Outcome::Same => {}
            Outcome::Trouble(trouble) => self.say(|reporter, now| reporter.trouble(now, &trouble)),
        }
        if self.addresses_left_out > 0 {
            self.kept.table.count_refusal(Bound::Addresses);
        }
    }

    /// Tells the machine which addresses to dial.
    fn sources_changed(&mut self) {
        let (peers, left_out) = self.sources.peers();
        self.addresses_left_out = left_out;
        self.input(Input::Peers(peers));
    }

    /// Writes to the log.
    fn say(&mut self, line: impl FnOnce(&mut Reporter, Duration)) {
        let Kept { clock, reporter, signals, .. } = &mut *self.kept;
        let now = clock.monotonic();
        log_line::write(|| line(reporter, now));
        signals.log_lines_dropped.store(reporter.dropped(), Ordering::Relaxed);
    }

    fn input(&mut self, input: Input) {
        self.gossip.handle_input(self.kept.clock.now(), input);
        self.outputs();
    }

    fn outputs(&mut self) {
        while let Some(output) = self.gossip.poll_output() {
            match output {
                Output::Dial { address } => self.transport.dial(address),
                Output::Send { link, frame } => self.transport.send(link, frame),
                Output::Close { link } => self.transport.close(link),
                Output::Report { cause, report } => {
                    self.say(|reporter, now| reporter.report(now, &cause, &report));
                }
            }
        }
    }

    fn tell_if_caught_up(&mut self) {
        let Some((_, patience)) = &self.kept.caught_up else { return };
        let caught_up = self.gossip.is_caught_up();
        let waited = self.kept.clock.monotonic();
        if caught_up || waited >= *patience {
            if !caught_up {
                let peers = self.gossip.peers(self.kept.clock.now());
                self.say(|reporter, now| reporter.opened_early(now, &peers));
            }
            if let Some((tell, _)) = self.kept.caught_up.take() {
                self.show(self.kept.clock.now());
                // Only if the opening was given up, there is no receiver.
                let _ = tell.send(());
            }
        }
    }

    fn tell_if_ready(&mut self) {
        if self.gossip.is_ready() && !*self.kept.signals.ready.borrow() {
            let missing: Vec<String> =
                self.gossip.waiting_for().iter().map(ToString::to_string).collect();
            self.say(|reporter, _| reporter.ready(&missing));
            self.show(self.kept.clock.now());
            self.kept.signals.ready.send_replace(true);
        }
    }

    /// Lets the rest of the process see how the machine is doing.
    fn show(&mut self, now: Now) {
        let (changes, noted_at) = (self.gossip.member_changes(), self.noted.1);
        if changes != self.noted.0 || now.monotonic >= noted_at + NOTE_MEMBERS_EVERY {
            self.kept.members = self.gossip.known_members(now);
            if !self.kept.in_memory {
                *lock(&self.kept.signals.members) = Some(self.kept.members.clone());
            }
            self.noted = (changes, now.monotonic);
        }
        let peers = self.gossip.peers(now);
        if !peers.is_empty() {
            let own = self.kept.table.own_watermark().0;
            self.kept.confirmed = Some(own.saturating_sub(self.gossip.unconfirmed()));
        }
        // Who is ready to be asked stays so while the gossip begins again.
        let is_ready = self.gossip.is_ready() || *self.kept.signals.ready.borrow();
        *lock(&self.kept.signals.seen) = Seen {
            peers,
            cluster_size: self.gossip.cluster_size(),
            cut_off: self.gossip.cut_off(),
            is_ready,
            waiting_for: self.gossip.waiting_for().iter().map(ToString::to_string).collect(),
        };
    }

    /// Sends what is left, says goodbye once a peer has confirmed it, and waits until that has left, all of it for a bounded time.
    async fn say_goodbye(mut self) {
        self.input(Input::Stop);
        let mut gives_up_at = None;
        loop {
            self.kept.signals.unconfirmed.store(self.gossip.unconfirmed(), Ordering::Relaxed);
            let now = self.kept.clock.monotonic();
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
                    self.gossip.handle_timeout(self.kept.clock.now());
                    self.outputs();
                }
            }
        }
        let (unconfirmed, in_memory) = (self.gossip.unconfirmed(), self.kept.in_memory);
        self.say(|reporter, _| reporter.left(unconfirmed, in_memory));
    }
}
