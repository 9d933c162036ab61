//! The thread that runs the gossip machine between transport and clock.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::bounds_watch::grown;
use super::clock_watch::ClockWatch;
use super::disk_thread::DiskThread;
use super::log::Reporter;
use super::wakers::Worker;
use super::{OpenError, Signals, lock, random, spawn};
use crate::clock::Clock;
use crate::config::Config;
use crate::transport::{Tcp, Transport};
use tallymesh_core::gossip::{Gossip, Input, Output, PeerAddresses};
use tallymesh_core::link::LinkEvent;
use tallymesh_core::table::{Rejections, Table};

/// How often the peers' names are looked up again.
const LOOK_UP_EVERY: Duration = Duration::from_secs(30);
/// How often names that could not be looked up are.
const LOOK_UP_AGAIN: Duration = Duration::from_secs(1);
/// Answers of lookups on their way in.
const LOOKED_UP_MAX: usize = 16;
/// How long it may take to say goodbye to the peers.
const GOODBYE: Duration = Duration::from_millis(500);

/// Starts the thread, and waits until it listens and has the peers' state, or has waited for it long enough.
pub(super) async fn start(
    config: &Config,
    (table, clock): (Arc<Table>, Arc<Clock>),
    disk: Arc<DiskThread>,
    signals: &Arc<Signals>,
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
            let bind =
                Tcp::bind(config.listen, config.gossip.frame_bytes_max, config.gossip.links_max);
            let tcp = match bind.await {
                Ok((tcp, address)) => {
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
            let gossip = Gossip::new(table.clone(), config.gossip.clone(), seed, clock.now());
            let gossip_loop = GossipLoop {
                gossip,
                table,
                transport: tcp,
                clock,
                signals,
                reporter: Reporter::default(),
                clock_watch: ClockWatch::default(),
                rejected: Rejections::default(),
                caught_up: Some((tell_caught_up, config.sync_timeout)),
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
    clock_watch: ClockWatch,
    /// What was refused by the last look.
    rejected: Rejections,
    /// The opening, which waits for the peers' state, and how long it does.
    caught_up: Option<(oneshot::Sender<()>, Duration)>,
}

impl<T: Transport> GossipLoop<T> {
    async fn run(mut self, peers: Vec<String>) {
        let (tell, mut looked_up) = mpsc::channel(LOOKED_UP_MAX);
        for (index, peer) in peers.iter().enumerate() {
            tokio::spawn(look_up(index, peer.clone(), tell.clone()));
        }
        let unresolved = |name| PeerAddresses { name, addresses: Vec::new() };
        let mut peers: Vec<PeerAddresses> = peers.into_iter().map(unresolved).collect();
        self.input(Input::Peers(peers.clone()));
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
                Some((index, found)) = looked_up.recv() => self.looked_up(&mut peers, index, found),
                () = tokio::time::sleep(until_tick) => {
                    let now = self.clock.now();
                    self.gossip.handle_timeout(now);
                    self.outputs();
                    *lock(&signals.peers) = self.gossip.peers(now);
                    self.watch_bounds();
                }
            }
            self.tell_if_caught_up();
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

    /// Takes in what the name of a peer was found to mean. One that cannot be looked up any more keeps what it meant.
    fn looked_up(&mut self, peers: &mut [PeerAddresses], index: usize, found: Found) {
        let Some(peer) = peers.get_mut(index) else { return };
        match found {
            Ok(addresses) if peer.addresses == addresses => {}
            Ok(addresses) => {
                peer.addresses = addresses;
                self.input(Input::Peers(peers.to_vec()));
            }
            Err(error) => self.reporter.unresolved(self.clock.monotonic(), &peer.name, &error),
        }
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
                *lock(&self.signals.peers) = self.gossip.peers(self.clock.now());
                // Only if the opening was given up, there is no receiver.
                let _ = tell.send(());
            }
        }
    }

    /// Sends what is left, and waits until it has left or time is up.
    async fn say_goodbye(mut self) {
        self.gossip.handle_input(self.clock.now(), Input::Stop);
        let mut left = 0_usize;
        let mut links = Vec::new();
        while let Some(output) = self.gossip.poll_output() {
            if let Output::Send { link, frame } = output {
                left += 1;
                links.push(link);
                self.transport.send(link, frame);
            }
        }
        let sending = async {
            while left > 0 {
                match self.transport.next_event().await {
                    LinkEvent::Sent { .. } => left -= 1,
                    LinkEvent::Down { link } if links.contains(&link) => {
                        left -= links.iter().filter(|other| **other == link).count().min(left);
                    }
                    _ => {}
                }
            }
        };
        // A peer that does not read it notices when the connection ends.
        let _ = tokio::time::timeout(GOODBYE, sending).await;
    }
}

/// The addresses that a name has, at least one.
type Found = io::Result<Vec<String>>;

/// Looks a peer's name up, again and again: it may have several addresses, and they may change. Each name has a task of its
/// own, so that one that takes long does not keep the others waiting.
async fn look_up(index: usize, peer: String, tell: mpsc::Sender<(usize, Found)>) {
    loop {
        let found = tokio::net::lookup_host(&peer).await.and_then(|found| {
            let mut addresses: Vec<String> = found.map(|address| address.to_string()).collect();
            addresses.sort();
            addresses.dedup();
            match addresses.is_empty() {
                true => Err(io::Error::other("the name has no address")),
                false => Ok(addresses),
            }
        });
        let again = if found.is_ok() { LOOK_UP_EVERY } else { LOOK_UP_AGAIN };
        if tell.send((index, found)).await.is_err() {
            return;
        }
        tokio::time::sleep(again).await;
    }
}
