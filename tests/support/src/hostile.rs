//! A peer that says what it likes: raw connections from addresses of its own, true frames of the protocol, and with a key of the
//! cluster also true records. A node cannot tell it from a good one but by what it says.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use rand::TryRng;
use rand::rngs::SysRng;
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, TransportState};
use tallymesh::{ClusterKey, CounterKey, NodeKey, ReplicaId, Version};
use tallymesh_core::crdt::{Delta, Marks, Update};
use tallymesh_core::wire::{
    CloseReason, DEFAULT_CLUSTER, FRAME_HEADER_BYTES, Message, Outbox, PROTOCOLS, read_frame,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Longer than any frame that a test allows.
const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What one record holds of frames.
const RECORD_PLAIN_MAX: usize = 65_535 - 16;

/// One connection of a hostile peer.
#[derive(Debug)]
pub struct Hostile {
    stream: TcpStream,
    /// With it, frames are sent and read in records.
    session: Option<TransportState>,
    /// What has come in and is no whole frame yet.
    heard: Vec<u8>,
}

impl Hostile {
    /// Connects to a node from the address `127.0.1.1 + number`, and says nothing.
    ///
    /// # Errors
    /// When the system does not connect it.
    pub async fn connect(to: SocketAddr, number: u32) -> io::Result<Hostile> {
        let from = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 0, 1, 1)) + number % 0xfe_0000);
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        Ok(Hostile::on(socket.connect(to).await?))
    }

    /// The same over a connection that a node has opened.
    pub fn on(stream: TcpStream) -> Hostile {
        // Small frames would wait for each other.
        let _ = stream.set_nodelay(true);
        Hostile { stream, session: None, heard: Vec::new() }
    }

    /// Proves this key, as a member that dials. What is said from then on is sent in records.
    ///
    /// # Errors
    /// When the node closes the connection.
    ///
    /// # Panics
    /// If the node answers with what is no second message of the handshake.
    pub async fn prove(
        &mut self,
        key: &ClusterKey,
        cluster: &str,
        replica: &ReplicaId,
    ) -> io::Result<()> {
        let params = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s".parse().unwrap();
        let prologue = [b"tallymesh link 1\0", cluster.as_bytes()].concat();
        let key = bytes_of(&key.reveal());
        let builder = Builder::with_resolver(params, Box::new(Resolver));
        let builder = builder.prologue(&prologue).unwrap().psk(0, &key).unwrap();
        let mut state = builder.build_initiator().unwrap();
        let mut message = [0; 1024];
        let length = state.write_message(replica.to_string().as_bytes(), &mut message).unwrap();
        self.send(&record(&message[..length])).await?;
        let answer = self.read_record().await?;
        state.read_message(&answer, &mut message).expect("the answer to the handshake");
        let mut session = state.into_transport_mode().unwrap();
        let length = session.write_message(&[], &mut message).unwrap();
        self.send(&record(&message[..length])).await?;
        self.session = Some(session);
        Ok(())
    }

    /// Proves this key of a node, as that which dials, and says that it is this replica. What is said from then on is sent in records.
    /// Returns how many bytes it was sent before the node decided.
    ///
    /// # Errors
    /// When the node closes the connection.
    ///
    /// # Panics
    /// If the node answers with what is no second message of the handshake, or does not confirm it with its last one.
    pub async fn prove_node(
        &mut self,
        key: &NodeKey,
        cluster: &str,
        replica: &ReplicaId,
    ) -> io::Result<usize> {
        let params = "Noise_XX_25519_ChaChaPoly_BLAKE2s".parse().unwrap();
        let prologue = [b"tallymesh node link 1\0", cluster.as_bytes()].concat();
        let key = bytes_of(&key.reveal());
        let builder = Builder::with_resolver(params, Box::new(Resolver));
        let builder = builder.prologue(&prologue).unwrap().local_private_key(&key).unwrap();
        let mut state = builder.build_initiator().unwrap();
        let mut message = [0; 1024];
        let length = state.write_message(&[], &mut message).unwrap();
        self.send(&record(&message[..length])).await?;
        let answer = self.read_record().await?;
        state.read_message(&answer, &mut message).expect("the answer to the handshake");
        let length = state.write_message(replica.to_string().as_bytes(), &mut message).unwrap();
        self.send(&record(&message[..length])).await?;
        let mut session = state.into_transport_mode().unwrap();
        let confirmation = self.read_record().await?;
        let length = session.read_message(&confirmation, &mut message).expect("a confirmation");
        assert_eq!(length, 0);
        self.session = Some(session);
        Ok(2 + answer.len())
    }

    /// Sends these bytes as they are.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Sends the bytes of frames, in records if a key was proven.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn say_bytes(&mut self, frames: &[u8]) -> io::Result<()> {
        let Some(session) = &mut self.session else { return self.send(frames).await };
        let mut records = Vec::new();
        for plain in frames.chunks(RECORD_PLAIN_MAX) {
            let mut message = vec![0; plain.len() + 16];
            let length = session.write_message(plain, &mut message).unwrap();
            records.extend(record(&message[..length]));
        }
        self.send(&records).await
    }

    /// Sends these messages in a frame.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn say(&mut self, messages: &[Message]) -> io::Result<()> {
        self.say_bytes(&frame(messages)).await
    }

    /// The messages of the next frame.
    ///
    /// # Errors
    /// When the connection has ended.
    ///
    /// # Panics
    /// If what comes is no frame, or a record that does not open.
    pub async fn hear(&mut self) -> io::Result<Vec<Message>> {
        loop {
            if let Some(header) = self.heard.first_chunk::<4>() {
                let end = FRAME_HEADER_BYTES + u32::from_le_bytes(*header) as usize;
                if self.heard.len() >= end {
                    let frame: Vec<u8> = self.heard.drain(..end).collect();
                    return Ok(read_frame(&frame, FRAME_BYTES_MAX).expect("a frame").messages);
                }
            }
            if self.session.is_some() {
                let message = self.read_record().await?;
                let mut plain = vec![0; message.len()];
                let session = self.session.as_mut().unwrap();
                let length = session.read_message(&message, &mut plain).expect("a record");
                self.heard.extend_from_slice(&plain[..length]);
            } else {
                let mut bytes = [0; 16 * 1024];
                match self.stream.read(&mut bytes).await? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    count => self.heard.extend_from_slice(&bytes[..count]),
                }
            }
        }
    }

    /// Reads until the connection ends, and returns what came, as it came.
    pub async fn all_until_the_end(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.heard);
        // A reset is an end as well.
        let _ = self.stream.read_to_end(&mut bytes).await;
        bytes
    }

    /// Says that nothing more comes.
    pub async fn end(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Ends the connection by a reset, so that nothing of it is left in the system.
    ///
    /// # Panics
    /// If the system does not know how.
    pub fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }

    async fn read_record(&mut self) -> io::Result<Vec<u8>> {
        let length = self.stream.read_u16().await?;
        let mut message = vec![0; length.into()];
        self.stream.read_exact(&mut message).await?;
        Ok(message)
    }
}

/// A frame of these messages.
///
/// # Panics
/// If there are none.
pub fn frame(messages: &[Message]) -> Vec<u8> {
    let mut outbox = Outbox::default();
    for message in messages {
        assert!(outbox.push(message, usize::MAX).is_none());
    }
    outbox.finish().expect("a message")
}

/// The frame of a payload that need not be messages.
pub fn frame_of(payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_le_bytes().to_vec();
    frame.extend(crc32fast::hash(payload).to_le_bytes());
    frame.extend(payload);
    frame
}

/// The first message of a node that says to be this replica.
///
/// # Panics
/// If it is none.
pub fn hello(replica: &ReplicaId) -> Message {
    Message::Hello {
        protocols: PROTOCOLS.to_vec(),
        replica: replica.clone(),
        limits_digest: 0,
        cluster: DEFAULT_CLUSTER.to_owned(),
        advertised: None,
    }
}

/// The last message of a connection.
pub fn goodbye(reason: CloseReason) -> Message {
    Message::Goodbye { reason }
}

/// A whole chain of one cell: that `replica` has added `p` to a plain counter that lives for an hour from `now` on (unix ms).
pub fn count(replica: &ReplicaId, key: &CounterKey, p: u64, now: u64) -> Message {
    let hour = 3_600_000;
    let update = Update {
        key: key.as_bytes().to_vec(),
        version: Version(1),
        generation: 0,
        p,
        n: 0,
        marks: Marks { at: now - now % (hour / 16), p0: hour, n0: 0 },
    };
    Message::Delta(Delta {
        replica: replica.clone(),
        from: Version::ZERO,
        chain: 1,
        part: 0,
        watermark: Some(Version(1)),
        as_of: None,
        begun: Vec::new(),
        updates: vec![update],
    })
}

fn record(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes()[..], message].concat()
}

fn bytes_of(hex: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * index..2 * index + 2], 16).unwrap();
    }
    bytes
}

struct Resolver;

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(SystemRandom))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

struct SystemRandom;

impl Random for SystemRandom {
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), snow::Error> {
        SysRng.try_fill_bytes(bytes).map_err(|_| snow::Error::Rng)
    }
}
