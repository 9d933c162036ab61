//! Frames over TCP: one task reads each connection, one writes it.
//!
//! With keys or certificates, a connection is a link only after the handshake. Until then, one that came in is a stranger: it has one
//! of a few places, apart from those of links, and is closed by a reset when it is refused.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Interval, MissedTickBehavior};

use super::Transport;
use super::frames::{read_frames, write_frames};
use super::handshake::{Channel, Handshake, HandshakeError, Proof};
use super::strangers::{REFILL_EVERY, Strangers};
use super::stream::{Incoming, Outgoing};
use crate::credentials::Credentials;
use crate::log_line;
use tallymesh_core::link::{LinkEvent, LinkId, Proven};

const DIAL_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a closed connection may take to send what is left.
const LINGER: Duration = Duration::from_secs(2);
/// With as many connections as are allowed, one more is taken in so often at most, to be told so: the others wait in the
/// system's queue, or a flood of them would keep us busy.
const TURN_AWAY_EVERY: Duration = Duration::from_millis(10);
/// That connections cannot be accepted is said so often at most.
const SAY_AGAIN_EVERY: Duration = Duration::from_secs(10);
/// Frames on their way in, from all peers; when the node falls behind, the peers are kept waiting by TCP.
const EVENTS_MAX: usize = 256;
/// Frames on their way out, per peer; the gossip keeps well below.
const FRAMES_MAX: usize = 64;
/// How often a link is dialed again, at first, that was made under other keys than are to be used now.
const REDIAL_EVERY: Duration = Duration::from_secs(1);
/// It is dialed again half as often each time that the peer still uses another key, and so often at least.
const REDIAL_LESS_MAX: u32 = 4;

/// TCP connections, and the socket that listens for them.
pub(crate) struct Tcp {
    connections: HashMap<LinkId, Connection>,
    next_link: u64,
    frame_bytes_max: usize,
    listening: Option<TcpListener>,
    connections_max: usize,
    /// Paces the connections that are taken in without room for them.
    turn_away: Interval,
    /// Paces the complaint that connections cannot be accepted.
    say_again: Interval,
    raw_events: mpsc::Receiver<RawEvent>,
    events_in: mpsc::Sender<RawEvent>,
    /// Without it, peers prove nothing.
    security: Option<Security>,
    strangers: Strangers,
    /// Events that have happened already.
    due: VecDeque<LinkEvent>,
    /// Whether there may be links to dial again, and when to do so.
    may_be_stale: bool,
    redial: Interval,
    redial_rounds: u64,
    /// When there is room for more handshakes of strangers.
    refill: Interval,
}

/// By what peers prove who they are, and how long they may take for it.
#[derive(Clone)]
pub(crate) struct Security {
    handshake: Handshake,
    timeout: Duration,
}

impl Security {
    pub(crate) fn new(handshake: Handshake, timeout: Duration) -> Security {
        Security { handshake, timeout }
    }
}

struct Connection {
    frames: mpsc::Sender<Vec<u8>>,
    /// As long as it is there, what comes in is taken for frames.
    takes_frames: oneshot::Sender<()>,
    reader: AbortHandle,
    writer: JoinHandle<()>,
    dialed: Option<String>,
    /// What it was made by, unless peers prove nothing.
    proof: Option<Proof>,
    /// Whether another one is being dialed that takes its place.
    is_redialed: bool,
    /// How often it was dialed again since the keys were replaced.
    redials: u32,
}

impl Connection {
    /// Ends at once, whatever is queued.
    fn cut(self) {
        self.reader.abort();
        self.writer.abort();
    }

    /// Takes in no more, and writes what is queued if the peer takes it in soon. What still comes in is thrown away until then:
    /// were it left unread, the system would reset the connection, and the peer might lose our last word.
    fn wind_up(self) {
        let Connection { frames, takes_frames, reader, mut writer, .. } = self;
        drop((frames, takes_frames));
        tokio::spawn(async move {
            let written = tokio::time::timeout(LINGER, &mut writer);
            if tokio::join!(written, tokio::time::sleep(LINGER)).0.is_err() {
                writer.abort();
            }
            reader.abort();
        });
    }
}

pub(super) enum RawEvent {
    /// `replaces` is the link whose place it takes, if it was dialed for that.
    Dialed {
        address: String,
        replaces: Option<LinkId>,
        opened: Result<Opened, DialError>,
    },
    Proven {
        number: u64,
        remote: String,
        opened: Result<Opened, HandshakeError>,
    },
    Link(LinkEvent),
}

/// A connection that may become a link.
pub(super) struct Opened {
    stream: TcpStream,
    channel: Option<Channel>,
}

pub(super) enum DialError {
    Unanswered(io::Error),
    Unproven(HandshakeError),
}

impl Tcp {
    /// Takes connections in from a socket that listens already, if given, and does not block.
    ///
    /// # Errors
    /// When the system does not let us wait for connections.
    pub(crate) fn on(
        listening: Option<std::net::TcpListener>,
        frame_bytes_max: usize,
        connections_max: usize,
        security: Option<Security>,
    ) -> io::Result<Tcp> {
        let listening = listening.map(TcpListener::from_std).transpose()?;
        let (events_in, raw_events) = mpsc::channel(EVENTS_MAX);
        Ok(Tcp {
            connections: HashMap::new(),
            next_link: 0,
            frame_bytes_max,
            listening,
            connections_max,
            turn_away: every(TURN_AWAY_EVERY),
            say_again: every(SAY_AGAIN_EVERY),
            raw_events,
            events_in,
            security,
            strangers: Strangers::default(),
            due: VecDeque::new(),
            may_be_stale: false,
            redial: every(REDIAL_EVERY),
            redial_rounds: 0,
            refill: every(REFILL_EVERY),
        })
    }

    fn connect(&mut self, opened: Opened, dialed: Option<String>) -> LinkEvent {
        let Opened { stream, channel } = opened;
        let remote = stream.peer_addr().ok().map(shown);
        self.next_link += 1;
        let link = LinkId(self.next_link);
        let proof = channel.as_ref().map(|channel| channel.proof.clone());
        let peer = proof.as_ref().map_or(Proven::Nobody, |proof| proof.peer.clone());
        let (sealing, opening) = channel.map(|channel| (channel.sealing, channel.opening)).unzip();
        let (read, write) = stream.into_split();
        let (frames, queue) = mpsc::channel(FRAMES_MAX);
        let (takes_frames, closed) = oneshot::channel();
        let events = self.events_in.clone();
        let read = Incoming::new(read, opening);
        let reading = read_frames(link, read, self.frame_bytes_max, events, closed);
        let reader = tokio::spawn(reading).abort_handle();
        let write = Outgoing::new(write, sealing);
        let writer = tokio::spawn(write_frames(link, write, queue, self.events_in.clone()));
        // The keys may have changed since it was dialed.
        self.may_be_stale |= dialed.is_some() && proof.is_some();
        let connection = Connection {
            frames,
            takes_frames,
            reader,
            writer,
            dialed: dialed.clone(),
            proof,
            is_redialed: false,
            redials: 0,
        };
        self.connections.insert(link, connection);
        LinkEvent::Up { link, dialed, remote, peer }
    }

    /// Dials an address, in the place of this link if there is one.
    fn start_dialing(&mut self, address: String, replaces: Option<LinkId>) {
        self.strangers.expect(&address);
        let (events, security) = (self.events_in.clone(), self.security.clone());
        tokio::spawn(async move {
            let opened = dial(&address, security).await;
            // The receiver is only gone when the node is.
            let _ = events.send(RawEvent::Dialed { address, replaces, opened }).await;
        });
    }

    /// Takes in a connection that has to prove who it is.
    fn take_stranger(&mut self, mut stream: TcpStream, remote: SocketAddr, security: Security) {
        if !self.strangers.may_be_heard(remote.ip()) {
            reset(stream);
            let error = HandshakeError::TooMany.to_string();
            let remote = Some(shown(remote));
            return self.due.push_back(LinkEvent::Unproven { dialed: None, remote, error });
        }
        let (number, pushed_out) = self.strangers.enter();
        let events = self.events_in.clone();
        tokio::spawn(async move {
            hurry(&stream);
            let Security { handshake, timeout } = security;
            let proving = tokio::time::timeout(timeout, handshake.respond(&mut stream));
            let proven = tokio::select! {
                proven = proving => proven.unwrap_or(Err(HandshakeError::TimedOut)),
                _ = pushed_out => Err(HandshakeError::PushedOut),
            };
            let opened = match proven {
                Ok(channel) => Ok(Opened { stream, channel: Some(channel) }),
                Err(error) => {
                    reset(stream);
                    Err(error)
                }
            };
            // The receiver is only gone when the node is.
            let _ = events.send(RawEvent::Proven { number, remote: shown(remote), opened }).await;
        });
    }

    /// What is accepted now: the keys may have changed during a handshake.
    fn still_accepted(&self, opened: Opened) -> Result<Opened, HandshakeError> {
        match (&self.security, &opened.channel) {
            (Some(security), Some(channel)) if !security.handshake.accept(&channel.proof) => {
                reset(opened.stream);
                Err(HandshakeError::Revoked)
            }
            _ => Ok(opened),
        }
    }

    fn take_raw(&mut self, raw: RawEvent) -> Option<LinkEvent> {
        match raw {
            RawEvent::Dialed { address, replaces, opened } => {
                let opened = opened
                    .and_then(|opened| self.still_accepted(opened).map_err(DialError::Unproven));
                if let Some(replaced) = replaces {
                    // Where the old link is gone, the address is dialed again anyway.
                    let old = self.connections.get_mut(&replaced)?;
                    old.is_redialed = false;
                    old.redials += 1;
                    let redials = old.redials;
                    let up = self.connect(opened.ok()?, Some(address));
                    if let Some(new) = self.connections.get_mut(&LinkId(self.next_link)) {
                        new.redials = redials;
                    }
                    return Some(up);
                }
                Some(match opened {
                    Ok(opened) => self.connect(opened, Some(address)),
                    Err(DialError::Unanswered(error)) => {
                        LinkEvent::DialFailed { address, error: error.to_string() }
                    }
                    Err(DialError::Unproven(error)) => {
                        let error = error.to_string();
                        LinkEvent::Unproven { dialed: Some(address), remote: None, error }
                    }
                })
            }
            RawEvent::Proven { number, remote, opened } => {
                self.strangers.leave(number);
                Some(match opened.and_then(|opened| self.still_accepted(opened)) {
                    Ok(opened) => self.connect(opened, None),
                    Err(error) => {
                        let (remote, error) = (Some(remote), error.to_string());
                        LinkEvent::Unproven { dialed: None, remote, error }
                    }
                })
            }
            RawEvent::Link(LinkEvent::Down { link }) => {
                self.connections.remove(&link)?.wind_up();
                Some(LinkEvent::Down { link })
            }
            RawEvent::Link(event) => Some(event),
        }
    }

    /// Dials again what was dialed under other keys than are used now: the old link stays until the new one is there.
    fn redial_stale(&mut self) {
        let Some(Security { handshake, .. }) = &self.security else { return };
        let is_stale = |connection: &Connection| {
            connection.proof.as_ref().is_some_and(|proof| !handshake.is_in_use(proof))
        };
        self.redial_rounds += 1;
        let round = self.redial_rounds;
        let is_due = |redials: u32| round.is_multiple_of(1 << redials.min(REDIAL_LESS_MAX));
        let (mut addresses, mut are_stale) = (Vec::new(), false);
        for (link, connection) in &mut self.connections {
            let Some(address) = connection.dialed.clone() else { continue };
            if is_stale(connection) {
                are_stale = true;
                if is_due(connection.redials)
                    && !std::mem::replace(&mut connection.is_redialed, true)
                {
                    addresses.push((*link, address));
                }
            }
        }
        self.may_be_stale = are_stale;
        for (link, address) in addresses {
            self.start_dialing(address, Some(link));
        }
    }
}

impl Transport for Tcp {
    fn dial(&mut self, address: String) {
        self.start_dialing(address, None);
    }

    fn send(&mut self, link: LinkId, frame: Vec<u8>) {
        let Some(connection) = self.connections.get(&link) else { return };
        if connection.frames.try_send(frame).is_err() {
            // The peer is not reading: treat it as disconnected.
            connection.reader.abort();
            let events = self.events_in.clone();
            tokio::spawn(async move {
                let _ = events.send(RawEvent::Link(LinkEvent::Down { link })).await;
            });
        }
    }

    fn close(&mut self, link: LinkId) {
        if let Some(connection) = self.connections.remove(&link) {
            connection.wind_up();
        }
    }

    fn set_credentials(&mut self, credentials: Credentials) {
        let Some(security) = &mut self.security else { return };
        let handshake = security.handshake.with(credentials);
        let is_revoked = |connection: &Connection| {
            connection.proof.as_ref().is_some_and(|proof| !handshake.accept(proof))
        };
        let revoked = self.connections.iter().filter(|(_, connection)| is_revoked(connection));
        let revoked: Vec<LinkId> = revoked.map(|(link, _)| *link).collect();
        security.handshake = handshake;
        for connection in self.connections.values_mut() {
            connection.redials = 0;
        }
        self.may_be_stale = true;
        for link in revoked {
            if let Some(connection) = self.connections.remove(&link) {
                connection.cut();
                self.due.push_back(LinkEvent::Down { link });
            }
        }
    }

    async fn next_event(&mut self) -> LinkEvent {
        loop {
            if let Some(event) = self.due.pop_front() {
                return event;
            }
            let has_room = self.connections.len() < self.connections_max;
            let Tcp { listening, turn_away, say_again, raw_events, redial, refill, .. } = self;
            let (is_secure, may_enter) = (self.security.is_some(), self.strangers.may_enter());
            let is_short = is_secure && self.strangers.is_short();
            let accepting = async {
                let Some(listening) = listening else { return std::future::pending().await };
                // Strangers have places of their own.
                match is_secure {
                    true if !may_enter => return std::future::pending().await,
                    false if !has_room => drop(turn_away.tick().await),
                    _ => {}
                }
                listening.accept().await
            };
            let raw = tokio::select! {
                raw = raw_events.recv() => raw,
                _ = redial.tick(), if self.may_be_stale => {
                    self.redial_stale();
                    continue;
                }
                _ = refill.tick(), if is_short => {
                    if let Some(security) = &self.security {
                        self.strangers.refill(security.handshake.strangers_per_second());
                    }
                    continue;
                }
                accepted = accepting => match (accepted, self.security.clone()) {
                    (Ok((stream, remote)), Some(security)) => {
                        self.take_stranger(stream, remote, security);
                        continue;
                    }
                    (Ok((stream, _)), None) => {
                        hurry(&stream);
                        return self.connect(Opened { stream, channel: None }, None);
                    }
                    (Err(error), _) => {
                        if tokio::time::timeout(Duration::ZERO, say_again.tick()).await.is_ok() {
                            log_line::write(|| {
                                tracing::warn!(%error, "a connection could not be accepted");
                            });
                        }
                        // Out of file descriptors, most likely: trying again at once would only spin.
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                },
            };
            // We hold a sender ourselves, so the channel is never closed.
            if let Some(event) = raw.and_then(|raw| self.take_raw(raw)) {
                return event;
            }
        }
    }
}

/// So often, but not more often after it was late.
fn every(period: Duration) -> Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Connects to an address, and proves and has proven who is there.
async fn dial(address: &str, security: Option<Security>) -> Result<Opened, DialError> {
    let dialing = tokio::time::timeout(DIAL_TIMEOUT, TcpStream::connect(address)).await;
    let stream = dialing.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let mut stream = stream.map_err(DialError::Unanswered)?;
    hurry(&stream);
    let Some(Security { handshake, timeout }) = security else {
        return Ok(Opened { stream, channel: None });
    };
    let proving = tokio::time::timeout(timeout, handshake.initiate(&mut stream)).await;
    let channel = proving.unwrap_or(Err(HandshakeError::TimedOut)).map_err(DialError::Unproven)?;
    Ok(Opened { stream, channel: Some(channel) })
}

/// Small frames must not wait for each other; where that cannot be had, they are merely slower.
fn hurry(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
}

/// Closes a connection so that nothing of it is left, also not in the system.
fn reset(stream: TcpStream) {
    // Where that cannot be had, it is closed as any other.
    let _ = stream.set_zero_linger();
    drop(stream);
}

fn shown(remote: SocketAddr) -> String {
    remote.ip().to_canonical().to_string()
}
