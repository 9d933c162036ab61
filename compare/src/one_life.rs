//! A node's whole life, as a peer sees it: by the protocol, since as a user of the library it would take in what all others have.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use tallymesh::CounterKey;
use tallymesh_core::crdt::{Delta, Marks, Update};
use tallymesh_core::id::{Incarnation, ReplicaId, Version};
use tallymesh_core::wire::{
    CloseReason, DEFAULT_CLUSTER, FRAME_HEADER_BYTES, Message, Outbox, PROTOCOLS, payload_bytes,
    read_frame,
};

/// No frame of a node is longer by default.
const FRAME_BYTES_MAX: usize = 1 << 20;

/// A node that counts once in each of these counters, and stops when its peer has confirmed that. It tells its own and does not
/// ask for what others have: else all lives together would take a time that grows with the square of their number.
pub fn live(life: usize, address: &str, counters: &[CounterKey]) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    let limits_digest = loop {
        let received = receive(&mut stream)?;
        let digest = |message: &Message| match message {
            Message::Hello { limits_digest, .. } => Some(*limits_digest),
            _ => None,
        };
        if let Some(digest) = received.iter().find_map(digest) {
            break digest;
        }
    };
    // Proven: letters, digits and a dash are a valid name.
    let node = format!("pod-{life:06}").parse().expect("a valid name");
    let replica = ReplicaId { node, incarnation: Incarnation { boot: 1, nonce: life as u64 } };
    let hello = Message::Hello {
        protocols: PROTOCOLS.to_vec(),
        replica: replica.clone(),
        limits_digest,
        cluster: DEFAULT_CLUSTER.to_owned(),
        advertised: None,
    };
    let update = |(version, key): (u64, &CounterKey)| Update {
        key: key.as_bytes().to_vec(),
        version: Version(version),
        generation: 0,
        p: 1,
        n: 0,
        marks: Marks::default(),
    };
    let last = Version(counters.len() as u64);
    let counted = Message::Delta(Delta {
        replica,
        from: Version::ZERO,
        chain: 1,
        part: 0,
        watermark: Some(last),
        as_of: None,
        begun: Vec::new(),
        updates: (1..).zip(counters).map(update).collect(),
    });
    send(&mut stream, &[hello, counted, Message::Leaving {}])?;
    let confirms =
        |message: &Message| matches!(message, Message::Ack { watermark } if *watermark == last);
    while !receive(&mut stream)?.iter().any(confirms) {}
    send(&mut stream, &[Message::Goodbye { reason: CloseReason::Stopping }])
}

fn send(stream: &mut TcpStream, messages: &[Message]) -> io::Result<()> {
    let mut outbox = Outbox::default();
    let full = messages.iter().find_map(|message| outbox.push(message, FRAME_BYTES_MAX));
    assert!(full.is_none(), "all of it fits in a frame");
    stream.write_all(&outbox.finish().unwrap_or_default())
}

fn receive(stream: &mut TcpStream) -> io::Result<Vec<Message>> {
    let mut frame = vec![0; FRAME_HEADER_BYTES];
    stream.read_exact(&mut frame)?;
    // Proven: it has so many bytes.
    let header = *frame.first_chunk().expect("a header");
    let payload = payload_bytes(header, FRAME_BYTES_MAX).map_err(io::Error::other)?;
    frame.resize(FRAME_HEADER_BYTES + payload, 0);
    stream.read_exact(&mut frame[FRAME_HEADER_BYTES..])?;
    Ok(read_frame(&frame, FRAME_BYTES_MAX).map_err(io::Error::other)?.messages)
}
