//! The bytes of a connection, each way: as they are, or in records.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedWriteHalf;

use super::noise::broken;
use super::records::{HEADER_BYTES, Opener, Sealer, message_bytes};
#[cfg(feature = "tls")]
use super::tls::{TlsOpener, TlsSealer};

/// So much room for records is kept between two of them.
const KEPT_BYTES: usize = 4096;

/// Makes what is sent of frames.
pub(super) enum Sealing {
    Records(Sealer),
    #[cfg(feature = "tls")]
    Tls(TlsSealer),
}

/// Takes frames out of what comes in.
pub(super) enum Opening {
    Records(Opener),
    #[cfg(feature = "tls")]
    Tls(TlsOpener),
}

/// What comes in.
pub(super) struct Incoming<R> {
    read: R,
    records: Option<IncomingRecords>,
}

struct IncomingRecords {
    opening: Opening,
    message: Vec<u8>,
    /// The content of the last record, and how much of it was taken.
    plain: Vec<u8>,
    taken: usize,
}

/// What goes out.
pub(super) struct Outgoing {
    write: OwnedWriteHalf,
    records: Option<(Sealing, Vec<u8>)>,
}

impl<R: AsyncRead + Unpin> Incoming<R> {
    pub(super) fn new(read: R, opening: Option<Opening>) -> Incoming<R> {
        let records = opening.map(|opening| IncomingRecords {
            opening,
            message: Vec::new(),
            plain: Vec::new(),
            taken: 0,
        });
        Incoming { read, records }
    }

    /// Fills all of `bytes`.
    pub(super) async fn read_exact(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        let Some(records) = &mut self.records else {
            return self.read.read_exact(bytes).await.map(drop);
        };
        let mut left = bytes;
        while !left.is_empty() {
            if records.taken == records.plain.len() {
                records.next(&mut self.read).await?;
            }
            let there = records.plain.get(records.taken..).unwrap_or_default();
            let count = there.len().min(left.len());
            let (now, later) = left.split_at_mut(count);
            now.copy_from_slice(there.get(..count).unwrap_or_default());
            records.taken += count;
            left = later;
        }
        Ok(())
    }

    /// Throws away what still comes in, until the other end closes.
    pub(super) async fn drain(&mut self) {
        let mut thrown_away = [0; 4096];
        while let Ok(1..) = self.read.read(&mut thrown_away).await {}
    }
}

impl IncomingRecords {
    async fn next<R: AsyncRead + Unpin>(&mut self, read: &mut R) -> io::Result<()> {
        // What waits for a peer's next word holds little.
        self.plain.clear();
        self.plain.shrink_to(KEPT_BYTES);
        self.message.clear();
        self.message.shrink_to(KEPT_BYTES);
        self.taken = 0;
        match &mut self.opening {
            Opening::Records(opener) => {
                let mut header = [0; HEADER_BYTES];
                read.read_exact(&mut header).await?;
                let length = message_bytes(header).map_err(broken)?;
                self.message.resize(length, 0);
                read.read_exact(&mut self.message).await?;
                opener.open(&self.message, &mut self.plain).map_err(broken)
            }
            #[cfg(feature = "tls")]
            Opening::Tls(opener) => opener.next(read, &mut self.plain).await,
        }
    }
}

impl Outgoing {
    pub(super) fn new(write: OwnedWriteHalf, sealing: Option<Sealing>) -> Outgoing {
        Outgoing { write, records: sealing.map(|sealing| (sealing, Vec::new())) }
    }

    /// Hands a frame to the system.
    pub(super) async fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        match &mut self.records {
            None => self.write.write_all(frame).await,
            Some((sealing, records)) => {
                match sealing {
                    Sealing::Records(sealer) => sealer.seal(frame, records).map_err(broken)?,
                    #[cfg(feature = "tls")]
                    Sealing::Tls(sealer) => sealer.seal(frame, records)?,
                }
                let written = self.write.write_all(records).await;
                records.clear();
                records.shrink_to(KEPT_BYTES);
                written
            }
        }
    }

    /// Says that nothing more comes.
    pub(super) async fn end(&mut self) {
        // A connection that is broken needs no end.
        let _ = self.write.shutdown().await;
    }
}
