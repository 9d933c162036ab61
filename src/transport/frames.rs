//! Frames of one connection, as they come in and go out.

use std::io;

use tokio::io::AsyncRead;
use tokio::sync::{mpsc, oneshot};

use super::stream::{Incoming, Outgoing};
use super::tcp::RawEvent;
use tallymesh_core::link::{LinkEvent, LinkId};
use tallymesh_core::wire::{FRAME_HEADER_BYTES, payload_bytes};

/// Takes in frames until the connection ends, or `closed` does; what comes after that is thrown away.
pub(super) async fn read_frames<R: AsyncRead + Unpin>(
    link: LinkId,
    mut read: Incoming<R>,
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
    read.drain().await;
}

async fn read_frame<R: AsyncRead + Unpin>(
    read: &mut Incoming<R>,
    frame_bytes_max: usize,
) -> io::Result<Vec<u8>> {
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

/// Sends what is queued, until the queue ends.
pub(super) async fn write_frames(
    link: LinkId,
    mut write: Outgoing,
    mut queue: mpsc::Receiver<Vec<u8>>,
    events: mpsc::Sender<RawEvent>,
) {
    while let Some(frame) = queue.recv().await {
        let event = match write.write(&frame).await {
            Ok(()) => LinkEvent::Sent { link, frames: 1 },
            Err(_) => LinkEvent::Down { link },
        };
        let down = matches!(event, LinkEvent::Down { .. });
        if events.send(RawEvent::Link(event)).await.is_err() || down {
            return;
        }
    }
    write.end().await;
}
