//! Frames over TCP: one task reads each connection, one writes it.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Interval, MissedTickBehavior};

use super::Transport;
use crate::log_line;
use tallymesh_core::link::{LinkEvent, LinkId, Proven};
use tallymesh_core::wire::{FRAME_HEADER_BYTES, payload_bytes};

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
}

struct Connection {
    frames: mpsc::Sender<Vec<u8>>,
    /// As long as it is there, what comes in is taken for frames.
    takes_frames: oneshot::Sender<()>,
    reader: AbortHandle,
    writer: JoinHandle<()>,
}

impl Connection {
    /// Takes in no more, and writes what is queued if the peer takes it in soon. What still comes in is thrown away until then:
    /// were it left unread, the system would reset the connection, and the peer might lose our last word.
    fn wind_up(self) {
        let Connection { frames, takes_frames, reader, mut writer } = self;
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

enum RawEvent {
    Dialed { address: String, stream: io::Result<TcpStream> },
    Link(LinkEvent),
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
    ) -> io::Result<Tcp> {
        let listening = listening.map(TcpListener::from_std).transpose()?;
        let (events_in, raw_events) = mpsc::channel(EVENTS_MAX);
        let mut turn_away = tokio::time::interval(TURN_AWAY_EVERY);
        turn_away.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut say_again = tokio::time::interval(SAY_AGAIN_EVERY);
        say_again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Tcp {
            connections: HashMap::new(),
            next_link: 0,
            frame_bytes_max,
            listening,
            connections_max,
            turn_away,
            say_again,
            raw_events,
            events_in,
        })
    }

    fn connect(&mut self, stream: TcpStream, dialed: Option<String>) -> LinkEvent {
        let remote = stream.peer_addr().ok().map(|address| address.ip().to_canonical().to_string());
        self.next_link += 1;
        let link = LinkId(self.next_link);
        // Small frames must not wait for each other; where that cannot be had, they are merely slower.
        let _ = stream.set_nodelay(true);
        let (read, write) = stream.into_split();
        let (frames, queue) = mpsc::channel(FRAMES_MAX);
        let (takes_frames, closed) = oneshot::channel();
        let events = self.events_in.clone();
        let reading = read_frames(link, read, self.frame_bytes_max, events, closed);
        let reader = tokio::spawn(reading).abort_handle();
        let writing = write_frames(link, write, queue, self.events_in.clone());
        let writer = tokio::spawn(writing);
        self.connections.insert(link, Connection { frames, takes_frames, reader, writer });
        LinkEvent::Up { link, dialed, remote, peer: Proven::Nobody }
    }

    fn take_raw(&mut self, raw: RawEvent) -> Option<LinkEvent> {
        match raw {
            RawEvent::Dialed { address, stream: Ok(stream) } => {
                Some(self.connect(stream, Some(address)))
            }
            RawEvent::Dialed { address, stream: Err(error) } => {
                let error = error.to_string();
                Some(LinkEvent::DialFailed { address, error })
            }
            RawEvent::Link(LinkEvent::Down { link }) => {
                self.connections.remove(&link)?.wind_up();
                Some(LinkEvent::Down { link })
            }
            RawEvent::Link(event) => Some(event),
        }
    }
}

impl Transport for Tcp {
    fn dial(&mut self, address: String) {
        let events = self.events_in.clone();
        tokio::spawn(async move {
            let dialing = tokio::time::timeout(DIAL_TIMEOUT, TcpStream::connect(&address)).await;
            let stream = dialing.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            // The receiver is only gone when the node is.
            let _ = events.send(RawEvent::Dialed { address, stream }).await;
        });
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

    async fn next_event(&mut self) -> LinkEvent {
        loop {
            let has_room = self.connections.len() < self.connections_max;
            let Tcp { listening, turn_away, say_again, raw_events, .. } = self;
            let accepting = async {
                let Some(listening) = listening else { return std::future::pending().await };
                if !has_room {
                    turn_away.tick().await;
                }
                listening.accept().await
            };
            let raw = tokio::select! {
                raw = raw_events.recv() => raw,
                accepted = accepting => match accepted {
                    Ok((stream, _)) => return self.connect(stream, None),
                    Err(error) => {
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

async fn read_frames(
    link: LinkId,
    mut read: OwnedReadHalf,
    frame_bytes_max: usize,
    events: mpsc::Sender<RawEvent>,
    mut closed: oneshot::Receiver<()>,
) {
    loop {
        let frame = tokio::select! {
            biased;
            _ = &mut closed => break,
            frame = read_frame(&mut read, frame_bytes_max) => frame,
        };
        let Ok(bytes) = frame else {
            // The receiver is only gone when the node is.
            let _ = events.send(RawEvent::Link(LinkEvent::Down { link })).await;
            return;
        };
        let is_too_long = match bytes.first_chunk() {
            Some(header) => payload_bytes(*header, frame_bytes_max).is_err(),
            None => true,
        };
        if events.send(RawEvent::Link(LinkEvent::Frame { link, bytes })).await.is_err()
            || is_too_long
        {
            // Then the machine closes the link.
            break;
        }
    }
    let mut thrown_away = [0; 4096];
    while let Ok(1..) = read.read(&mut thrown_away).await {}
}

async fn read_frame(read: &mut OwnedReadHalf, frame_bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut header = [0; FRAME_HEADER_BYTES];
    read.read_exact(&mut header).await?;
    let Ok(length) = payload_bytes(header, frame_bytes_max) else {
        // What follows is not read: the machine sees by the header that it is too long.
        return Ok(header.to_vec());
    };
    let mut frame = Vec::with_capacity(FRAME_HEADER_BYTES + length);
    frame.extend_from_slice(&header);
    frame.resize(FRAME_HEADER_BYTES + length, 0);
    let (_, payload) = frame.split_at_mut(FRAME_HEADER_BYTES);
    read.read_exact(payload).await?;
    Ok(frame)
}

async fn write_frames(
    link: LinkId,
    mut write: OwnedWriteHalf,
    mut queue: mpsc::Receiver<Vec<u8>>,
    events: mpsc::Sender<RawEvent>,
) {
    while let Some(frame) = queue.recv().await {
        let event = match write.write_all(&frame).await {
            Ok(()) => LinkEvent::Sent { link, frames: 1 },
            Err(_) => LinkEvent::Down { link },
        };
        let down = matches!(event, LinkEvent::Down { .. });
        if events.send(RawEvent::Link(event)).await.is_err() || down {
            return;
        }
    }
    let _ = write.shutdown().await;
}
