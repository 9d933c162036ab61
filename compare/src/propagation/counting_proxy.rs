//! A TCP connection that counts what goes through.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// Listens at an address of its own and passes everything on, until the process ends.
pub struct CountingProxy {
    pub address: String,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    there: AtomicU64,
    back: AtomicU64,
}

impl CountingProxy {
    /// Leads to this address.
    pub fn start(target: &str) -> io::Result<CountingProxy> {
        let listening = TcpListener::bind("127.0.0.1:0")?;
        let address = listening.local_addr()?.to_string();
        let counts = Arc::new(Counts::default());
        let (target, held) = (target.to_owned(), Arc::clone(&counts));
        thread::spawn(move || {
            for near in listening.incoming().flatten() {
                // Who cannot be connected sees a closed connection, as without a proxy.
                let _ = pass_on(near, &target, &held);
            }
        });
        Ok(CountingProxy { address, counts })
    }

    /// Bytes from the one that dialed, and bytes back.
    pub fn bytes(&self) -> (u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (read(&self.counts.there), read(&self.counts.back))
    }
}

fn pass_on(near: TcpStream, target: &str, counts: &Arc<Counts>) -> io::Result<()> {
    let far = TcpStream::connect(target)?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (near_again, far_again) = (near.try_clone()?, far.try_clone()?);
    let (there, back) = (Arc::clone(counts), Arc::clone(counts));
    thread::spawn(move || copy(near, far, &there.there));
    thread::spawn(move || copy(far_again, near_again, &back.back));
    Ok(())
}

fn copy(mut from: TcpStream, mut to: TcpStream, count: &AtomicU64) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        count.fetch_add(length as u64, Ordering::Relaxed);
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    // The other side may be closed already.
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_are_counted() {
        let target = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = CountingProxy::start(&target.local_addr().unwrap().to_string()).unwrap();
        let mut near = TcpStream::connect(&proxy.address).unwrap();
        let (mut far, _) = target.accept().unwrap();
        near.write_all(b"ping!").unwrap();
        far.read_exact(&mut [0; 5]).unwrap();
        far.write_all(b"pong").unwrap();
        near.read_exact(&mut [0; 4]).unwrap();
        assert_eq!(proxy.bytes(), (5, 4));
    }
}
