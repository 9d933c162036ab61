//! What the embedder's threads and our own tell each other.

use std::sync::atomic::AtomicU64;
use std::sync::{Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::bounds_watch::BoundsWatch;
use super::disk_thread::DiskThread;
use super::lock;
use super::restarts::Restarts;
use super::wakers::WakeFlags;
#[cfg(test)]
use super::wakers::Worker;
use tallymesh_core::gossip::{CutOff, KnownMember, PeerStatus};

/// The signals between the embedder's threads and our own.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    /// A counter went past the urgent fraction of its limit.
    pub urgent: Notify,
    /// Something changed while the gossip thread slept.
    pub changed: Notify,
    pub asleep: WakeFlags,
    pub stop: Notify,
    /// The table goes on as another replica.
    pub reincarnated: Notify,
    pub seen: Mutex<Seen>,
    /// The members, where they are not on disk yet.
    pub members: Mutex<Option<Vec<KnownMember>>>,
    /// Whether there is nothing to wait for any more before this node is asked.
    pub ready: watch::Sender<bool>,
    /// How many own updates no peer has confirmed, once it leaves.
    pub unconfirmed: AtomicU64,
    /// How many lines were left out of the log.
    pub log_lines_dropped: AtomicU64,
    /// What is said of connections that are allowed and that the process may not open.
    pub few_descriptors: OnceLock<String>,
    pub restarts: Mutex<Restarts>,
    #[cfg(test)]
    provoked: Mutex<Option<Worker>>,
    pub bounds: Mutex<BoundsWatch>,
    end: Mutex<End>,
    /// Notified when a thread has ended.
    ended: Condvar,
}

/// What the machine shows of itself, as of its last round.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub peers: Vec<PeerStatus>,
    pub cluster_size: usize,
    pub cut_off: Option<CutOff>,
    pub is_ready: bool,
    pub waiting_for: Vec<String>,
}

/// How far the end of an instance has come.
#[derive(Debug, Default)]
pub(super) struct End {
    is_wanted: bool,
    pub gossip_ended: bool,
    pub disk_ended: bool,
}

impl Signals {
    /// The gossip thread has ended. Its goodbyes come before the last checkpoint, so that is written now if it is wanted.
    pub(super) fn gossip_has_ended(&self, disk: &DiskThread) {
        let mut end = lock(&self.end);
        end.gossip_ended = true;
        self.ready.send_replace(true);
        if end.is_wanted {
            disk.stop();
        }
        drop(end);
        self.ended.notify_all();
    }

    pub(super) fn disk_has_ended(&self) {
        lock(&self.end).disk_ended = true;
        self.ended.notify_all();
    }

    /// Waits for so long, or until the node is to stop; returns whether it is.
    pub(super) fn wait_for_stop(&self, at_most: Duration) -> bool {
        self.wait_for_end(at_most, |end| end.is_wanted)
    }

    /// The node is to stop. Returns whether the gossip thread has ended before.
    pub(super) fn want_end(&self) -> bool {
        let mut end = lock(&self.end);
        end.is_wanted = true;
        let gossip_ended = end.gossip_ended;
        drop(end);
        self.ended.notify_all();
        self.stop.notify_one();
        gossip_ended
    }

    /// Waits until `has_ended`, for at most this long; returns whether it has.
    pub(super) fn wait_for_end(&self, at_most: Duration, has_ended: impl Fn(&End) -> bool) -> bool {
        let waited = self.ended.wait_timeout_while(lock(&self.end), at_most, |end| !has_ended(end));
        has_ended(&waited.unwrap_or_else(PoisonError::into_inner).0)
    }
}

#[cfg(test)]
impl Signals {
    /// Has a thread panic, which nothing else does at will.
    pub(super) fn provoke(&self, worker: Worker) {
        *lock(&self.provoked) = Some(worker);
        self.urgent.notify_one();
    }

    /// Panics if the thread is to.
    pub(super) fn panic_if_provoked(&self, worker: Worker) {
        let is_meant = lock(&self.provoked).take_if(|provoked| *provoked == worker).is_some();
        assert!(!is_meant, "provoked");
    }
}
